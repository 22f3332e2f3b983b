"""What a solution must do; `solution` is the module under test."""

import math

import numpy as np


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    counts, loss = solution.count_bigrams(np.array([0, 1, 0, 2, 0, 1]), 4)
    assert counts.shape == (4, 4)
    assert (counts[0, 1], counts[0, 2], counts[1, 0], counts[3].sum()) == (2, 1, 1, 0)
    wanted = -(2 * math.log(2 / 3) + math.log(1 / 3)) / 5
    assert math.isclose(loss, wanted), f"the loss is {loss}, not {wanted}"
