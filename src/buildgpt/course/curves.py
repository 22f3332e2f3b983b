"""A learner's loss over the band of several recorded seeds: where does it leave it?

course/NN-name/curve.py  STEPS, and losses(mine, text, seed): a short run with their code;
                         UNTIL, if there is one, the lesson from which on its band says nothing;
                         WIDTH and IN_A_ROW, where seeds are further apart, and for longer
course/curves.json       the band of each, as `tools/course.py curves` recorded it
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, pvariance
from typing import Any

from .checking import small_trainer
from .folder import Folder, wrong
from .runner import steps_done
from .series import Lesson, Series
from .trying import call, failed, script

WIDTH = 2.0  # the band: so many standard deviations to either side of the mean
IN_A_ROW = 5  # steps outside, all above or all below, until a run has left it
# The same where there is attention, which is learnt earlier or later, and stays ahead or behind.
ATTENDING = 3.0, 8
# Where runs end, the mean loss of their last third: as far from the middle of many seeds as the
# farthest of them, and half as far again.
LAST, ROOM = 3, 0.5
SMOOTH = 5  # the spread at a step is that of so many steps before and after it, too
SEED = 1337


@dataclass(frozen=True)
class Band:
    """Of each step, from 1 on: the mean loss of the recorded seeds, and its standard deviation.

    A run has left it after `in_a_row` steps that are more than `width` deviations off. One that
    stays within may still end, in the mean of its last third, below or above all seeds: `end`.
    """

    mean: list[float]
    spread: list[float]
    width: float = WIDTH
    in_a_row: int = IN_A_ROW
    end: Sequence[float] = (-math.inf, math.inf)  # the lowest and the highest

    @classmethod
    def of(cls, runs: list[list[float]]) -> "Band":
        """The band of several runs of equal length."""
        steps = [*zip(*runs)]
        variances = [pvariance(step) * len(runs) / (len(runs) - 1) for step in steps]
        around = [variances[max(i - SMOOTH, 0) : i + SMOOTH + 1] for i in range(len(steps))]
        spread = [math.sqrt(mean(part)) for part in around]
        return cls([mean(step) for step in steps], spread)

    def sides(self, losses: list[float]) -> list[int]:
        """Of each step: 1 above the band, -1 below it, 0 within. What is no number is above."""
        found = []
        for loss, middle, spread in zip(losses, self.mean, self.spread):
            off = (loss - middle) / spread
            found.append(0 if abs(off) <= self.width else -1 if off < 0 else 1)
        return found

    def leaves(self, losses: list[float]) -> tuple[int, int] | None:
        """(step, side) where a run leaves the band for `in_a_row` steps or more; None if never."""
        sides, row = self.sides(losses), self.in_a_row
        for first in range(len(sides) - row + 1):
            if abs(sum(sides[first : first + row])) == row:
                return first + 1, sides[first]
        return None

    def ends(self, losses: list[float]) -> int:
        """1 if a run ends above all seeds, -1 if below, else 0. What is no number is above."""
        low, high = self.end
        last = ending(losses)
        return -1 if last < low else 0 if last <= high else 1

    def edges(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """The lower and the upper one, as points (step, loss)."""
        both = [*zip(self.mean, self.spread)]
        low, high = ([m + side * self.width * s for m, s in both] for side in (-1, 1))
        return [*enumerate(low, 1)], [*enumerate(high, 1)]

    def longest(self, losses: list[float]) -> int:
        """How many steps in a row a run is outside, on one side, at most."""
        longest = row = last = 0
        for side in self.sides(losses):
            row = row + 1 if side and side == last else abs(side)
            longest, last = max(longest, row), side
        return longest


def ending(losses: list[float]) -> float:
    """The mean loss of a run's last third."""
    return mean(losses[-(len(losses) // LAST) :])


def ends_of(runs: list[list[float]]) -> tuple[float, float]:
    """How low and how high a run may end, by where many have ended."""
    last = [ending(run) for run in runs]
    middle = mean(last)
    low, high = (middle + (1 + ROOM) * (edge - middle) for edge in (min(last), max(last)))
    return low, high


def records(course: Path) -> dict[str, Any]:
    """What was recorded: "curves" by lesson, and on what machine."""
    path = course / "curves.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"curves": {}}


def lesson_with_curve(folder: Folder) -> Lesson:
    """The latest lesson that is done, or at hand, whose curve was recorded."""
    known = records(folder.series.course)["curves"]
    done = [lesson for lesson in folder.series.lessons if lesson.number < folder.lesson.number]
    here = [] if folder.step else [folder.lesson]
    found = [lesson for lesson in [*done, *here] if lesson.name in known]
    if found and not is_over(found[-1], folder):
        return found[-1]
    to_come = (x for x in folder.series.lessons if x.number >= folder.lesson.number)
    coming = next((x for x in to_come if x.name in known), folder.lesson)
    raise wrong(f"there is a curve at the end of lesson {coming.number}, which trains a model")


def is_over(lesson: Lesson, folder: Folder) -> bool:
    """Whether the lesson at hand trains something else, so that an earlier band says nothing."""
    until = getattr(script(folder.series.course, lesson.name, "curve"), "UNTIL", "")
    return bool(until) and folder.lesson.name >= until


@dataclass
class Judged:
    """A learner's run, and what its band says of it."""

    lesson: Lesson
    band: Band
    losses: list[float]

    @property
    def left(self) -> tuple[int, int] | None:
        """(step, side) where it leaves the band."""
        return self.band.leaves(self.losses)

    @property
    def ends(self) -> int:
        """1 if it ends above all seeds, -1 if below, else 0."""
        return self.band.ends(self.losses)

    def to_dict(self) -> dict[str, Any]:
        """What --json prints."""
        step, side = self.left or (None, 0)
        words = {1: "above", -1: "below", 0: None}
        losses = [loss if math.isfinite(loss) else None for loss in self.losses]
        return {
            "lesson": self.lesson.name,
            "left_at": step,
            "side": words[side],
            "ends": words[self.ends],
            "losses": losses,
        }


def judge(folder: Folder) -> Judged:
    """Run what the latest lesson with a curve runs, with their code."""
    lesson = lesson_with_curve(folder)
    band, losses = band_of(folder.series, lesson), run(folder, lesson)
    if len(losses) != len(band.mean):
        raise failed(
            f"{len(band.mean)} steps have given {len(losses)} losses, where one a step is due"
        )
    return Judged(lesson, band, losses)


def band_of(series: Series, lesson: Lesson) -> Band:
    """The recorded band of a lesson."""
    recorded = records(series.course)["curves"][lesson.name]
    keys = ("mean", "spread", "width", "in_a_row", "end")
    return Band(**{key: recorded[key] for key in keys if key in recorded})


def run(folder: Folder, lesson: Lesson, seed: int = SEED) -> list[float]:
    """The losses of a short run with a learner's code; UserError where it fails."""
    step = folder.step.slug if folder.step else ""
    steps = steps_done(folder.series, folder.lesson, step)
    code = (folder.series, lesson, folder.package, folder.names, steps)
    losses = call(*code, "curve", "losses", seed)
    return [math.nan if loss is None else loss for loss in losses]


def trained(mine: Any, text: Path, model: dict[str, Any], train: dict[str, Any]) -> list[float]:
    """The losses of a run as a recipe says, of 16 rows of 32 tokens at once; from lesson 5 on."""
    if mine.done("15-accumulate/mean"):
        train = train | {"micro_batch": 16}
    sizes, wishes = {"context": 32} | model, {"tokens_per_step": 512} | train
    with small_trainer(mine, text.read_bytes(), sizes, wishes) as made:
        return watched(made.model, made.run)


def watched(model: Any, work: Callable[[], object]) -> list[float]:
    """The losses that a model gives while some work is done: whatever it returns that is one
    number. So it does not matter how a loop is written."""
    losses: list[float] = []

    def note(module: Any, inputs: Any, output: Any) -> None:
        if output.dim() == 0 and output.requires_grad:
            losses.append(output.item())

    hook = model.register_forward_hook(note)
    try:
        work()
    finally:
        hook.remove()
    return losses
