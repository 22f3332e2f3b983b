from gpt.config import Recipe

recipe = Recipe()
print(recipe.model)
print(recipe.train)
try:
    recipe.train.steps = 5
except Exception as error:
    print("it cannot be changed:", error)
