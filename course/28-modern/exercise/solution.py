"""Positions without turning anything: a penalty for distance."""

import math

import torch
from torch import Tensor


def alibi(heads: int, time: int) -> Tensor:
    """(H, T, T): what is added to the scores of attention (Press et al. 2022, section 3).

    Head h, from 0 on, subtracts 2^(-8 (h + 1) / heads) for every token that lies between; what
    comes later is hidden, by minus infinity.
    """
    slopes = torch.tensor([2.0 ** (-8 * (h + 1) / heads) for h in range(heads)])
    here = torch.arange(time)
    back = (here[:, None] - here).float()  # (T, T)
    return (-slopes[:, None, None] * back).masked_fill(back < 0, -math.inf)
