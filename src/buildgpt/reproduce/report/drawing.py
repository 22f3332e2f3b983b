"""The report's figures: matplotlib draws them, as SVG that stands in the page itself."""

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from . import references
from .history import Row, Run

# Mid-tones that can be told apart, also by most who see colours otherwise, on white and on black.
COLOURS = ("#3b82c4", "#d97706", "#10a37f", "#c0569e", "#8b6cd9", "#c44e52")
GREY = "#7d8590"
TEXT = "#010203"  # stands for the page's own text colour
BINS = 300  # of a thinned curve; each gives its lowest and its highest point
MARKED = 40  # points of a curve, at most, are marked each
SETTLED = 0.1  # of the tokens: what lies above the losses after them is left out of the picture
SIZE = (4.5, 2.9)  # inches of 72 points: readable on a phone, where it is as wide as the screen
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "buildgpt",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": GREY,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}

Point = tuple[float, float]


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most 2 BINS of the points: the lowest and the highest of each of BINS stretches."""
    if len(points) <= 2 * BINS:
        return list(points)
    values = np.array([y for _, y in points])
    kept: set[int] = {0, len(points) - 1}
    for part in np.array_split(np.arange(len(points)), BINS):
        kept |= {int(part[values[part].argmin()]), int(part[values[part].argmax()])}
    return [points[index] for index in sorted(kept)]


def points_of(rows: Sequence[Row], key: str, scale: float = 1.0) -> list[Point]:
    """(tokens, a figure) of each line."""
    return thinned([(row["tokens"], row[key] * scale) for row in rows])


class Picture:
    """One figure: axes to draw on, then `svg()`."""

    legend: Any = "upper right"  # its place

    def __init__(self, title: str, y: str, x: str = "tokens") -> None:
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        self.title = title
        with rc_context(STYLE):
            self.figure = Figure(figsize=SIZE, layout="constrained")
            self.axes = self.figure.add_subplot()
        self.axes.set_xlabel(x)
        self.axes.set_ylabel(y)
        if x == "tokens":
            self.axes.xaxis.set_major_formatter(lambda value, _: short(value))

    def line(
        self, points: Sequence[Point], label: str, colour: str, marked: int = 1, **style: Any
    ) -> None:
        """A curve; where it has no more points than `marked`, each is."""
        if points:
            look: dict[str, Any] = {"linewidth": 1.4, "markersize": 3, "color": colour}
            look |= style | ({"marker": "o"} if len(points) <= marked else {})
            self.axes.plot(*zip(*points), label=plain(label), **look)

    def level(self, y: float, label: str) -> None:
        """A dashed line across, with its name under it, on the left, where curves are not."""
        self.axes.axhline(y, color=GREY, linestyle="--", linewidth=1)
        look: Any = {"ha": "left", "va": "top", "fontsize": 7, "color": TEXT}
        at: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        self.axes.annotate(plain(label), (0.01, y), (0, -2), **at, **look)

    def svg(self, number: int, words: str) -> str:
        """The figure as an <svg> element; `words` say what is to be seen."""
        from matplotlib import rc_context

        with rc_context(STYLE):
            if self.axes.get_legend_handles_labels()[0]:
                self.axes.legend(loc=self.legend)
            file = io.StringIO()
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            self.figure.savefig(file, format="svg", transparent=True, metadata=nothing)
        return inlined(file.getvalue(), number, f"{self.title}: {words}")


def inlined(svg: str, number: int, words: str) -> str:
    """An SVG file as an element of a page: ids of its own, the page's text colour, no addresses."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.S)  # a style is the whole page's
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="f{number}-', svg)
    svg = svg.replace("url(#", f"url(#f{number}-").replace('href="#', f'href="#f{number}-')
    svg = svg.replace(TEXT, "currentColor")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(words)}"', 1)


def plain(text: str) -> str:
    """A label as it is: no formula between dollars, and not hidden by a leading underscore."""
    return text.replace("$", r"\$").replace("_", "\u200b_")


def short(value: float) -> str:
    """12,300,000 as 12.3M."""
    for size, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{name}"
    return f"{value:.3g}"


def loss_picture(runs: Sequence[Run], against: Run | None, number: int) -> str:
    """Loss against tokens of one run or several, with the references that hold for them."""
    picture = Picture("Loss against tokens", "nats a token")
    seen: list[float] = []
    single = len(runs) == 1
    for run, colour in zip(runs, colours(runs)):
        train, val = (points_of(run.history.series(k, "loss"), "loss") for k in ("train", "val"))
        name = "training" if single else "" if val else run.name
        picture.line(train, name, colour, linewidth=0.8, alpha=0.55 if val else 1.0)
        name = "validation" if single else run.name
        picture.line(val, name, COLOURS[1] if single else colour, MARKED)
        seen += settled(train) + settled(val)
    seen += draw_references(picture, runs, against)
    clipped = ""
    if seen:
        low, high = min(seen), max(seen)
        margin = 0.06 * (high - low) or 0.1
        picture.axes.set_ylim(low - 2 * margin, high + margin)
        clipped = "; the first losses lie above the picture"
    return picture.svg(number, described(runs) + clipped)


