"""The bug zoo: a real bug of a known project, in a copy of the reference's code.

course/bugs/NN-name/bug.toml     title, lesson, symptom, hints, explanation, cost, the source
                    fault.patch  what puts the bug in
                    symptom.py   shows the number that is wrong
                    checks.py    whether it still is there, in the symptom's words

A learner gets the copy in bugs/NN-name of their folder, with the symptom and nothing else.
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .checking import load_checks
from .folder import Folder, place_data, wrong
from .patches import BadPatch, Hunk, Tree, read_hunks
from .runner import Outcome, check_apart, check_folder, environment, steps_done
from .series import Lesson, Series, core_tree, data_files, write_tree

CORE = "core"  # in the place of a lesson: the finished core
OPEN, FOUND, SHOWN = "open", "found", "shown"
MARK = ".bug.json"  # in a copy: which bug it has, in the code of which lesson
SECONDS = 120.0  # for a symptom


@dataclass(frozen=True)
class Bug:
    """A folder of the zoo."""

    folder: Path

    @property
    def name(self) -> str:
        """Such as "02-too-hard"."""
        return self.folder.name

    @property
    def number(self) -> int:
        """Such as 2."""
        return int(self.name.partition("-")[0])

    @cached_property
    def facts(self) -> dict[str, Any]:
        """bug.toml."""
        return tomllib.loads((self.folder / "bug.toml").read_text(encoding="utf-8"))

    @cached_property
    def fault(self) -> dict[str, list[Hunk]]:
        """What it changes in which file."""
        text = (self.folder / "fault.patch").read_text(encoding="utf-8")
        parts = re.split(r"^--- a/(.+)\n\+\+\+ .+\n", text, flags=re.M)[1:]
        return {path: read_hunks(body.split("\n")) for path, body in zip(parts[::2], parts[1::2])}

    def fits(self, tree: Tree) -> bool:
        """Whether it can be put into these files."""
        try:
            self.put_into(tree)
        except BadPatch:
            return False
        return True

    def put_into(self, tree: Tree) -> Tree:
        """The files with the bug; BadPatch where its place is not found, or more than once."""
        return changed(tree, self.fault, backwards=False)


def changed(tree: Tree, fault: dict[str, list[Hunk]], backwards: bool) -> Tree:
    """The files with each hunk's lines replaced, wherever in the file they stand."""
    after = dict(tree)
    for path, hunks in fault.items():
        text = "\n" + after.get(path, "")
        for hunk in hunks:
            old, new = hunk.old(), hunk.new()
            before, now = ("\n" + "\n".join(lines) + "\n" for lines in (old, new))
            before, now = (now, before) if backwards else (before, now)
            if text.count(before) != 1:
                raise BadPatch(f"{path} is not as the bug expects")
            text = text.replace(before, now)
        after[path] = text[1:]
    return after


def bugs(series: Series) -> list[Bug]:
    """All of the zoo, in order."""
    return [Bug(path.parent) for path in sorted(series.course.glob("bugs/*/bug.toml"))]


def find(series: Series, words: str) -> Bug:
    """A bug by its number or name; UsageError where there is none."""
    for bug in bugs(series):
        if words in (bug.name, str(bug.number), f"{bug.number:02d}"):
            return bug
    numbers = ", ".join(str(bug.number) for bug in bugs(series))
    raise wrong(f"there is no bug {words}; there are: {numbers}")


def homes(series: Series, bug: Bug) -> list[str]:
    """The lessons, by name, at whose end the bug can be put in; the core where it needs that."""
    facts = bug.facts
    if facts["lesson"] == CORE:
        return [CORE]
    until = facts.get("until", "99")
    lessons = [lesson for lesson in series.lessons if facts["lesson"] <= lesson.name < until]
    return [lesson.name for lesson in lessons if bug.fits(series.tree(series.after(lesson)))]


def home(series: Series, bug: Bug, reached: str) -> str:
    """The latest of those up to the lesson that a learner has reached, or else the first."""
    found = homes(series, bug)
    return next((name for name in reversed(found) if name <= reached), found[0])


def reached(folder: Folder) -> str:
    """The name of the last lesson that is done; "" before."""
    lessons = folder.series.lessons
    place = lessons.index(folder.lesson) - (1 if folder.step else 0)
    return lessons[place].name if place >= 0 else ""


def is_due(folder: Folder, bug: Bug) -> bool:
    """Whether the learner knows all that it takes to find it."""
    first = bug.facts.get("after", bug.facts["lesson"])
    return bool(first <= reached(folder))


