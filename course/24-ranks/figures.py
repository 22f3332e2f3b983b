"""The figures that lesson 24 quotes: name -> (value, how it is shown, tolerance)."""


def published(ranks, read, shard, steps):
    """Steps in which the published loader's ranks read different files, and how far they are."""
    places = [[0, rank * read] for rank in range(ranks)]
    apart = 0
    for _ in range(steps):
        apart += len({file for file, _ in places}) > 1
        for rank, place in enumerate(places):
            place[1] += ranks * read
            if place[1] + ranks * read + 1 > shard:
                place[:] = [place[0] + 1, rank * read]
    total = [file * (shard // (ranks * read)) + at // (ranks * read) for file, at in places]
    return apart, max(total) - min(total)


apart, ahead = published(8, 64 * 1024, 100_000_000, 19_073)

FIGURES = {
    "steps apart": (apart, "{:,.0f}", 0.1),
    "steps ahead": (ahead, "{:.0f}", 0.1),
}
