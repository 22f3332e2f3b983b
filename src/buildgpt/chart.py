"""A curve drawn in a terminal with Braille characters, two by four dots each."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

Point = tuple[float, float]

# Unicode's Braille block: the bit of each dot, by column and row.
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
LABEL = 6  # characters left of the axis
SHADE = "░"


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
    highest, lowest = (f((y for _, y in points), default=0.0) for f in (max, min))
    end = max(right, points[-1][0] if points else 0.0) or 1.0
    cells = dots(points, max(width - LABEL - 2, 1), height, end, (highest, lowest))
    rows = ["".join(chr(0x2800 + cell) for cell in row) for row in cells]
    return labelled(rows, (highest, lowest) if points else None)


def draw_over(
    points: Sequence[Point], low: Sequence[Point], high: Sequence[Point], width: int, height: int
) -> list[str]:
    """The same with a band behind the points, from `low` to `high`, as shades."""
    columns = max(width - LABEL - 2, 1)
    highest = max(y for _, y in (*high, *points))
    lowest = min(y for _, y in (*low, *points))
    end = max(points[-1][0] if points else 0.0, high[-1][0])
    cells = dots(points, columns, height, end, (highest, lowest))
    step = (highest - lowest) / height or 1.0
    rows = [["" for _ in range(columns)] for _ in range(height)]
    for column in range(columns):
        at = min(int((column + 0.5) / columns * len(high)), len(high) - 1)
        above, below = (int((highest - part[at][1]) / step) for part in (high, low))
        for row in range(height):
            shade = SHADE if above <= row <= max(above, below) else " "
            cell = cells[row][column]
            rows[row][column] = chr(0x2800 + cell) if cell else shade
    return labelled(["".join(row) for row in rows], (highest, lowest))


def dots(
    points: Sequence[Point], columns: int, height: int, end: float, ends: tuple[float, float]
) -> list[list[int]]:
    """The bits of each character, by row and column; x is from 0 to `end`, y between `ends`."""
    highest, lowest = ends
    spread = (highest - lowest) or 1.0
    cells = [[0] * columns for _ in range(height)]
    for x, y in joined(points, end / (2 * columns)):
        across = min(int(x / end * 2 * columns), 2 * columns - 1)
        down = min(int((highest - y) / spread * 4 * height), 4 * height - 1)
        cells[down // 4][across // 2] |= DOTS[across % 2][down % 4]
    return cells


def labelled(rows: list[str], ends: tuple[float, float] | None) -> list[str]:
    """Rows with an axis to their left, and the highest and lowest value, if there are any."""
    labels = {0: label(ends[0]), len(rows) - 1: label(ends[1])} if ends else {}
    return [f"{labels.get(i, ''):>{LABEL}} │{row}" for i, row in enumerate(rows)]


def label(value: float) -> str:
    """A number in at most LABEL characters."""
    exact = f"{value:.2f}"
    return exact if len(exact) <= LABEL else f"{value:.0e}"