def settled(points: Sequence[Point]) -> list[float]:
    """The losses that the picture must hold: those after the first steep fall."""
    end = max((x for x, _ in points), default=0.0)
    return [y for x, y in points if x >= SETTLED * end]


def draw_references(picture: Picture, runs: Sequence[Run], against: Run | None) -> list[float]:
    """Levels and curves of the runs' corpora, each named with its corpus; returns their losses."""
    levels = {(v["label"], v["loss"]): v for run in runs for v in references.levels_for(run)}
    for level in levels.values():
        corpus = references.named(level["corpus"])
        picture.level(level["loss"], f"{level['label']} ({corpus}): {level['loss']:.4f}")
    curves = [references.choose(run, against)[0] for run in runs]
    drawn: dict[str, references.Curve] = {curve.label: curve for curve in curves if curve}
    furthest = max((run.step * run.recipe.train.tokens_per_step for run in runs), default=0)
    seen = [level["loss"] for level in levels.values()]
    for curve in drawn.values():
        points = [p for p in curve.points if p[0] <= 1.25 * furthest] or curve.points[:2]
        label = f"{curve.label} ({references.named(curve.corpus)})"
        picture.line(points, label, GREY, linestyle=":", linewidth=1.8)
        seen += settled(points)
    return seen


def colours(runs: Sequence[Run]) -> list[str]:
    """A colour for each run."""
    return [COLOURS[index % len(COLOURS)] for index in range(len(runs))]


def described(runs: Sequence[Run]) -> str:
    """The runs' latest losses in words."""
    words = []
    for run in runs:
        for kind, name in (("train", "training"), ("val", "validation")):
            rows = run.history.series(kind, "loss")
            if rows:
                words.append(f"{run.name}, {name} loss {rows[-1]['loss']:.4f}")
    return "; ".join(words) or "nothing measured yet"


def hellaswag_picture(runs: Sequence[Run], number: int) -> str:
    """HellaSwag's acc_norm against tokens, with chance and the published models."""
    picture = Picture("HellaSwag", "acc_norm, %")
    picture.legend = "lower right"
    words = []
    for run, colour in zip(runs, colours(runs)):
        rows = run.history.series("hellaswag", "acc_norm")
        name = run.name if len(runs) > 1 else ""
        picture.line(points_of(rows, "acc_norm", 100), name, colour, MARKED)
        words += [f"{run.name} {rows[-1]['acc_norm']:.2%}"] if rows else []
    for row in references.load()["hellaswag"]:
        percent = 100 * row["acc_norm"]
        picture.level(percent, f"{row['label']}: {percent:.4g} %")
    picture.axes.set_ylim(bottom=min(24.0, picture.axes.get_ylim()[0]))
    return picture.svg(number, "; ".join(words))


def figure_of(run: Run, kind: tuple[str, str, str], number: int) -> str:
    """A figure of the training lines against tokens: `kind` is its key, title and unit."""
    key, title, unit = kind
    rows = run.history.series("train", key)
    picture = Picture(title, unit)
    picture.line(points_of(rows, key), "", COLOURS[0], linewidth=1.0)
    if key == "grad_norm" and rows:
        usual = float(np.median([row[key] for row in rows]))
        highest = max(row[key] for row in rows)
        if highest > 20 * usual > 0:
            picture.axes.set_yscale("log")
    latest = f"{rows[-1][key]:.3g} at the end" if rows else "nothing yet"
    return picture.svg(number, latest)


def speed_picture(run: Run, number: int) -> str:
    """Tokens a second of each stretch between two lines."""
    rows = run.history.series("train", "step_seconds")
    size = run.recipe.train.tokens_per_step
    points = [(r["tokens"], size / r["step_seconds"]) for r in rows if r["step_seconds"] > 0]
    picture = Picture("Throughput", "tokens a second")
    if not points:  # metrics without step_seconds: the average so far
        rows = run.history.series("train", "tokens_per_second")
        points = [(r["tokens"], r["tokens_per_second"]) for r in rows if r["tokens_per_second"]]
    picture.line(thinned(points), "", COLOURS[0], linewidth=1.0)
    picture.axes.yaxis.set_major_formatter(lambda value, _: short(value))
    picture.axes.set_ylim(bottom=0)
    return picture.svg(number, f"{short(points[-1][1])} at the end" if points else "nothing yet")


def timeline_picture(run: Run, number: int) -> str:
    """Steps against the time the machine has worked; where the line falls, a restart lost steps."""
    picture = Picture("Attempts", "step", "hours of work")
    points = [(seconds / 3600, step) for seconds, step in run.history.timeline]
    picture.line(thinned(points), "", COLOURS[0])
    began = 0.0
    for attempt in run.history.attempts[:-1]:
        began += attempt.seconds
        picture.axes.axvline(began / 3600, color=COLOURS[1], linestyle=":", linewidth=1)
    return picture.svg(number, f"{len(run.history.attempts)} attempts, {run.step:,} steps")
