"""The figures that lesson 14 quotes: name -> (value, how it is shown, tolerance)."""

import torch

from gpt import optim
from gpt.config import ModelConfig, TrainConfig
from gpt.model import GPT

model = GPT(ModelConfig(vocab_size=257))
optimizer = optim.build_optimizer(model, TrainConfig())
model(torch.arange(64)[None], torch.arange(64)[None] + 1).backward()
optimizer.step()
numbers = sum(tensor.numel() for tensor in optim.optimizer_tensors(model, optimizer).values())

FIGURES = {
    "numbers remembered a weight": (numbers / model.parameter_count(), "{:.2f}", 0.001),
}
