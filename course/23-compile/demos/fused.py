import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gpt.config import ModelConfig, TrainConfig
from gpt.model import GPT
from gpt.optim import build_optimizer


class Counter(TorchDispatchMode):
    """Counts the operations that torch is asked for."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


torch.manual_seed(1)
model = GPT(ModelConfig(vocab_size=257))
optimizer = build_optimizer(model, TrainConfig())
model(torch.arange(64)[None], torch.arange(64)[None] + 1).backward()
optimizer.step()
with Counter() as counter:
    optimizer.step()
seconds = []
for _ in range(20):
    began = time.perf_counter()
    optimizer.step()
    seconds.append(time.perf_counter() - began)
print(f"{len(list(model.parameters()))} tensors of weights,", end=" ")
print(f"{counter.count} operations an update, {1000 * min(seconds):.2f} ms")
