from pathlib import Path

from gpt.config import load_recipe

recipe = load_recipe(Path("recipe.toml"), ["train.steps=20", "sample.prompt=HAMLET:"])
print(recipe.train)
print(recipe.sample)
