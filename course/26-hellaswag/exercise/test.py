"""What a solution must do; `solution` is the module under test."""

import math


def answers(both: int, only_one: int, only_other: int, neither: int) -> tuple[list, list]:
    """Two models' answers, by how many items which of them has right."""
    one = [True] * (both + only_one) + [False] * (only_other + neither)
    other = [True] * both + [False] * only_one + [True] * only_other + [False] * neither
    return one, other


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    cases = {
        (3, 0, 0, 4): 1.0,
        (0, 1, 1, 0): 1.0,
        (5, 1, 0, 5): 1.0,
        (0, 5, 0, 0): 0.0625,
        (90, 0, 10, 7): 0.001953125,
        (4, 2, 6, 1): 0.2890625,
    }
    for counts, wanted in cases.items():
        found = solution.differ(*answers(*counts))
        assert math.isclose(found, wanted), f"both, one, other, neither = {counts}: {found}"
