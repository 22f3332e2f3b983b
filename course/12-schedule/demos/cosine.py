from pathlib import Path

import torch

from gpt.config import load_recipe
from gpt.optim import learning_rate
from gpt.train import Trainer

for share in (1, 0.1):
    wishes = ["train.warmup_steps=40", "train.lr=0.01", f"train.final_lr={share}"]
    trainer = Trainer(load_recipe(Path("small.toml"), wishes))
    rates = [learning_rate(step, 200, trainer.recipe.train) for step in range(0, 200, 4)]
    for height in (4, 3, 2, 1):
        line = ("#" if rate > (height - 0.5) * 0.0025 else " " for rate in rates)
        print(f"{height * 0.0025:.4f} |" + "".join(line))
    trainer.run()
    with torch.no_grad():
        loss = trainer.model(*trainer.batches(20000, 160)).item()
    print(f"down to {share} of the rate, on 160 sequences that were not read: {loss:.3f}\n")
