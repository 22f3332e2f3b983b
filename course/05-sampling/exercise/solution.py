"""Min-p."""

from torch import Tensor


def min_p(chances: Tensor, share: float) -> Tensor:
    """(N, V): only tokens that are at least `share` as likely as the likeliest of their row."""
    kept = chances * (chances >= share * chances.max(dim=-1, keepdim=True).values)
    return kept / kept.sum(dim=-1, keepdim=True)
