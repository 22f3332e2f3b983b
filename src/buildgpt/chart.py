"""A curve drawn in a terminal with Braille characters, two by four dots each."""

from collections.abc import Sequence

Point = tuple[float, float]

# Unicode's Braille block: the bit of each dot, by column and row.
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
LABEL = 6  # characters left of the axis


def draw(points: Sequence[Point], width: int, height: int, right: float = 0.0) -> list[str]:
    """The points as `height` lines of `width` characters, y from highest to lowest value.

    The x axis goes from 0 to `right`, or to the last point where that lies further on.
    """
    columns = max(width - LABEL - 2, 1)
    highest, lowest = (f((y for _, y in points), default=0.0) for f in (max, min))
    spread = (highest - lowest) or 1.0
    end = max(right, points[-1][0] if points else 0.0) or 1.0
    cells = [[0] * columns for _ in range(height)]
    for x, y in points:
        across = min(int(x / end * 2 * columns), 2 * columns - 1)
        down = min(int((highest - y) / spread * 4 * height), 4 * height - 1)
        cells[down // 4][across // 2] |= DOTS[across % 2][down % 4]
    labels = {0: f"{highest:.2f}", height - 1: f"{lowest:.2f}"} if points else {}
    return [
        f"{labels.get(row, ''):>{LABEL}} │" + "".join(chr(0x2800 + cell) for cell in cells[row])
        for row in range(height)
    ]
