"""The figures that lesson 15 quotes: name -> (value, how it is shown, tolerance)."""

import tempfile
from pathlib import Path

import torch

from gpt.config import load_recipe
from gpt.train import Trainer

trainer = Trainer(Path(tempfile.mkdtemp()) / "run", load_recipe(Path("small.toml")))


def norm(parts):
    """Of the gradient of 16 sequences, the losses of so many parts just added up."""
    trainer.model.zero_grad()
    rows = 16 // parts
    for part in range(parts):
        trainer.model(*trainer.batches(part * rows, rows)).backward()
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters()]).norm().item()


def held(rows):
    """The bytes that a pass of so many sequences keeps for the backward pass."""
    kept = {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        trainer.model(*trainer.batches(0, rows))
    return sum(kept.values())


FIGURES = {
    "times too large": (norm(4) / norm(1), "{:.1f}", 0.001),
    "share of the memory": (held(4) / held(16), "{:.2f}", 0.05),
}
