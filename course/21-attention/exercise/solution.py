"""A window of attention."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attend_near(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Causal attention of (B, H, T, D) in which each token sees the last `window` tokens only,
    itself among them."""
    place = torch.arange(q.size(2), device=q.device)
    back = place[:, None] - place  # how far the key lies behind the query
    return scaled_dot_product_attention(q, k, v, (back >= 0) & (back < window))
