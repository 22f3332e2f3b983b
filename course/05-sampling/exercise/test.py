"""What a solution must do; `solution` is the module under test."""

import torch


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    chances = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    found = solution.min_p(chances, 0.5)
    wanted = torch.tensor([[0.625, 0.375, 0.0], [0.0, 0.0, 1.0]])
    assert torch.allclose(found, wanted), found
    assert torch.allclose(solution.min_p(chances, 0.0), chances)
