"""The figures that lesson 7 quotes: name -> (value, how it is shown, tolerance)."""

from pathlib import Path

import torch

from gpt.config import ModelConfig, load_recipe
from gpt.model import Attention
from gpt.train import Trainer


def weights(heads):
    """How many an Attention of so many heads has."""
    return sum(p.numel() for p in Attention(ModelConfig(heads=heads)).parameters())


def loss(heads):
    """After training, on sequences that were not read."""
    trainer = Trainer(load_recipe(Path("head.toml"), [f"model.heads={heads}"]))
    trainer.run()
    with torch.no_grad():
        return trainer.model(*trainer.batches(20000, 500)).item()


FIGURES = {
    "factor of weights": (weights(4) / weights(1), "{:.0f}", 0.0),
    "loss of heads in one": (loss(1), "{:.2f}", 0.05),
    "loss of four heads": (loss(4), "{:.2f}", 0.05),
}
