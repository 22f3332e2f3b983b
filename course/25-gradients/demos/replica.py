import tempfile
from pathlib import Path

import torch

from buildgpt.course.ranks import on_ranks
from buildgpt.course.recorded import need_ranks
from gpt.config import RuntimeConfig, load_recipe
from gpt.runtime import Replica, start_runtime
from gpt.train import Trainer

need_ranks("25-gradients/replica")
SHIPPED = load_recipe(Path("small.toml"))
RECIPE = load_recipe(Path("small.toml"), ["train.micro_batch=1"])


class Late(Replica):
    """As published: the flag is set after the forward pass, before the backward pass."""

    def __call__(self, ids, targets, last):
        loss = self.call(ids, targets)
        self.wrapped.require_backward_grad_sync = last
        return loss


def gradient(kind):
    """The gradient of a step; the one before it has left a late flag up."""
    runtime = start_runtime(RuntimeConfig(device="cpu", dtype="fp32"))
    with tempfile.TemporaryDirectory() as runs:
        trainer = Trainer(Path(runs), RECIPE, runtime)
        trainer.replica.__class__ = kind
        if trained:
            trainer.model.load_state_dict(trained)
        trainer.step = 100
        trainer.accumulate()
        trainer.optimizer.zero_grad()
        trainer.accumulate()
    return torch.cat([p.grad.flatten() for p in trainer.model.parameters()]).tolist()


trained = {}
with tempfile.TemporaryDirectory() as place:
    learner = Trainer(
        Path(place), SHIPPED, start_runtime(RuntimeConfig(device="cpu", dtype="fp32"))
    )
    for _ in range(100):
        learner.update()
trained = learner.model.state_dict()
whole = torch.tensor(gradient(Replica))
errors = {}
for name, kind in (("in time", Replica), ("too late", Late)):
    parts = [torch.tensor(found) for found in on_ranks(2, lambda rank, kind=kind: gradient(kind))]
    errors[name] = ((parts[0] - whole).norm() / whole.norm()).item()
    print(f"2 ranks, 8 micro-batches each, the flag {name}:")
    print(f"    the gradient is off by {errors[name]:.2g} of its size")
    print(f"    both ranks have the same one: {torch.equal(*parts)}")
