"""Whether the first step has the gradient of one batch."""

import numpy as np

from buildgpt.course.checking import check, near


@check("the first step's gradient is that of its batch, and of nothing before", step="update")
def first_gradient(mine):
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    model, seen = mine.GPT(16), []
    batches = mine.Batches(np.arange(9, dtype=np.uint16), 8, 1)
    loss = model(*batches(0, 1))
    wanted = [grad.norm().item() for grad in torch.autograd.grad(loss, list(model.parameters()))]

    def note(optimizer, *words):
        groups = optimizer.param_groups
        seen.append([p.grad.norm().item() for group in groups for p in group["params"]])

    hook = register_optimizer_step_pre_hook(note)
    try:
        mine.train(model, batches, 3, 1, 1e-12)
    finally:
        hook.remove()
    for step, norms in zip(("first step", "second step", "third step"), seen):
        for norm, right in zip(norms, wanted):
            near(norm / right, 1.0, 1e-3, f"the gradient of the {step}, in shares of its batch's")
