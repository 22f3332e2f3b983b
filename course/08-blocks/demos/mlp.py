from pathlib import Path

from gpt.config import load_recipe
from gpt.train import Trainer

Trainer(load_recipe(Path("head.toml"), ["train.steps=300"])).run()
