"""How far a model can recite."""

import torch
from torch import Tensor


@torch.no_grad()
def recited(model, ids: Tensor) -> int:
    """How many tokens of ids (T,), after the first, the model says by itself, each time the
    likeliest one after what it has said so far, until the first that is wrong."""
    said = ids[:1]
    while len(said) < len(ids):
        said = torch.cat([said, model(said[None])[0, -1].argmax()[None]])
        if said[-1] != ids[len(said) - 1]:
            return len(said) - 2
    return len(ids) - 1
