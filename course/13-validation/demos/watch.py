from pathlib import Path

from gpt.config import load_recipe
from gpt.train import Trainer

Trainer(load_recipe(Path("sonnets.toml"), ["train.eval_every=50"])).run()
