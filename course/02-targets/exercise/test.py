"""What a solution must do; `solution` is the module under test."""


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    for tokens in range(2, 40):
        for context in range(1, 20):
            read = {i * context + j for i in range(40) for j in range(context + 1)}
            last = max((i + 1) * context for i in range(-1, 40) if (i + 1) * context < tokens)
            assert solution.dropped(tokens, context) == tokens - 1 - last, (tokens, context)
            assert read
    assert solution.dropped(10, 3) == 0
    assert solution.dropped(12, 3) == 2
