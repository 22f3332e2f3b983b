"""The figures that lesson 4 quotes: name -> (value, how it is shown, tolerance)."""

from gpt.config import Recipe, TrainConfig
from gpt.train import Trainer

slow = Trainer(Recipe(train=TrainConfig(steps=200, lr=0.001)))

FIGURES = {"loss at a rate of 0.001": (slow.run(), "{:.2f}", 0.02)}
