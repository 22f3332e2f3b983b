from pathlib import Path

from gpt.config import load_recipe
from gpt.train import Trainer

for layers in (1, 4):
    wishes = [f"model.layers={layers}", "train.steps=100", "train.lr=0.003"]
    trainer = Trainer(load_recipe(Path("head.toml"), wishes))
    print(layers, "layers,", f"{sum(p.numel() for p in trainer.model.parameters()):,} weights")
    trainer.run()
