"""The figures that lesson 25 quotes: name -> (value, how it is shown, tolerance)."""

import tempfile
from pathlib import Path

import torch

from buildgpt.course.ranks import on_ranks
from gpt.config import RuntimeConfig, load_recipe
from gpt.runtime import Replica, start_runtime
from gpt.train import Trainer

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


def off(kind):
    """How far rank 0's gradient is off, in shares of the size of the right one."""
    found = torch.tensor(on_ranks(2, lambda rank: gradient(kind))[0])
    return ((found - whole).norm() / whole.norm()).item()


trained = {}
with tempfile.TemporaryDirectory() as place:
    learner = Trainer(Path(place), RECIPE, start_runtime(RuntimeConfig(device="cpu", dtype="fp32")))
    for _ in range(100):
        learner.update()
trained = learner.model.state_dict()
whole = torch.tensor(gradient(Replica))

FIGURES = {
    "error of the late flag": (off(Late), "{:.2f}", 0.3),
    "error of the early flag": (off(Replica), "{:.0e}", 1e-5),
}
