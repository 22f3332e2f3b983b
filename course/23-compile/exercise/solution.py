"""A loss that keeps logits near zero."""

import torch
from torch import Tensor


def loss_and_gradient(logits: Tensor, target: Tensor, z: float) -> tuple[Tensor, Tensor]:
    """The summed cross-entropy of logits (N, V) with targets (N, 1), plus z times the sum of the
    squares of each row's logsumexp; and the gradient of both."""
    total = logits.logsumexp(dim=1, keepdim=True)
    loss = (total - logits.gather(1, target)).sum() + z * total.square().sum()
    chances = (logits - total).exp()
    gradient = chances * (1 + 2 * z * total)
    return loss, gradient.scatter_add(1, target, -torch.ones_like(total))
