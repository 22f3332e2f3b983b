"""What a solution must do; `solution` is the module under test."""

import torch

from gpt.model import attend_by_hand


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    torch.manual_seed(1)
    q, k, v = torch.randn(3, 2, 2, 9, 4, dtype=torch.float64)
    wide = solution.attend_near(q, k, v, 9)
    assert torch.allclose(wide, attend_by_hand(q, k, v)), "a window of everything is no window"
    assert torch.allclose(solution.attend_near(q, k, v, 1), v), "with 1 each sees itself alone"
    for window in (2, 5):
        found = solution.attend_near(q, k, v, window)
        for place in range(9):
            near = slice(max(0, place - window + 1), place + 1)
            last = attend_by_hand(q[:, :, [place]], k[:, :, near], v[:, :, near])
            assert torch.allclose(found[:, :, [place]], last), f"window {window}, token {place}"
