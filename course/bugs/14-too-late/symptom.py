"""The gradients of two ranks after a step, taken at once and in parts."""

import torch

from buildgpt.course.ranks import on_ranks
from gpt.config import ModelConfig, RuntimeConfig
from gpt.model import GPT
from gpt.runtime import Replica, start_runtime

CONFIG = ModelConfig(layers=1, heads=2, width=16, context=8, vocab_size=20)
STEPS = 2


def gradient(rank, parts):
    """A rank's gradient of the second step, in so many micro-batches."""
    runtime = start_runtime(RuntimeConfig(device="cpu", dtype="fp32", compile="off"))
    torch.manual_seed(1)
    replica = Replica(GPT(CONFIG), runtime)
    torch.manual_seed(2 + rank)
    for _ in range(STEPS):
        replica.model.zero_grad()
        for part in range(parts):
            ids = torch.randint(20, (8 // parts, 9))
            loss = replica(ids[:, :-1], ids[:, 1:], last=part == parts - 1)
            (loss / parts).backward()
    return torch.cat([p.grad.flatten() for p in replica.model.parameters()]).tolist()


for parts in (1, 2, 4):
    one, other = (torch.tensor(g) for g in on_ranks(2, lambda rank, n=parts: gradient(rank, n)))
    apart = (one - other).norm() / one.norm()
    print(f"{parts} micro-batch{'es' * (parts > 1)}: the ranks' gradients differ by {apart:.2f}")
