from pathlib import Path

from gpt.config import load_recipe

recipe = Path("broken.toml")
for text in ("steps = 5 [train]", "train = 5", '"train.steps" = 5', "[train]\nlr = nan", ""):
    recipe.write_text(text)
    try:
        load_recipe(recipe)
        print("an empty file: taken, all in it has a default")
    except Exception as error:
        print(error)
recipe.unlink()
try:
    load_recipe(recipe)
except Exception as error:
    print(error)
