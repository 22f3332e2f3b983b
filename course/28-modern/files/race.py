"""Short runs on Shakespeare that differ in one thing only: in the model, or in its optimizer."""

from pathlib import Path

import torch

from gpt import optim
from gpt.config import ModelConfig, TrainConfig

MODEL = ModelConfig(layers=2, heads=4, width=64, context=64, vocab_size=257, init_std=0.05)
WISHES = {"lr": 0.004, "warmup_steps": 20, "weight_decay": 0.0}
TEXT = torch.frombuffer(bytearray(Path("data/shakespeare.txt").read_bytes()), dtype=torch.uint8)
CUT = len(TEXT) * 9 // 10  # what comes after it is not trained on


def windows(start, stop, rows, generator):
    """So many (inputs, targets) of 64 bytes each, from anywhere between two places."""
    places = torch.randint(start, stop - 64, (rows,), generator=generator)
    found = torch.stack([TEXT[place : place + 65] for place in places]).long()
    return found[:, :-1], found[:, 1:]


def train(model, steps, seed=1, **wishes):
    """Train a model on 1,024 tokens a step; returns its loss on text that it has not read."""
    config = TrainConfig(**(WISHES | wishes))
    optimizer = optim.build_optimizer(model, config)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        rate = optim.learning_rate(step, steps, config)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        model(*windows(0, CUT, 16, generator)).backward()
        optim.clip_gradients(model, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        unread = windows(CUT, len(TEXT), 128, torch.Generator().manual_seed(0))
        return model(*unread).item()
