"""What a solution must do; `solution` is the module under test."""

import math


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    cases = {
        (1, 0, 0, 0, 1, 6.0): 1.0,
        (0, 1, 1, 1, 1, 12.0): 1.0,
        (123_653_376, 12, 768, 1024, 9_999_745_024, 1e14): 85_514.5,
        (100, 2, 8, 16, 10, 10.0): 3672.0,
    }
    for words, wanted in cases.items():
        found = solution.plan(*words)
        assert math.isclose(found, wanted, rel_tol=1e-3), f"plan{words}: {found}, not {wanted}"
