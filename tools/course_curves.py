"""The bands of the lessons' losses: of some seeds, tried on many others."""

import contextlib
import io
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from course_check import asked_for, enter, forked

from buildgpt.course import curves
from buildgpt.course.checking import Mine
from buildgpt.course.folder import place_data
from buildgpt.course.runner import steps_done
from buildgpt.course.series import Lesson, Series, write_tree
from buildgpt.course.trying import script, write_text

SEEDS, HELD_OUT = 24, 180
AT_ONCE = 12  # seeds for one forked process, whose time is limited
DIGITS = 5


def measure(
    series: Series,
    words: list[str],
    before: dict[str, Any],
    seeds: int = SEEDS,
    held_out: int = HELD_OUT,
) -> Iterator[dict[str, Any]]:
    """Of each lesson with a curve.py, or of some beside what is recorded of the others: its band,
    and how many of other seeds leave it. After each lesson, so that nothing is lost if one fails.

    Where the first seeds give what they gave in an earlier lesson, in the last digit, so will the
    others: then it is that lesson's band.
    """
    found = {name: curve for name, curve in before.items() if words and series.find(name)}
    first: dict[str, list[list[float]]] = {}
    for lesson in asked_for(series, words):
        if not (lesson.folder / "curve.py").exists():
            continue
        runs = reference_runs(series, lesson, [*range(AT_ONCE)])
        same = [name for name, losses in first.items() if losses == runs]
        first[lesson.name] = runs
        if same:
            found[lesson.name] = found[same[0]] | {"same_as": same[0]}
        else:
            rest = [*range(AT_ONCE, seeds + held_out)]
            parts = [rest[i : i + AT_ONCE] for i in range(0, len(rest), AT_ONCE)]
            more = [run for part in parts for run in reference_runs(series, lesson, part)]
            every, limits = runs + more, limits_of(series, lesson)
            found[lesson.name] = tried(every[:seeds], every[seeds:], limits)
        print(f"{lesson.name}: {json.dumps(found[lesson.name]['held_out'])}", flush=True)
        yield found


def limits_of(series: Series, lesson: Lesson) -> dict[str, Any]:
    """When a run has left the band: what curve.py says, else as everywhere."""
    own = script(series.course, lesson.name, "curve")
    return {
        "width": getattr(own, "WIDTH", curves.WIDTH),
        "in_a_row": getattr(own, "IN_A_ROW", curves.IN_A_ROW),
    }


def tried(
    recorded: list[list[float]], others: list[list[float]], limits: dict[str, Any]
) -> dict[str, Any]:
    """The band of some runs, and what it says of others.

    Where runs end is more uneven than each of their steps: that is measured with half of the
    others, too, and tried on the rest.
    """
    full = curves.Band.of(recorded)
    rounded = ([round(x, DIGITS) for x in part] for part in (full.mean, full.spread))
    half = len(others) // 2
    low, high = (round(x, DIGITS) for x in curves.ends_of(recorded + others[:half]))
    band = curves.Band(*rounded, **limits, end=(low, high))
    alarms = sum(band.leaves(run) is not None for run in others)
    longest = max(band.longest(run) for run in others)
    ends = {
        "runs": len(others) - half,
        "alarms": sum(band.ends(run) != 0 for run in others[half:]),
    }
    return {
        "seeds": len(recorded),
        **limits,
        "mean": band.mean,
        "spread": band.spread,
        "end": [low, high],
        "held_out": {
            "runs": len(others),
            "alarms": alarms,
            "longest_stretch": longest,
            "ends": ends,
        },
    }


def reference_runs(series: Series, lesson: Lesson, seeds: list[int]) -> list[list[float]]:
    """The losses of the reference's code at a lesson's end, for each seed."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_tree(place, series.tree(series.after(lesson)))
        place_data(place / "gpt", series, lesson)
        text = write_text(place / "text.txt")

        def run() -> list[list[float]]:
            enter(place)
            mine = Mine(place / "gpt", series.entries(), {}, steps_done(series, lesson))
            curve = script(series.course, lesson.name, "curve")
            with contextlib.redirect_stdout(io.StringIO()):
                return [curve.losses(mine, text, seed) for seed in seeds]

        found, error = forked(run)
    if error or not all(math.isfinite(loss) for run in found for loss in run):
        raise SystemExit(f"{lesson.name}: {error or 'a loss is no number'}")
    return found
