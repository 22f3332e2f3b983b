"""The figures that lesson 5 quotes: name -> (value, how it is shown, tolerance)."""

import torch

from gpt.generate import Sampling, probabilities

chances = probabilities(torch.tensor([[1.0, 3.0, 2.0]]), Sampling(temperature=1.0))
FIGURES = {"chance of the likeliest": (chances.max().item(), "{:.2f}", 0.001)}
