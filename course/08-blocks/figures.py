"""The figures that lesson 8 quotes: name -> (value, how it is shown, tolerance)."""

import time
from pathlib import Path

import torch

from gpt.config import DataConfig, ModelConfig, load_recipe
from gpt.data import Batches, Corpus
from gpt.model import GPT, Block
from gpt.train import Trainer

block = Block(ModelConfig())
mlp, all_of_it = (
    sum(p.numel() for p in part.parameters() if p.dim() == 2) for part in (block.mlp, block)
)
torch.manual_seed(1337)
batches = Batches(Corpus(DataConfig()).train, 64, 1337)
with torch.no_grad():
    start = GPT(ModelConfig(vocab_size=257))(*batches(0, 100)).item()

began = time.perf_counter()
Trainer(load_recipe(Path("verse.toml"))).run()
seconds = time.perf_counter() - began

FIGURES = {
    "seconds of verse": (seconds, "about {:.0f} s", 60.0),
    "share of the MLP": (mlp / all_of_it, "{:.2f}", 0.0),
    "loss before training with norms": (start, "{:.2f}", 0.03),
}
