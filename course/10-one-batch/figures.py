"""The figures that lesson 10 quotes: name -> (value, how it is shown, tolerance)."""

from pathlib import Path

import torch

from gpt import model
from gpt.config import load_recipe
from gpt.train import Trainer


def by_heart(*wishes):
    """The last loss on the sonnet."""
    return Trainer(load_recipe(Path("sonnet.toml"), [*wishes])).run()


sound, fast = by_heart(), by_heart("train.lr=0.1")
whole, model.future = model.future, lambda time, like: torch.triu(whole(time, like), 2)
leaking = by_heart()
model.future, forward = whole, model.Block.forward
model.Block.forward = lambda own, x: own.mlp(own.mlp_norm(own.attention(own.attention_norm(x))))

FIGURES = {
    "loss of the sonnet": (sound, "{:.2f}", 0.02),
    "loss of the sonnet at a rate of 0.1": (fast, "{:.1f}", 0.4),
    "loss of the sonnet with a leak": (leaking, "{:.2f}", 0.02),
    "loss of the sonnet without plus signs": (by_heart(), "{:.1f}", 0.4),
}
