"""How long each lesson's runs and checks take, as a learner starts them: tools/course.py times"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import course_check

from buildgpt.course.runner import check_folder
from buildgpt.course.series import Lesson, Series, Step


def measure(series: Series, words: list[str], before: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The seconds of each lesson, or of some, beside what is recorded of the others: after each
    lesson, so that nothing is lost if one fails."""
    found = {name: times for name, times in before.items() if series.find(name)}
    with tempfile.TemporaryDirectory() as place:
        shop = course_check.Workshop(series, Path(place))
        for lesson in course_check.asked_for(series, words):
            found[lesson.name] = times_of(shop, lesson)
            print(f"{lesson.name}: {found[lesson.name]}", flush=True)
            yield found


def times_of(shop: "course_check.Workshop", lesson: Lesson) -> dict[str, float]:
    """Seconds by the clock: all runs of try.py, the longest one, and `check` at the end."""
    runs = [seconds(lambda step=step: try_it(shop, step)) for step in demos(lesson)]
    folder = shop.at(shop.series.after(lesson), lesson)
    checks = seconds(lambda: check_folder(folder, shop.series, lesson, "", {}))
    return {"runs": round(sum(runs), 1), "longest": round(max(runs), 1), "check": round(checks, 1)}


def demos(lesson: Lesson) -> list[Step]:
    """The steps that have something to run."""
    return [step for step in lesson.steps if lesson.demo(step)]


def try_it(shop: "course_check.Workshop", step: Step) -> None:
    """Run a step's try.py, in a process of its own, with the reference's code."""
    folder, demo = shop.at(step.index + 1, step.lesson), step.lesson.demo(step)
    assert demo
    shutil.copyfile(demo, folder / "try.py")
    done = subprocess.run([sys.executable, "try.py"], cwd=folder, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{step.id}: {done.stderr.decode(errors='replace')}")


def seconds(work: Callable[[], Any]) -> float:
    """How long some work takes, by the clock."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
