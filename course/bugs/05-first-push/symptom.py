import contextlib
import io

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from gpt.data import Batches
from gpt.model import GPT
from gpt.train import train

norms = []


def note(optimizer, *words):
    grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
    norms.append(torch.cat([grad.flatten() for grad in grads]).norm().item())


torch.manual_seed(1)
register_optimizer_step_pre_hook(note)
with contextlib.redirect_stdout(io.StringIO()):
    train(GPT(16), Batches(np.arange(9, dtype=np.uint16), 8, 1), steps=4, batch=1, lr=1e-12)
for step, norm in enumerate(norms, 1):
    print(f"step {step}: gradient of size {norm:.4f}, {norm / norms[-1]:.2f} times that of step 4")
