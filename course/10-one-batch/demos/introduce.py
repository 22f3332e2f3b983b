from pathlib import Path

from gpt.config import load_recipe
from gpt.train import Trainer

for recipe in ("recipe.toml", "sonnet.toml"):
    trainer = Trainer(load_recipe(Path(recipe), ["train.steps=1", "train.lr=0.003"]))
    trainer.run()
    print(f"{recipe}: loss {trainer.loss:.2f} before the first update")
