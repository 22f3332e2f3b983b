from pathlib import Path

import torch

from gpt.config import load_recipe
from gpt.train import Trainer

for warmup in (0, 40):
    print(f"{warmup} steps of warm-up to a rate of 0.01")
    wishes = [f"train.warmup_steps={warmup}", "train.lr=0.01"]
    trainer = Trainer(load_recipe(Path("small.toml"), wishes))
    trainer.run()
    with torch.no_grad():
        loss = trainer.model(*trainer.batches(20000, 160)).item()
    print(f"on 160 sequences that were not read: {loss:.3f}\n")
