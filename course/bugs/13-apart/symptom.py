"""What one rank and what four ranks read of an epoch of 24 sequences."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import torch

from gpt.config import ModelConfig, Recipe, TrainConfig
from gpt.data import Batches
from gpt.runtime import Runtime
from gpt.train import Trainer

CONTEXT, SEQUENCES, STEPS = 4, 24, 3


class Text:
    """As much of a Stream as Batches asks for."""

    def __len__(self):
        return CONTEXT * SEQUENCES + 1

    def read(self, start, stop):
        return np.arange(start, stop)


class Noting(Batches):
    """Batches that write down which sequences are asked for."""

    def __call__(self, first, count):
        seen.update(self.sequence(position) for position in range(first, first + count))
        return super().__call__(first, count)


def read(rank, ranks):
    """Let a rank read its share of an epoch."""
    trainer = object.__new__(Trainer)
    train = TrainConfig(tokens_per_step=8 * CONTEXT, micro_batch=8 // ranks)
    trainer.recipe = Recipe(model=ModelConfig(context=CONTEXT), train=train)
    trainer.runtime = Runtime(torch.device("cpu"), rank=rank, world_size=ranks)
    trainer.micro_batch = 8 // ranks
    trainer.replica = lambda ids, targets, last: torch.zeros((), requires_grad=True)
    trainer.scaler = SimpleNamespace(scale=lambda loss: loss)
    trainer.batches = Noting(Text(), CONTEXT, seed=1)
    for trainer.step in range(STEPS):
        trainer.accumulate()


for ranks in (1, 4):
    seen = Counter()
    for rank in range(ranks):
        read(rank, ranks)
    never = [number for number in range(SEQUENCES) if number not in seen]
    again = sorted(number for number, times in seen.items() if times > 1)
    print(f"{ranks} rank{'s' * (ranks > 1)}: {len(seen)} of {SEQUENCES} sequences are read")
    print(f"    never: {', '.join(map(str, never)) or 'none'}")
    print(f"    more than once: {', '.join(map(str, again)) or 'none'}")
