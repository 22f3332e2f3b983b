"""The site's figures, drawn as SVG within the page from what is recorded.

Their colours are the page's own, so that they are light and dark as it is. Each says in words what
is to be seen.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from buildgpt.course import curves, gallery, prose
from buildgpt.course.series import Lesson, Series

WIDTH, HEIGHT = 360, 230  # of a chart; a telephone shows it as it is
LEFT, RIGHT, TOP, BOTTOM = 46, 348, 28, 192  # of what is between the axes
CELL = 16  # of a map
LOOKS = ("first", "second", "third")  # of lines, in site.css

Point = tuple[float, float]


# What is drawn, and where.


def after_step(series: Series, step: str) -> list[str]:
    """The figures that belong below a step, by its id."""
    recorded = prose.records(series.course)
    return [BELOW[step](recorded)] if step in BELOW else []


def band(series: Series, lesson: Lesson) -> list[str]:
    """The band that `course curve` holds a learner's loss against, for a lesson that has one."""
    recorded = curves.records(series.course)["curves"].get(lesson.name)
    if not recorded:
        return []
    found, seeds = curves.band_of(series, lesson), recorded["seeds"]
    low, high = found.edges()
    mean = [*enumerate(found.mean, 1)]
    y = Axis.around([loss for _, loss in low + high], (BOTTOM, TOP), "loss")
    x = Axis((1, len(mean)), (LEFT, RIGHT), "step", (1, *round_numbers(1, len(mean))))
    edge = path_of(x, y, low + high[::-1])
    marks = [f'<polygon class="band" points="{edge}"/>', line(x, y, mean, "first")]
    words = (
        f"the mean loss of {seeds} runs is a line that falls from {mean[0][1]:.2f} at step 1 to"
        f" {mean[-1][1]:.2f} at step {len(mean)}; the band around it reaches from"
        f" {low[-1][1]:.2f} to {high[-1][1]:.2f} there"
    )
    caption = (
        f"The loss of {seeds} runs of the reference's code, each with another seed: their mean, and"
        f" {found.width:g} standard deviations to either side. <code>buildgpt course curve</code>"
        " draws yours over it."
    )
    drawn = chart("A band of losses", words, x, y, marks, [("mean of the seeds", "first")])
    return [figure(drawn, caption)]


def rates(recorded: dict[str, Any]) -> str:
    """The learning rate of each step, by lesson 12's own functions."""
    by_name = recorded["drawn"]["rates"]
    highest, steps = max(map(max, by_name.values())), len(by_name["cosine"])
    x = Axis((1, steps), (LEFT, RIGHT), "step", (1, *round_numbers(1, steps)))
    y = Axis((0, highest), (BOTTOM, TOP), "rate", tuple(round_numbers(0, highest)))
    curves_of = {name: [*enumerate(values, 1)] for name, values in by_name.items()}
    ends = " and ".join(f"{values[-1]:.4f} with {name}" for name, values in by_name.items())
    full = by_name["cosine"].index(highest) + 1
    words = (
        f"the learning rate rises in a straight line to {highest:g} at step {full}; with cosine it"
        " falls from there on in half a wave, with wsd it stays and falls at the end in a straight"
        f" line; at step {steps} it is {ends}"
    )
    caption = f"The rate of each of {steps} steps, computed by this lesson's <code>optim.py</code>."
    return figure(lines("Two schedules", words, x, y, curves_of), caption)


def shares(recorded: dict[str, Any]) -> str:
    """Who looks at whom: a row for who asks, a column for who is asked; nothing of the future."""
    text, rows = (recorded["drawn"]["shares of one head"][key] for key in ("text", "shares"))
    letters = [escape(letter).replace(" ", "␣") for letter in text]
    edge, side = 30, CELL * len(text)
    marks = []
    for row, (asks, given) in enumerate(zip(letters, rows)):
        middle = edge + CELL * row + CELL / 2
        marks += [letter(edge - 10, middle, asks), letter(middle, edge - 10, asks)]
        for column, share in enumerate(given[: row + 1]):
            told = f"{asks} gathers {100 * share:.0f} % from {letters[column]}"
            marks.append(cell(edge + CELL * column, edge + CELL * row, share, told))
    marks.append(label(edge + side / 2, 9, "is asked", "middle"))
    marks.append(sideways(9, edge + side / 2, "asks"))
    strongest = max(range(1, len(rows)), key=lambda row: max(rows[row]))
    column = rows[strongest].index(max(rows[strongest]))
    words = (
        f"a square of {len(text)} by {len(text)} fields, a row for each letter of “{text}” that"
        " asks and a column for each that is asked; only the fields on and below the diagonal are"
        f" there; the strongest after the first letter's own: the {text[strongest]} at place"
        f" {strongest + 1} gathers {100 * rows[strongest][column]:.0f} % from place {column + 1}"
    )
    caption = (
        "What each letter gathers from those before it and from itself, in the trained head: the"
        " stronger its colour, the more. Each row adds up to 1, and the future has no fields."
    )
    size = edge + side + 8
    return figure(svg("An attention map", words, (size, size), marks), caption)


