"""A lesson's steps in a notebook: what a cell defines takes the place of ours in the lesson's code,
and the lesson's own checks say whether it is right.

    kit = Kit()
    kit.begin("06-head/triangle")   # gpt is the reference's code with this step done
    def future(time): ...           # the learner's
    kit.check(future)               # theirs in ours, and the checks of the lesson up to this step
"""

import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from .folder import place_data, place_files, place_text, wrong
from .handing import blocks
from .runner import Outcome, due_checks, run_checks, steps_done
from .series import Series, Step, write_tree

TODO = "raise NotImplementedError"


class Kit:
    """A folder with the lessons' code and text, and what the learner has got right so far.

    One in a process: it makes `gpt` the package of the step at hand, and its folder the place
    where everything runs.
    """

    def __init__(self, series: Series | None = None) -> None:
        self.series = series or Series()
        # Gone when the process ends; Windows cannot delete a folder that somebody is in.
        self.place = tempfile.TemporaryDirectory("", "buildgpt-kit-", ignore_cleanup_errors=True)
        self.folder = Path(self.place.name).resolve()
        self.mine: dict[str, tuple[Any, str]] = {}  # what was right, and our text of the same
        self.passed: dict[str, bool] = {}  # by the step's id
        self.step: Step | None = None
        place_text(self.folder / "data" / "shakespeare.txt")
        os.chdir(self.folder)

    def begin(self, name: str) -> None:
        """Go to a step such as "06-head/triangle"."""
        found = [step for step in self.series.steps if step.id == name]
        if not found:
            raise wrong(f"there is no step {name!r}; the kit's cells name the steps that there are")
        self.step = found[0]
        place = self.folder / "steps" / name
        write_tree(place, self.series.tree(self.step.index + 1))
        place_data(place / "gpt", self.series, self.step.lesson)
        for lesson in self.series.lessons:
            if lesson.number <= self.step.lesson.number:
                place_files(self.folder, lesson)
        self.load(place)
        for symbol, (value, text) in self.mine.items():
            if self.ours().get(symbol) == text:
                self.put(symbol, value)

    def load(self, place: Path) -> None:
        """Make gpt the package in a folder, and import all of it."""
        steps = str(self.folder / "steps")
        sys.path[:] = [str(place), *(path for path in sys.path if not path.startswith(steps))]
        for name in [name for name in sys.modules if name.partition(".")[0] == "gpt"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        for path in sorted((place / "gpt").glob("*.py")):
            importlib.import_module("gpt" if path.stem == "__init__" else f"gpt.{path.stem}")

    def ours(self) -> dict[str, str]:
        """The reference's classes and functions after the step at hand, by their names."""
        assert self.step, "begin a step first"
        tree = self.series.tree(self.step.index + 1)
        return {name: text for code in tree.values() for name, text in blocks(code).items() if name}

    def put(self, symbol: str, value: Any) -> None:
        """Let every module of gpt that has this symbol have the learner's."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "gpt"]:
            if hasattr(sys.modules[name], symbol):
                setattr(sys.modules[name], symbol, value)

    def check(self, *symbols: Any) -> None:
        """Whether these classes and functions do what the step asks for, told line by line."""
        assert self.step, "begin a step first"
        for symbol in symbols:
            if symbol.__name__ not in self.ours():
                raise wrong(f"the step has no {symbol.__name__}; give yours the name of the cell")
            self.put(symbol.__name__, symbol)
        outcomes = self.outcomes(self.step)
        print("\n".join(map(told, outcomes)))
        self.passed[self.step.id] = all(outcome.passed for outcome in outcomes)
        if self.passed[self.step.id]:
            texts = self.ours()
            self.mine |= {s.__name__: (s, texts[s.__name__]) for s in symbols}
        print("Right; go on." if self.passed[self.step.id] else "Not yet.")

    def outcomes(self, step: Step) -> list[Outcome]:
        """What becomes of the lesson's checks up to a step, this step's first."""
        lesson = step.lesson
        due = [(o, c) for o, c in due_checks(self.series, lesson, step.slug) if o == lesson]
        due.sort(key=lambda pair: pair[1].step != step.slug)
        wanted, path = [(own.name, check) for own, check in due], [*sys.path]
        done = steps_done(self.series, lesson, step.slug)
        package = self.folder / "steps" / step.id
        try:
            return list(run_checks(package, wanted, self.series.entries(), {}, done))
        finally:
            sys.path[:] = path

    def solution(self, *names: str) -> None:
        """Show how the reference does the step: these symbols, or all that it changes."""
        assert self.step, "begin a step first"
        texts = self.ours()
        for name in names or changed(self.series, self.step):
            print(texts[name])


def changed(series: Series, step: Step) -> dict[str, str]:
    """What a step writes or changes: the names of its symbols, and the modules that they are in."""
    before, after = series.tree(step.index), series.tree(step.index + 1)
    found: dict[str, str] = {}
    for path in step.patch.files:
        old, new = blocks(before.get(path, "")), blocks(after[path])
        module = Path(path).stem
        found |= {name: module for name in new if name and old.get(name) != new[name]}
    return found


def told(outcome: Outcome) -> str:
    """A check's outcome in words."""
    if outcome.passed:
        return f"yes: {outcome.says}"
    lines = [
        f"NO:  {outcome.says}",
        f"     seen {outcome.seen}",
        f"     expected {outcome.expected}",
    ]
    lines += [f"     for {outcome.given}"] * bool(outcome.given)
    lines += [f"     perhaps: {cause}" for cause in outcome.causes]
    return "\n".join(lines)
