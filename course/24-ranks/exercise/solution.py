"""The published loader, written down."""


def steps_apart(ranks: int, read: int, shard: int, steps: int) -> int:
    """How many of a run's steps have ranks in different files; each of them has `shard` tokens."""
    places = [(0, rank * read) for rank in range(ranks)]  # file, token
    apart = 0
    for _ in range(steps):
        apart += len({file for file, _ in places}) > 1
        for rank, (file, token) in enumerate(places):
            token += ranks * read
            over = token + ranks * read + 1 > shard
            places[rank] = (file + 1, rank * read) if over else (file, token)
    return apart
