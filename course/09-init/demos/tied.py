from pathlib import Path

from gpt.config import load_recipe
from gpt.train import Trainer

wishes = ["model.layers=2", "train.steps=200", "train.lr=0.003"]
trainer = Trainer(load_recipe(Path("head.toml"), wishes))
print(f"{sum(p.numel() for p in trainer.model.parameters()):,} parameters")
trainer.run()
