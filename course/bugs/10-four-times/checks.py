"""Whether a step in parts has the gradients of the step as a whole."""

import types

from buildgpt.course.checking import check, near


@check("a step in parts has the same gradient and the same loss as at once", step="")
def in_parts(mine):
    import torch

    core = mine.core
    model = core.model.GPT(
        core.config.ModelConfig(layers=1, heads=2, width=16, context=16, vocab_size=20)
    )
    found = {}
    for rows in (8, 4, 2):
        model.zero_grad()
        loss = trainer(core, model, rows).accumulate()
        grads = torch.cat([p.grad.flatten() for p in model.parameters()])
        found[rows] = (float(loss), grads.norm().item())
    for rows in (4, 2):
        given = f"a step of 8 sequences in {8 // rows} parts"
        near(
            found[rows][1] / found[8][1], 1.0, 1e-3, f"the gradient, times that at once, of {given}"
        )
        near(found[rows][0], found[8][0], 1e-3, f"the loss of {given}")


def trainer(core, model, rows):
    """As much of a Trainer as adds up the gradients of one step."""
    import torch

    recipe = core.config.Recipe(
        model=model.config, train=core.config.TrainConfig(tokens_per_step=128, micro_batch=rows)
    )
    runtime = core.runtime.Runtime(torch.device("cpu"))
    ids = torch.randint(20, (8, 17), generator=torch.Generator().manual_seed(1))
    made = object.__new__(core.train.Trainer)
    made.recipe, made.runtime, made.micro_batch, made.step = recipe, runtime, rows, 0
    made.replica = core.runtime.Replica(model, runtime)
    made.scaler = types.SimpleNamespace(scale=lambda loss: loss)
    made.batches = lambda first, count: (
        ids[first : first + count, :-1],
        ids[first : first + count, 1:],
    )
    return made
