"""Published points and curves, and whether a run is on one."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .history import Run

FILE = Path(__file__).parent.parent / "references.toml"
PATIENCE = 3  # so many evaluations in a row beside the curve are no noise
SAME_SIZE = 0.05  # of the parameters: a curve belongs to a size of model
AGAINST_TOLERANCE = 0.02  # between two runs, whose training losses are noisy
GROUPS = 50  # of training losses, each averaged, where there are too few evaluations
NAMES = {"fineweb": "FineWeb", "fineweb-edu": "FineWeb-Edu"}


@dataclass(frozen=True)
class Curve:
    """Loss against tokens: `points` are (tokens, loss). Compared from `first` tokens on."""

    label: str
    corpus: str
    points: list[tuple[float, float]]
    tolerance: float
    first: float = 0.0
    parameters: int = 0  # 0: of any size
    protocol: str = ""
    source: str = ""
    date: str = ""
    measure: str = "val"  # or "train"

    def at(self, tokens: float) -> float:
        """Its loss there, on the line between two points."""
        xs, ys = zip(*self.points)
        return float(np.interp(tokens, xs, ys))

    def covers(self, tokens: float) -> bool:
        """Whether it says anything about so many tokens."""
        return max(self.first, self.points[0][0]) <= tokens <= self.points[-1][0]


def load() -> dict[str, list[dict[str, Any]]]:
    """references.toml: its levels, curves and hellaswag rows."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def corpus_of(run: Run) -> str:
    """The corpus's name: fineweb, fineweb-edu, or that of the data's folder."""
    name = Path(run.recipe.data.path).name.lower()
    if "fineweb" in name:
        return "fineweb-edu" if "edu" in name else "fineweb"
    return name


def named(corpus: str) -> str:
    """A corpus's name as its makers write it."""
    return NAMES.get(corpus, corpus or "no corpus")


def levels_for(run: Run) -> list[dict[str, Any]]:
    """The published losses that hold for this run's corpus and tokenizer."""
    if run.tokenizer not in ("", "gpt2"):
        return []
    return [level for level in load()["level"] if level["corpus"] == corpus_of(run)]


def curve_for(run: Run) -> Curve | None:
    """The published curve of this run's corpus and tokenizer, if there is one."""
    if run.tokenizer not in ("", "gpt2"):
        return None
    for row in load()["curve"]:
        if row["corpus"] == corpus_of(run):
            size = row.pop("tokens_per_step")
            points = [(float(step * size), loss) for step, loss in row.pop("points")]
            return Curve(points=points, first=row.pop("from_step") * size, **row)
    return None


def curve_of(other: Run, measure: str) -> Curve | None:
    """Another run's losses as a curve; None where it has none."""
    points = [(tokens, loss) for _, tokens, loss in measured(other, measure)]
    if not points:
        return None
    label = f"the run {other.name}"
    return Curve(label, corpus_of(other), points, AGAINST_TOLERANCE, measure=measure)


def measured(run: Run, measure: str) -> list[tuple[int, float, float]]:
    """(step, tokens, loss) of every evaluation, or of training in GROUPS averages."""
    rows = run.history.series(measure, "loss")
    if measure == "val":
        return [(row["step"], row["tokens"], row["loss"]) for row in rows]
    groups = np.array_split(np.arange(len(rows)), min(GROUPS, len(rows) or 1))
    found = []
    for group in ([rows[index] for index in indices] for indices in groups if len(indices)):
        tokens, loss = (float(np.mean([row[key] for row in group])) for key in ("tokens", "loss"))
        found.append((group[-1]["step"], tokens, loss))
    return found


def judge(run: Run, parameters: int | None, against: Run | None) -> dict[str, Any]:
    """Whether the run is on its reference curve: {status, sentence, left_at_step, deviation, ...}.

    status is on, left, back (left and returned), few (too little to say) or none (no reference).
    """
    if not run.history.rows["train"] and not run.history.rows["val"]:
        return verdict("none", "Nothing has been measured yet, so there is nothing to compare.")
    curve, measure, reason = choose(run, against)
    if curve is None:
        return verdict("none", reason)
    if curve.parameters and parameters and not same_size(parameters, curve.parameters):
        return verdict(
            "none",
            f"The curve for {named(curve.corpus)}, of {curve.label}, is of a model of"
            f" {curve.parameters:,} parameters; this one has {parameters:,}. It is drawn, but says"
            " little about this run.",
            curve,
        )
    points = [point for point in measured(run, measure) if curve.covers(point[1])]
    return compare(points, curve)


def same_size(parameters: int, of: int) -> bool:
    """Whether two models are of about the same size."""
    return abs(parameters / of - 1) <= SAME_SIZE