def memory(recorded: dict[str, Any]) -> str:
    """What attention keeps, over the length of a sequence."""
    table = numbers(recorded["outputs"]["21-attention/fused"])
    by_name = {
        "written out": [(row[0], row[1]) for row in table],
        "kernel": [(row[0], row[3]) for row in table],
    }
    words = told_of_lengths("the megabytes that attention keeps", by_name, "MB")
    caption = "What attention keeps for the backward pass of 4096 tokens, by the table above."
    return figure(over_lengths("Memory over length", words, "MB", by_name), caption)


def times(recorded: dict[str, Any]) -> str:
    """How long attention takes, over the length of a sequence."""
    table = numbers(recorded["outputs"]["21-attention/halves"])
    names = ("written out", "in halves", "kernel")
    by_name = {name: [(row[0], row[i]) for row in table] for i, name in enumerate(names, 1)}
    words = told_of_lengths("the milliseconds that attention takes", by_name, "ms")
    caption = "How long the three take, by the table above. Where lines cross, another one is best."
    return figure(over_lengths("Time over length", words, "ms", by_name), caption)


BELOW = {
    "06-head/positions": shares,
    "12-schedule/wsd": rates,
    "21-attention/fused": memory,
    "21-attention/halves": times,
}


def losses(pictures: Sequence[gallery.Picture]) -> str:
    """The loss of each model of the gallery, as bars."""
    high, row = max(picture.loss for picture in pictures), 30
    marks = []
    for place, picture in enumerate(pictures):
        top, length = row * place, round(300 * picture.loss / high, 2)
        short = re.split("[:,]", picture.what)[0]
        marks.append(label(0, top + 12, f"Lesson {picture.lesson}: {escape(short)}", "start"))
        marks.append(f'<rect class="bar" x="0" y="{top + 16}" width="{length}" height="8"/>')
        marks.append(label(length + 6, top + 24, f"{picture.loss:.2f}", "start"))
    first, last = pictures[0], pictures[-1]
    longer = [f"lesson {b.lesson}'s" for a, b in pairwise(pictures) if b.loss >= a.loss]
    but = f", but for {' and '.join(longer)}" if longer else ""
    words = (
        f"{len(pictures)} bars, one for each model, from {first.loss:.2f} in lesson {first.lesson}"
        f" to {last.loss:.2f} in lesson {last.lesson}; each is shorter than the one before{but}"
    )
    caption = "The loss of each model below, on the same sequences; less is better."
    return figure(svg("Losses", words, (WIDTH, row * len(pictures)), marks), caption)


def told_of_lengths(what: str, by_name: dict[str, list[Point]], unit: str) -> str:
    """A table's first and last line in words."""
    each = (
        f"{name} {points[0][1]:g} {unit} at {points[0][0]:g} tokens and {points[-1][1]:g} {unit}"
        f" at {points[-1][0]:g}"
        for name, points in by_name.items()
    )
    return f"{what}, over the length of a sequence: {'; '.join(each)}"


def numbers(output: str) -> list[list[float]]:
    """The lines of a demo's output that begin with a number, as numbers."""
    found = [line for line in output.splitlines() if re.match(r" *\d+ ", line)]
    return [[float(part) for part in re.findall(r"[\d.]+", line)] for line in found]


# Axes.


@dataclass(frozen=True)
class Axis:
    """Numbers between two ends, laid between two places; by doublings where `doubling`."""

    ends: Point
    places: Point
    name: str
    ticks: tuple[float, ...]
    doubling: bool = False

    @classmethod
    def around(cls, values: Iterable[float], places: Point, name: str) -> "Axis":
        """One that has room for all values."""
        low, high = min(values := [*values]), max(values)
        return cls((low, high), places, name, tuple(round_numbers(low, high)))

    def at(self, value: float) -> float:
        """The place of a number."""
        low, high = self.ends
        if self.doubling:
            low, high, value = math.log2(low), math.log2(high), math.log2(value)
        start, stop = self.places
        return round(start + (stop - start) * (value - low) / (high - low), 2)


