"""The checks of lessons 11 and 15 take other code that does the same, and no mistakes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from learners import forget

from buildgpt.course.runner import Outcome, due_checks, run_checks, steps_done
from buildgpt.course.series import Lesson, Series, write_tree

SERIES = Series()


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Each test imports a gpt of its own."""
    path = [*sys.path]
    yield
    sys.path[:] = path
    forget()


def lesson(number: int) -> Lesson:
    """A lesson by its number."""
    found = SERIES.find(str(number))
    assert found
    return found


def outcomes(place: Path, number: int, file: str, code: str) -> list[Outcome]:
    """What becomes of a lesson's own checks at its end, with another file."""
    forget()
    own = lesson(number)
    write_tree(place, SERIES.tree(SERIES.after(own)) | {file: code})
    wanted = [(each.name, c) for each, c in due_checks(SERIES, own) if each == own]
    return [*run_checks(place, wanted, SERIES.entries(), {}, steps_done(SERIES, own))]


def reference(number: int, file: str) -> str:
    """A file of the reference at a lesson's end."""
    return SERIES.tree(SERIES.after(lesson(number)))[file]


# AdamW without torch's, decay by kinds of modules instead of axes, clipping by hand.
OPTIM = """
import torch

class ByHand(torch.optim.Optimizer):
    def __init__(self, decaying, others, c):
        both = [{"params": decaying, "pull": c.weight_decay}, {"params": others, "pull": 0.0}]
        super().__init__(both, {"lr": c.lr})
        self.c, self.t = c, 0

    @torch.no_grad()
    def step(self, closure=None):
        self.t += 1
        b1, b2 = self.c.beta1, self.c.beta2
        for group in self.param_groups:
            for p in group["params"]:
                m, v = self.state[p].get("mv", (0, 0))
                m, v = m * b1 + (1 - b1) * p.grad, v * b2 + (1 - b2) * p.grad.square()
                self.state[p]["mv"] = m, v
                size = (v / (1 - b2**self.t)).sqrt() + 1e-8
                move = m / (1 - b1**self.t) / size + group["pull"] * p
                p.sub_(group["lr"] * move)

def build_optimizer(model, config):
    plain, seen = [], set()
    for module in model.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Embedding)):
            plain.append(module.weight)
            seen.add(id(module.weight))
    return ByHand(plain, [p for p in model.parameters() if id(p) not in seen], config)

def clip_gradients(model, most):
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    length = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    if most and length > most:
        for g in gradients:
            g *= most / length
    return length
"""

# Gradients that are kept apart from the parameters and weighted by their targets, not losses.
APART = """

class Trainer(Trainer):
    def accumulate(self):
        weights = [*self.model.parameters()]
        sums, lost, count = [torch.zeros_like(p) for p in weights], 0.0, 0
        self.reseed()
        end = (self.step + 1) * self.recipe.train.tokens_per_step // self.recipe.model.context
        first = end - self.recipe.train.tokens_per_step // self.recipe.model.context
        while first < end:
            ids, targets = self.batches(first, self.micro_batch)
            loss = self.model(ids, targets)
            for total, found in zip(sums, torch.autograd.grad(loss, weights)):
                total += found * targets.numel()
            lost, count = lost + loss.detach() * targets.numel(), count + targets.numel()
            first += self.micro_batch
        for p, total in zip(weights, sums):
            p.grad = total / count
        return lost / count
"""


def test_other_optimizers_pass(tmp_path):
    found = outcomes(tmp_path, 11, "gpt/optim.py", OPTIM)
    assert [f"{o.check}: {o.seen} ({o.given})" for o in found if not o.passed] == []
    assert len(found) >= 5


def test_other_ways_to_accumulate_pass(tmp_path):
    code = reference(15, "gpt/train.py")
    found = outcomes(tmp_path, 15, "gpt/train.py", code + APART)
    assert [f"{o.check}: {o.seen} ({o.given})" for o in found if not o.passed] == []
    assert len(found) >= 4


MISTAKES = {
    "PyTorch's betas": (11, "optim", "lr=config.lr, betas=betas", "lr=config.lr"),
    "everything decays": (11, "optim", "p.dim() >= 2]", "p.dim() >= 1]"),
    "nothing decays": (11, "optim", '"weight_decay": weight_decay', '"weight_decay": 0.0'),
    "clipped never": (11, "optim", "largest or math.inf", "math.inf"),
    "0 clips everything": (11, "optim", "largest or math.inf", "largest"),
    "each number clipped": (
        *(11, "optim", "return nn.utils.clip_grad_norm_(model.parameters(), largest or math.inf)"),
        "return nn.utils.clip_grad_value_(model.parameters(), largest or math.inf)",
    ),
    "an identity for an optimizer": (11, "optim", "    return adamw(", "    return model\n    ("),
    "no division": (15, "train", " / rounds\n", "\n"),
    "divided twice": (15, "train", "total += loss.detach()", "total += loss.detach() / rounds"),
    "the same part each time": (15, "train", " + round_ * self.micro_batch", ""),
    "only the first part": (15, "train", "in range(rounds)", "in range(1)"),
    "the last part's gradient": (
        *(15, "train", "            loss.backward()\n"),
        "            self.optimizer.zero_grad()\n            loss.backward()\n",
    ),
    "one backward pass at the end": (
        *(15, "train", "            loss.backward()\n            total += loss.detach()\n"),
        "            total = total + loss\n        total.backward()\n",
    ),
    "an identity": (15, "train", "        self.reseed()\n", "        return total\n"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told(name, tmp_path):
    number, module, old, new = MISTAKES[name]
    code = reference(number, f"gpt/{module}.py")
    assert code.count(old) == 1, old
    found = outcomes(tmp_path, number, f"gpt/{module}.py", code.replace(old, new))
    assert [o.check for o in found if not o.passed], "no check fails"
