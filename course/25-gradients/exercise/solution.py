"""All-reduce around a ring."""

from collections.abc import Iterator


def ring(parts: list[list[float]]) -> Iterator[list[tuple[int, float]]]:
    """Add up parts[rank][piece] over all ranks, in place; there are as many pieces as ranks.

    Yields for each round what each rank sends to its right neighbour: a piece's number and value.
    First each piece travels once around and collects, then its sum travels once around.
    """
    ranks = len(parts)
    for round_ in range(2 * (ranks - 1)):
        collects = round_ < ranks - 1
        numbers = [(rank - round_) % ranks for rank in range(ranks)]
        sent = [(number, parts[rank][number]) for rank, number in enumerate(numbers)]
        for rank, (number, value) in enumerate(sent):
            right = parts[(rank + 1) % ranks]
            right[number] = right[number] + value if collects else value
        yield sent
