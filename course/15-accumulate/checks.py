"""What a step in parts must be: the same step."""

import contextlib

from buildgpt.course.checking import check, equal, expect, near, refused, small_trainer


@contextlib.contextmanager
def made(mine, rows, sequences=8, **train):
    """A Trainer of a small GPT, in float64, of so many sequences a step and a micro-batch."""
    text = bytes(range(97, 123)) * 20 + b"To be, or not to be" * 20
    model = {"context": 8, "layers": 1, "heads": 2, "width": 16, "init_std": 0.3}
    wishes = {"tokens_per_step": 8 * sequences, "micro_batch": rows, "warmup_steps": 0}
    wishes |= {"lr": 0.01, "log_every": 1000, "grad_clip": 0.0, "weight_decay": 0.0}
    with small_trainer(mine, text, model, wishes | train) as own:
        own.model.double()
        yield own


@check(
    "micro-batches that do not go into a step are refused, with a number that does", step="divide"
)
def goes_in(mine):
    for sequences, rows, nearest in ((8, 3, "2"), (12, 5, "4"), (6, 4, "3")):
        given = f"{sequences} sequences a step, micro_batch = {rows}"
        words = {"the_micro_batch": str(rows), "the_step": str(sequences), "the_nearest": nearest}
        with refused(given, **words), made(mine, rows, sequences):
            pass
    for rows in (1, 4, 8, 100):
        with made(mine, rows) as own:
            equal(own.micro_batch, min(rows, 8), given=f"8 sequences a step, micro_batch = {rows}")
    with refused("TrainConfig(micro_batch=0)", the_key="micro_batch"):
        mine.TrainConfig(micro_batch=0)


def watched(own, steps):
    """What steps ask for, and when gradients arrive: a list of (first, count) and "gradient"."""
    seen, batches = [], own.batches

    def note(first, count):
        seen.append((first, count))
        return batches(first, count)

    own.batches = note
    last = [*own.model.parameters()][-1]
    hook = last.register_hook(lambda gradient: seen.append("gradient"))
    for _ in range(steps):
        own.update()
    hook.remove()
    return seen


@check("a step reads all its sequences, in order, so many at once", step="parts")
def reads(mine):
    for rows in (8, 4, 2):
        with made(mine, rows) as own:
            seen = [place for place in watched(own, 2) if place != "gradient"]
        wanted = [(first, rows) for first in range(0, 16, rows)]
        given = f"(first, count) of what 2 steps of 8 sequences read, micro_batch = {rows}"
        causes = ["every micro-batch is the same one", "the second step begins at the wrong place"]
        equal(seen, wanted, given=given, causes=causes)


def gradient(own):
    """The gradient of the first step, as the optimizer sees it, and the step's loss."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    seen = []

    def note(optimizer, *words):
        seen.append(torch.cat([p.grad.flatten().clone() for p in own.model.parameters()]))

    hook = register_optimizer_step_pre_hook(note)
    try:
        own.update()
    finally:
        hook.remove()
    equal(len(seen), 1, given="updates of the weights in one step")
    return seen[0], own.loss


@check("each part's gradient comes before the next part, and all of them add up", step="parts")
def one_by_one(mine):
    import torch

    with made(mine, 2) as own:
        seen = ["gradient" if place == "gradient" else "read" for place in watched(own, 1)]
    causes = [
        "losses are added up and one backward pass is done at the end: then all parts are in memory"
    ]
    equal(seen, ["read", "gradient"] * 4, given="8 sequences in parts of 2", causes=causes)
    with made(mine, 8) as own:
        whole, _ = gradient(own)
    for rows in (4, 2, 1):
        with made(mine, rows) as own:
            found, _ = gradient(own)
        alike = torch.cosine_similarity(found, whole, dim=0).item()
        causes = ["zero_grad between the parts", "only the last part counts"]
        given = f"how alike the gradients are, 8 sequences at once and in parts of {rows}"
        near(alike, 1.0, 1e-9, given, causes)


@check("in parts or at once: the same gradient, the same loss, the same weights", step="mean")
def same(mine):
    import torch

    ends = {}
    for rows in (8, 4, 2, 1):
        with made(mine, rows) as own:
            found, loss = gradient(own)
            weights = torch.cat([p.detach().flatten() for p in own.model.parameters()])
        ends[rows] = found, loss, weights
    whole = ends[8]
    for rows in (4, 2, 1):
        found, loss, weights = ends[rows]
        given = f"8 sequences in {8 // rows} parts"
        times = (found.norm() / whole[0].norm()).item()
        causes = [f"{8 // rows} means are added up, which is {8 // rows} times the mean of all"]
        near(times, 1.0, 1e-6, f"the gradient, times that at once, of {given}", causes)
        near(
            loss, whole[1], 1e-6, f"the loss of {given}", ["the loss is a sum, or the last part's"]
        )
        off = (weights - whole[2]).abs().max().item()
        expect(off < 1e-6, f"{off:.2g} apart", "the same", f"weights after the step, {given}")


@check("each part of a step drops other places", step="parts")
def other_chances(mine):
    import torch

    states = []
    with made(mine, 4) as own:
        own.model.train()
        for module in own.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5
        own.model.register_forward_pre_hook(lambda *_: states.append(torch.get_rng_state()))
        own.accumulate()
    equal(len(states), 2, given="parts of a step of 8 sequences, 4 at once")
    causes = ["reseed belongs before the first part: called for each, all drop the same places"]
    same = torch.equal(*states)
    expect(not same, "the same", "another", "the state of torch's generator, part by part", causes)
