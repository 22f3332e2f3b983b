from pathlib import Path

from gpt.config import load_recipe
from gpt.train import Trainer

for lr in (0.003, 0.1, 1e18):
    trainer = Trainer(load_recipe(Path("sonnet.toml"), [f"train.lr={lr}", "train.steps=40"]))
    try:
        trainer.run()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
