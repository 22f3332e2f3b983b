"""The figures that lesson 11 quotes: name -> (value, how it is shown, tolerance)."""

from pathlib import Path

import torch
from torch import nn

from gpt import optim
from gpt.config import ModelConfig, TrainConfig, load_recipe
from gpt.model import GPT
from gpt.train import Trainer

layer = nn.Linear(1, 1, bias=False)
optimizer = optim.build_optimizer(layer, TrainConfig(lr=0.01, weight_decay=0.0))
start = layer.weight.item()
for _ in range(4):
    layer.weight.grad = torch.full((1, 1), 1000.0)
    optimizer.step()

parameters = [*GPT(ModelConfig(vocab_size=257)).parameters()]
vectors = sum(p.numel() for p in parameters if p.dim() < 2) / sum(p.numel() for p in parameters)


def loss(clip):
    """After 100 steps, the mean of ten more batches."""
    wishes = [f"train.grad_clip={clip}", "train.steps=100"]
    trainer = Trainer(load_recipe(Path("small.toml"), wishes))
    trainer.run()
    with torch.no_grad():
        return trainer.model(*trainer.batches(20000, 160)).item()


FIGURES = {
    "a move of four steps": (start - layer.weight.item(), "{:.2f}", 0.001),
    "percent of vectors": (100 * vectors, "{:.1f}", 0.01),
    "loss without clipping": (loss(0), "{:.2f}", 0.1),
    "loss with clipping": (loss(1), "{:.2f}", 0.1),
}