def choose(run: Run, against: Run | None) -> tuple[Curve | None, str, str]:
    """The curve to hold a run against, what to compare, and else why there is none."""
    corpus = named(corpus_of(run))
    if against is None:
        curve = curve_for(run)
        if curve:
            return curve, "val", ""
        reason = f"There is no reference for the corpus {corpus}"
        if corpus_of(run) in NAMES:
            reason = (
                f"The references for {corpus} hold for GPT-2's tokenizer, not for {run.tokenizer}"
            )
        return None, "val", f"{reason}; --against RUN compares with another run."
    if (corpus_of(against), against.tokenizer) != (corpus_of(run), run.tokenizer):
        theirs = f"{named(corpus_of(against))} ({against.tokenizer})"
        reason = f"{against.name} was trained on {theirs}, this run on {corpus} ({run.tokenizer})"
        return None, "val", f"{reason}: their losses cannot be compared."
    few = min(len(each.history.series("val", "loss")) for each in (run, against)) < PATIENCE
    measure = "train" if few else "val"
    return curve_of(against, measure), measure, f"{against.name} has no losses to compare with."


def compare(points: Sequence[tuple[int, float, float]], curve: Curve) -> dict[str, Any]:
    """Points against a curve: off it where PATIENCE in a row lie beyond the tolerance on a side.

    A single point may be noise; the step from which the run left is that of the first in the row.
    """
    if not points:
        start = f"from {curve.first / 1e9:.2g}B tokens on" if curve.first else "on its tokens"
        words = f"No loss has been measured yet where {of(curve)} can be compared ({start})."
        return verdict("few", words, curve)
    ratios = [loss / curve.at(tokens) - 1 for _, tokens, loss in points]
    sides = [int(np.sign(ratio)) * (abs(ratio) > curve.tolerance) for ratio in ratios]
    streaks = [streak for streak in runs_of(sides) if streak[0] and streak[2] >= PATIENCE]
    latest = words_of_latest(points[-1], ratios[-1], curve)
    if streaks and streaks[-1][1] + streaks[-1][2] == len(points):
        return left(points, streaks[-1], latest, curve, ratios[-1])
    if streaks:
        side, first, length = streaks[-1]
        began, end = points[first][0], points[first + length - 1][0]
        words = f"Back on the reference curve, {of(curve)}, after lying {where(side)} it from step"
        words += f" {began:,} to {end:,}: {latest}."
        return verdict("back", words, curve, began, ratios[-1])
    if len(points) < PATIENCE:
        words = f"Too few {kind(curve)} to say (fewer than {PATIENCE}): {latest}."
        return verdict("few", words, curve, None, ratios[-1])
    doubt = f" Fewer than {PATIENCE} in a row lie beside it: it may be noise." if sides[-1] else ""
    words = f"On the reference curve, {of(curve)}: {latest}.{doubt}"
    return verdict("on", words, curve, None, ratios[-1])


def left(points: Any, streak: Any, latest: str, curve: Curve, ratio: float) -> dict[str, Any]:
    """The verdict on a run that is beside its curve now."""
    side, first, length = streak
    words = (
        f"Left the reference curve, {of(curve)}, at step {points[first][0]:,}: since then"
        f" {length} {kind(curve)} in a row lie more than {curve.tolerance:.0%} {where(side)} it;"
        f" {latest}."
    )
    if side < 0:
        words += " Lower is better, unless the validation split is another one."
    return verdict("left", words, curve, points[first][0], ratio)


def runs_of(sides: Sequence[int]) -> list[tuple[int, int, int]]:
    """Stretches of equal values: (value, index of the first, length)."""
    found: list[tuple[int, int, int]] = []
    for index, side in enumerate(sides):
        if found and found[-1][0] == side:
            found[-1] = (side, found[-1][1], found[-1][2] + 1)
        else:
            found.append((side, index, 1))
    return found


def words_of_latest(point: tuple[int, float, float], ratio: float, curve: Curve) -> str:
    """Where the newest point lies."""
    step, tokens, loss = point
    there = f"{abs(ratio):.1%} {where(1 if ratio >= 0 else -1)} the curve's {curve.at(tokens):.4f}"
    return f"the latest, of step {step:,}, is {loss:.4f}, {there}"


def of(curve: Curve) -> str:
    """The curve's name, with its corpus."""
    return f"{curve.label} on {named(curve.corpus)}"


def where(side: int) -> str:
    return "above" if side > 0 else "below"


def kind(curve: Curve) -> str:
    return "evaluations" if curve.measure == "val" else "averages of the training loss"


def verdict(
    status: str,
    sentence: str,
    curve: Curve | None = None,
    left_at: int | None = None,
    deviation: float | None = None,
) -> dict[str, Any]:
    """What `judge` returns."""
    found: dict[str, Any] = {"status": status, "sentence": sentence}
    found |= {"left_at_step": left_at, "deviation": deviation}
    if curve:
        keys = ("label", "corpus", "tolerance", "protocol", "source", "date")
        found["curve"] = {key: getattr(curve, key) for key in keys}
    return found
