"""What a solution must do; `solution` is the module under test."""

import math

import torch


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    for heads, time in ((1, 1), (1, 3), (4, 5), (8, 16)):
        found = solution.alibi(heads, time)
        assert tuple(found.shape) == (heads, time, time), f"{heads} heads: {tuple(found.shape)}"
        for head in range(heads):
            slope = 2.0 ** (-8 * (head + 1) / heads)
            for asks in range(time):
                for seen in range(time):
                    wanted = -slope * (asks - seen) if seen <= asks else -math.inf
                    got = found[head, asks, seen].item()
                    where = f"{heads} heads, head {head}, {asks} asks {seen}"
                    assert math.isclose(got, wanted, abs_tol=1e-6), f"{where}: {got}"
        assert torch.equal(found[0].diagonal(), torch.zeros(time))
