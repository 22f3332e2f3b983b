"""What a solution must do; `solution` is the module under test."""


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    for ranks in (1, 2, 3, 8):
        parts = [[float(10**3 * rank + piece) for piece in range(ranks)] for rank in range(ranks)]
        wanted = [sum(column) for column in zip(*parts)]
        rounds = list(solution.ring(parts))
        assert len(rounds) == 2 * (ranks - 1), f"{ranks} ranks: {len(rounds)} rounds"
        assert all(len(sent) == ranks for sent in rounds), "a rank sends one piece a round"
        assert all(part == wanted for part in parts), f"{ranks} ranks: {parts}, not {wanted}"
