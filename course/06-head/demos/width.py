from pathlib import Path

from gpt.config import load_recipe
from gpt.train import Trainer

trainer = Trainer(load_recipe(Path("head.toml"), ["train.steps=200"]))
print(f"{sum(p.numel() for p in trainer.model.parameters()):,} weights")
trainer.run()