def round_numbers(low: float, high: float) -> list[float]:
    """Three to seven round numbers between two."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough)
    first, last = math.ceil(low / step), math.floor(high / step + 1e-9)
    return [round(step * number, 10) for number in range(first, last + 1)]


# Drawing.


def lines(title: str, words: str, x: Axis, y: Axis, by_name: dict[str, list[Point]]) -> str:
    """Curves with their names."""
    looks = dict(zip(by_name, LOOKS))
    marks = [line(x, y, points, looks[name]) for name, points in by_name.items()]
    return chart(title, words, x, y, marks, [*looks.items()])


def over_lengths(title: str, words: str, unit: str, by_name: dict[str, list[Point]]) -> str:
    """Curves over lengths that double."""
    lengths = [length for length, _ in next(iter(by_name.values()))]
    x = Axis((lengths[0], lengths[-1]), (LEFT, RIGHT), "tokens", tuple(lengths), doubling=True)
    highest = max(value for points in by_name.values() for _, value in points)
    y = Axis((0, highest), (BOTTOM, TOP), unit, tuple(round_numbers(0, highest)))
    return lines(title, words, x, y, by_name)


def chart(
    title: str, words: str, x: Axis, y: Axis, marks: list[str], legend: list[tuple[str, str]]
) -> str:
    """Marks between two axes, below the names of the lines."""
    frame = [f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>']
    for tick in x.ticks:
        frame.append(label(x.at(tick), BOTTOM + 15, f"{tick:g}", "middle", "x"))
    for tick in y.ticks:
        place = y.at(tick)
        frame.append(f'<path class="grid" d="M{LEFT} {place}H{RIGHT}"/>')
        frame.append(label(LEFT - 6, place + 4, f"{tick:g}", "end", "y"))
    frame.append(label((LEFT + RIGHT) / 2, HEIGHT - 6, x.name, "middle"))
    frame.append(sideways(10, (TOP + BOTTOM) / 2, y.name))
    for place, (name, look) in enumerate(legend):
        left = LEFT + 8 + 104 * place
        frame.append(f'<g class="{look}"><path class="line" d="M{left} 11h22"/></g>')
        frame.append(label(left + 27, 15, name, "start"))
    return svg(title, words, (WIDTH, HEIGHT), frame + marks)


def path_of(x: Axis, y: Axis, points: Sequence[Point]) -> str:
    """Points as SVG writes them."""
    return " ".join(f"{x.at(a)},{y.at(b)}" for a, b in points)


def line(x: Axis, y: Axis, points: Sequence[Point], look: str) -> str:
    """A curve; few points are marked each."""
    few = len(points) < 20
    dots = [f'<circle cx="{x.at(a)}" cy="{y.at(b)}" r="2.5"/>' for a, b in points if few]
    curve = f'<polyline class="line" points="{path_of(x, y, points)}"/>'
    return f'<g class="{look}">{curve}{"".join(dots)}</g>'


def label(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    """Words beside what they belong to."""
    what = f' class="{kind}"' if kind else ""
    return f'<text{what} x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'


def sideways(x: float, y: float, words: str) -> str:
    """An axis's name that is read from below."""
    return f'<text transform="translate({x} {y}) rotate(-90)" text-anchor="middle">{words}</text>'


def letter(x: float, y: float, words: str) -> str:
    """A letter in the middle of a field."""
    return f'<text class="letter" x="{x}" y="{y + 4}" text-anchor="middle">{words}</text>'


def cell(x: float, y: float, share: float, words: str) -> str:
    """A field of a map; words come up where the mouse is."""
    at = f'x="{x}" y="{y}" width="{CELL}" height="{CELL}"'
    return f'<rect class="share" {at} fill-opacity="{share}"><title>{words}</title></rect>'


def svg(title: str, words: str, size: Point, marks: list[str]) -> str:
    """A drawing, which says to who does not see it what is to be seen."""
    told = f'role="img" aria-label="{escape(title)}: {escape(words)}."'
    inside = "".join(marks)
    return (
        f'<svg viewBox="0 0 {size[0]:g} {size[1]:g}" {told}><title>{escape(title)}</title>{inside}'
        "</svg>"
    )


def figure(drawn: str, caption: str) -> str:
    """A drawing and what it is, as one block of HTML: Markdown ends it at an empty line."""
    return f'<figure class="drawn">\n{drawn}\n<figcaption>{caption}</figcaption>\n</figure>'
