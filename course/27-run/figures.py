"""The figures that lesson 27 quotes: name -> (value, how it is shown, tolerance)."""

import dataclasses
from pathlib import Path

import torch

from gpt.config import load_recipe
from gpt.model import GPT

recipe = load_recipe(Path("real.toml"))
with torch.device("meta"):
    model = GPT(dataclasses.replace(recipe.model, vocab_size=50257))
positions = recipe.model.context * recipe.model.width
multiplied = model.parameter_count() - positions
attention = 12 * recipe.model.layers * recipe.model.width * recipe.model.context
a_token = 6 * multiplied + attention
total = a_token * recipe.train.steps * recipe.train.tokens_per_step

FIGURES = {
    "megaflops a token": (a_token / 1e6, "{:.0f}", 1),
    "exaflops": (total / 1e18, "{:.1f}", 0.1),
    "days on one card": (total / 100e12 / 86400, "{:.2f}", 0.01),
    "years here": (total / 20e9 / 86400 / 365, "{:.0f}", 1),
}
