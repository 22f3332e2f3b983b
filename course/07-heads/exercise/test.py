"""What a solution must do; `solution` is the module under test."""

import torch

from gpt.model import attend_by_hand


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    q, k, v = torch.randn(2, 6, 5, 4), torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 4)
    found = solution.attend_grouped(q, k, v)
    assert found.shape == q.shape, "(B, H, T, D)"
    for head in range(6):
        own = slice(head // 2, head // 2 + 1)
        wanted = attend_by_hand(q[:, head : head + 1], k[:, own], v[:, own])
        assert torch.allclose(found[:, head : head + 1], wanted, atol=1e-6), f"head {head}"
