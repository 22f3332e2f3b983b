"""What a solution must do; `solution` is the module under test."""


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    cases = {
        (1, 64, 1000, 500): 0,
        (2, 10, 101, 12): 3,
        (2, 10, 95, 20): 0,
        (4, 10, 215, 30): 20,
        (8, 64 * 1024, 100_000_000, 19_073): 5050,
        (8, 16 * 1024, 100_000_000, 4 * 19_073): 0,
    }
    for words, wanted in cases.items():
        found = solution.steps_apart(*words)
        assert found == wanted, f"ranks, read, shard, steps = {words}: {found}"
