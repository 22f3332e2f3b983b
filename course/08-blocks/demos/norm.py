from pathlib import Path

import torch

from gpt.config import ModelConfig, load_recipe
from gpt.model import Block
from gpt.train import Trainer

torch.manual_seed(1337)
block = Block(ModelConfig())
for size in (1, 10, 100):
    x = size * torch.randn(1, 8, 64)
    print(f"to a stream of size {size:3} a block adds {(block(x) - x).std().item():.3f}")
wishes = ["model.layers=4", "train.steps=100", "train.lr=0.003"]
Trainer(load_recipe(Path("head.toml"), wishes)).run()
