"""What a solution must do; `solution` is the module under test."""


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    for losses, patience, wanted in (
        ([3.0], 2, 0),
        ([3.0, 2.0, 2.5, 2.6], 2, 1),
        ([3.0, 2.0, 2.5, 1.0], 5, 3),
        ([3.0, 2.0, 2.5, 2.6, 1.0], 2, 1),  # the last one is never seen
        ([3.0, 2.0, 2.5, 1.0], 2, 3),
        ([2.0, 2.0, 2.0], 1, 0),
    ):
        found = solution.best(losses, patience)
        assert found == wanted, f"{losses}, patience {patience}: {wanted}, not {found}"
