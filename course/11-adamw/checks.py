"""What the optimizer must do: AdamW by hand in float64, and what clipping leaves."""

import contextlib
import io
import math
import re

import numpy as np

from buildgpt.course.checking import check, equal, expect, near, of_the_size, refused, small_trainer

GRADIENTS = (0.5, -2.0, 0.001, 1000.0)


def made(mine, **train):
    """A Trainer of a small GPT on a small text."""
    model = {"context": 16, "layers": 1, "heads": 2, "width": 16}
    wishes = {"steps": 3, "tokens_per_step": 64, "lr": 0.01, "seed": 1, "log_every": 1}
    if mine.done("12-schedule/warmup"):
        wishes["warmup_steps"] = 0
    return small_trainer(mine, b"abcab cab " * 60, model, wishes | train)


def run(own):
    """Train, and return what was printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        own.run()
    return out.getvalue()


def matrix(value):
    """A module of one weight that is a matrix."""
    import torch

    module = torch.nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        module.weight.fill_(value)
    return module


def by_hand(value, gradients, lr, beta1, beta2, decay):
    """AdamW of one weight (Loshchilov and Hutter 2019, algorithm 2)."""
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        value -= lr * decay * value
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        value -= lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + 1e-8)
    return value


@check("decay and clipping are of the size that the pages speak of", step="clip")
def proportions(mine):
    of_the_size(mine.TrainConfig(), weight_decay=0.1, grad_clip=1.0)


@check("a weight moves as AdamW moves it by hand, by the recipe's numbers", step="adamw")
def golden(mine):
    for lr, beta1, beta2, decay in ((0.1, 0.9, 0.95, 0.0), (0.1, 0.8, 0.99, 0.5)):
        config = mine.TrainConfig(lr=lr, beta1=beta1, beta2=beta2, weight_decay=decay)
        module = matrix(2.0)
        optimizer = mine.build_optimizer(module, config)
        for step, gradient in enumerate(GRADIENTS, 1):
            module.weight.grad = module.weight.detach() * 0 + gradient
            optimizer.step()
            wanted = by_hand(2.0, GRADIENTS[:step], lr, beta1, beta2, decay)
            causes = ["beta1 or beta2 is PyTorch's default", "decay is PyTorch's default of 0.01"]
            given = f"a weight of 2 after gradients {GRADIENTS[:step]}, {config}"
            near(module.weight, wanted, 1e-6, given, causes)
    for key in ("beta1", "beta2"):  # or the means would never move
        with refused(f"TrainConfig({key}=1.0)", the_key=key):
            mine.TrainConfig(**{key: 1.0})


@check("training is done by the recipe's optimizer", step="adamw")
def used(mine):
    losses = {}
    for key, value in (("seed", 1), ("beta1", 0.0), ("beta2", 0.5), ("weight_decay", 5.0)):
        with made(mine, **{key: value}) as own:
            run(own)
            losses[key] = own.loss
    for key in ("beta1", "beta2", "weight_decay"):
        causes = ["the Trainer makes an optimizer of its own"]
        other = losses[key] != losses["seed"]
        expect(other, "the same loss", "another loss", f"3 steps with another {key}", causes)


@check("matrices decay, vectors do not, and every parameter is in a group", step="groups")
def decays(mine):
    import torch

    config = mine.ModelConfig(layers=1, heads=2, width=16, context=8, vocab_size=20)
    model = mine.GPT(config).double()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
    optimizer = mine.build_optimizer(model, mine.TrainConfig(lr=0.1, weight_decay=0.5))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(2):
        optimizer.step()
    for name, p in model.named_parameters():
        kind, wanted = ("a matrix", 0.95**2) if p.dim() >= 2 else ("a vector", 1.0)
        given = f"{name}, {kind} of ones, after 2 steps with lr = 0.1, weight_decay = 0.5"
        causes = ["norms and biases decay too", "embeddings are left out", "the groups are swapped"]
        near(p.flatten()[0], wanted, 1e-9, given, causes)
        p.grad = torch.ones_like(p)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = mine.build_optimizer(model, mine.TrainConfig(lr=0.1, weight_decay=0.0))
    optimizer.step()
    for (name, p), old in zip(model.named_parameters(), before):
        moved = (old - p).mean().item()
        causes = ["it is in no group, or in two"]
        near(moved, 0.1, 1e-3, f"how far a step of lr = 0.1 moves {name}, gradients of 1", causes)


def with_gradients(*values):
    """A module whose gradients are these numbers, in two parameters."""
    import torch

    module = torch.nn.Linear(len(values) - 1, 1)
    module.weight.grad = torch.tensor([values[:-1]])
    module.bias.grad = torch.tensor([values[-1]])
    return module


@check("all gradients together are scaled to the limit, and their norm before is told", step="clip")
def clips(mine):
    for largest, wanted in (
        (0.5, [0.3, 0.0, 0.4]),
        (5.0, [3.0, 0.0, 4.0]),
        (99.0, [3.0, 0.0, 4.0]),
    ):
        module = with_gradients(3.0, 0.0, 4.0)
        norm = mine.clip_gradients(module, largest)
        found = [*module.weight.grad[0].tolist(), module.bias.grad.item()]
        given = f"gradients [3, 0] and [4], largest = {largest}"
        near(norm, 5.0, 1e-5, f"the norm returned, {given}", ["the norm after, not before"])
        causes = ["each tensor is clipped on its own", "each number is clipped", "small ones grow"]
        for number, right in zip(found, wanted):
            near(number, right, 1e-4, f"{found}, {given}", causes)


@check("a limit of 0 is none", step="clip")
def unlimited(mine):
    module = with_gradients(3e6, 0.0, 4e6)
    norm = mine.clip_gradients(module, 0.0)
    near(norm, 5e6, 10, "the norm, largest = 0")
    equal(module.bias.grad.item(), 4e6, given="a gradient of 4e6, largest = 0")


@check("a step clips before it moves the weights, and reports the norm", step="clip")
def clipped_step(mine):
    moves = {}
    for clip in (1.0, 1e-12):  # so far down, AdamW's epsilon is larger than the gradients
        with made(mine, steps=1, grad_clip=clip, weight_decay=0.0) as own:
            before = [p.detach().clone() for p in own.model.parameters()]
            out = run(own)
            parts = zip(own.model.parameters(), before)
            moves[clip] = max((p - old).abs().max().item() for p, old in parts)
        found = re.findall(r"norm (\d+\.\d+)", out)
        told = float(found[0]) if found else None
        near(told, own.norm, 0.01, f"the norm in the report: {out.splitlines()[-1]}")
        expect(own.norm > 0.01, f"{own.norm}", "the norm before clipping", f"grad_clip = {clip}")
    causes = ["clipped after the optimizer's step", "clipped before the backward pass"]
    given = "the longest move of a weight, grad_clip = 1e-12 and 1"
    small = moves[1e-12] < 0.01 * moves[1.0]
    expect(small, f"{moves[1e-12]:.2g} and {moves[1.0]:.2g}", "hardly any and one", given, causes)


@check("a gradient that is no number stops the run too", step="clip")
def no_number(mine):
    import torch

    with made(mine) as own:
        weight = next(own.model.parameters())
        weight.register_hook(lambda gradient: torch.full_like(gradient, np.nan))
        with refused("a gradient of nan, a loss that is a number", the_step="1", the_remedy="lr"):
            run(own)
        alive = all(bool(torch.isfinite(p).all()) for p in own.model.parameters())
        expect(alive, "nan in the weights", "none", "weights after a gradient of nan")