def sound_tree(series: Series, where: str) -> Tree:
    """The reference's code at a lesson's end, or the core."""
    lesson = series.find(where)
    return series.tree(series.after(lesson)) if lesson else core_tree()


# A copy.


@dataclass(frozen=True)
class Copy:
    """A folder with a bug in it."""

    path: Path
    series: Series
    bug: Bug
    where: str  # a lesson's name, or CORE

    @property
    def lesson(self) -> Lesson | None:
        """Whose code it is; None for the core."""
        return self.series.find(self.where)

    def write(self) -> None:
        """Make it, in the place of an earlier one."""
        shutil.rmtree(self.path, ignore_errors=True)
        write_tree(self.path, self.bug.put_into(sound_tree(self.series, self.where)))
        if self.lesson:
            place_data(self.path / "gpt", self.series, self.lesson)
        else:
            for path in data_files():
                shutil.copyfile(path, self.path / "gpt" / path.name)
        shutil.copyfile(self.bug.folder / "symptom.py", self.path / "symptom.py")
        mark = {"bug": self.bug.name, "where": self.where}
        (self.path / MARK).write_text(json.dumps(mark), encoding="utf-8")

    def symptom(self) -> str:
        """What its script prints."""
        done = subprocess.run(
            [sys.executable, "symptom.py"],
            cwd=self.path,
            env=environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
        )
        return done.stdout + "".join(done.stderr.splitlines(True)[-1:])

    def check(self) -> list[Outcome]:
        """Whether the bug is gone and, if so, whether all else still holds."""
        own = self.bug.folder / "checks.py"
        wanted = [(self.bug.name, own, check.name) for check in load_checks(own)]
        lesson = self.lesson or self.series.lessons[-1]
        steps = steps_done(self.series, lesson)
        found = check_apart(self.path, self.series, wanted, steps, {})
        if self.lesson and all(outcome.passed for outcome in found):
            found += check_folder(self.path, self.series, lesson, "", {})
        return found

    def mending(self) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
        """What mends it: for each place, the file and its lines with their marks."""
        turned = {"+": "-", "-": "+", " ": " "}
        for path, hunks in self.bug.fault.items():
            for hunk in hunks:
                lines = [(turned[line[0]], line[1:]) for line in hunk.lines]
                yield path, tuple(in_order(lines))


def in_order(lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Within each change, what is gone before what is new."""
    found: list[tuple[str, str]] = []
    pending: list[tuple[str, str]] = []
    for line in [*lines, (" ", "")]:
        if line[0] == " ":
            found += sorted(pending, key=lambda pair: pair[0] != "-")
            found.append(line)
            pending = []
        else:
            pending.append(line)
    return found[:-1]


def copy_of(folder: Folder, bug: Bug) -> Copy:
    """The learner's copy: the one that is there, or one that is still to be written."""
    path = folder.path / "bugs" / bug.name
    try:
        where = json.loads((path / MARK).read_text(encoding="utf-8"))["where"]
    except (OSError, ValueError, KeyError):
        where = home(folder.series, bug, reached(folder))
    return Copy(path, folder.series, bug, where)


def begin(folder: Folder, bug: Bug, again: bool = False) -> Copy:
    """Their copy, made if it is not there yet, or anew."""
    copy = copy_of(folder, bug)
    if again or not (copy.path / MARK).exists():
        Copy(copy.path, folder.series, bug, home(folder.series, bug, reached(folder))).write()
        folder.state.bugs.setdefault(bug.name, OPEN)
        folder.save()
    return copy_of(folder, bug)


def surrounding(folder: Folder, here: Path) -> Bug | None:
    """The bug in whose copy a path lies, if it does."""
    for path in (here, *here.parents):
        if (path / MARK).exists() and path.parent == folder.path / "bugs":
            return find(folder.series, path.name)
    return None


def settle(folder: Folder, bug: Bug, state: str) -> None:
    """Remember that it was found, or shown; what was found first stays found."""
    if folder.state.bugs.get(bug.name) != FOUND:
        folder.state.bugs[bug.name] = state
    folder.save()


def hint(folder: Folder, bug: Bug) -> tuple[int, str]:
    """The next hint: its number from 1, and its words."""
    key, words = f"bugs/{bug.name}", bug.facts["hints"]
    number = min(folder.state.hints.get(key, 0) + 1, len(words))
    folder.state.hints[key] = number
    folder.save()
    return number, words[number - 1]


def next_open(folder: Folder) -> Bug | None:
    """The first bug that is due and neither found nor shown."""
    for bug in bugs(folder.series):
        if is_due(folder, bug) and folder.state.bugs.get(bug.name, OPEN) == OPEN:
            return bug
    return None
