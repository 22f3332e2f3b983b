"""A curve drawn in a terminal with Braille characters, two by four dots each."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

Point = tuple[float, float]

# Unicode's Braille block: the bit of each dot, by column and row.
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
LABEL = 6  # characters left of the axis


def joined(points: Sequence[Point], gap: float) -> Iterator[Point]:
    """The points, with more on the line between two that are further apart than `gap` in x."""
    yield from points[:1]
    for (x0, y0), (x1, y1) in pairwise(points):
        pieces = int((x1 - x0) / gap) + 1
        for piece in range(1, pieces + 1):
            yield x0 + (x1 - x0) * piece / pieces, y0 + (y1 - y0) * piece / pieces


def draw(points: Sequence[Point], width: int, height: int, right: float = 0.0) -> list[str]:
    """The points as `height` lines of `width` characters, y from highest to lowest value.

    The x axis goes from 0 to `right`, or to the last point where that lies further on.
    """
    columns = max(width - LABEL - 2, 1)
    highest, lowest = (f((y for _, y in points), default=0.0) for f in (max, min))
    spread = (highest - lowest) or 1.0
    end = max(right, points[-1][0] if points else 0.0) or 1.0
    cells = [[0] * columns for _ in range(height)]
    for x, y in joined(points, end / (2 * columns)):
        across = min(int(x / end * 2 * columns), 2 * columns - 1)
        down = min(int((highest - y) / spread * 4 * height), 4 * height - 1)
        cells[down // 4][across // 2] |= DOTS[across % 2][down % 4]
    labels = {0: label(highest), height - 1: label(lowest)} if points else {}
    return [
        f"{labels.get(row, ''):>{LABEL}} │" + "".join(chr(0x2800 + cell) for cell in cells[row])
        for row in range(height)
    ]


def label(value: float) -> str:
    """A number in at most LABEL characters."""
    exact = f"{value:.2f}"
    return exact if len(exact) <= LABEL else f"{value:.0e}"
