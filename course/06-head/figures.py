"""The figures that lesson 6 quotes: name -> (value, how it is shown, tolerance)."""

from pathlib import Path

import torch

from gpt.config import load_recipe
from gpt.train import Trainer

torch.manual_seed(1337)
scores = (torch.randn(20000, 64) * torch.randn(20000, 64)).sum(1)

trainer = Trainer(load_recipe(Path("head.toml")))
trainer.run()
with torch.no_grad():
    loss = trainer.model(*trainer.batches(20000, 500)).item()

FIGURES = {
    "weights of one width": (2 * 257 * 64, "{:,.0f}", 0.0),
    "weights of the table": (257 * 257, "{:,.0f}", 0.0),
    "spread of a score": (scores.std().item(), "{:.1f}", 0.1),
    "loss of one head": (loss, "{:.2f}", 0.05),
}
