from pathlib import Path

from gpt.config import load_recipe
from gpt.train import Trainer

recipe = load_recipe(Path("recipe.toml"))
print(recipe.train)
Trainer(recipe).run()
