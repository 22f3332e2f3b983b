"""Heads that share their keys and values."""

from torch import Tensor

from gpt.model import attend_by_hand


def attend_grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q (B, H, T, D), k and v (B, G, T, D), G a divisor of H: heads 0 to H/G - 1 share the first
    keys and values, the next ones the second, and so on. Returns (B, H, T, D)."""
    times = q.size(1) // k.size(1)
    return attend_by_hand(q, *(part.repeat_interleave(times, dim=1) for part in (k, v)))
