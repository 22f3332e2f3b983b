"""The course's lessons and steps, and the tree of files after any of them.

course/NN-name/lesson.toml    title, part, minutes, what it presumes and shows, its entry points
               lesson.md      the words (prose.py)
               NN-step.patch  one commit each, in order
               checks.py      behaviour of the learner's code (checking.py)
               hints.md       three rungs a step
               demos/step.py  what to run after the step, placed as try.py
               exercise/      what to try alone, with a solution that passes its check
"""

import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .patches import Patch, Tree, parse

HERE = Path(__file__).parent
# In a wheel the lessons lie beside this file, in a checkout at its root.
COURSE = HERE / "lessons" if (HERE / "lessons").is_dir() else HERE.parents[2] / "course"
CORE = HERE.parent / "gpt"
UNCARVED = "99-uncarved"  # what no lesson has come to yet
AUTHOR, EMAIL, DATE = "buildgpt", "course@buildgpt.invalid", "2026-01-01T00:00:00+00:00"
KINDS = {"type", "take", "read"}  # what a learner does with a step


@dataclass(frozen=True)
class Step:
    """One commit of the series. `index` counts all steps from 0, `number` those of its lesson."""

    lesson: "Lesson"
    number: int
    index: int
    path: Path

    @cached_property
    def patch(self) -> Patch:
        """The commit."""
        return parse(self.path.read_text(encoding="utf-8"))

    @property
    def slug(self) -> str:
        """Its short name, the one in its file's name."""
        return self.path.stem.partition("-")[2]

    @property
    def id(self) -> str:
        """Such as "01-bytes/encode"."""
        return f"{self.lesson.name}/{self.slug}"

    @property
    def label(self) -> str:
        """Such as "1.2"."""
        return f"{self.lesson.number}.{self.number}"

    @property
    def kind(self) -> str:
        """type, take or read."""
        return self.patch.trailers.get("Kind", "type")


@dataclass(frozen=True)
class Lesson:
    """A folder of the course."""

    folder: Path
    first: int  # the index of its first step

    @property
    def name(self) -> str:
        """Such as "01-bytes"."""
        return self.folder.name

    @property
    def number(self) -> int:
        """Such as 1."""
        return int(self.name.partition("-")[0])

    @cached_property
    def facts(self) -> dict[str, Any]:
        """lesson.toml."""
        path = self.folder / "lesson.toml"
        return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @property
    def title(self) -> str:
        """What it is called."""
        return str(self.facts.get("title", self.name))

    @cached_property
    def steps(self) -> list[Step]:
        """Its commits, in order."""
        paths = enumerate(sorted(self.folder.glob("*.patch")))
        return [Step(self, i + 1, self.first + i, path) for i, path in paths]

    def files(self) -> list[Path]:
        """What it brings along. An installer leaves compiled files beside Python's, in a folder."""
        return sorted(path for path in (self.folder / "files").glob("*") if path.is_file())

    def demo(self, step: Step) -> Path | None:
        """What to run after a step: its own demo, or the one before."""
        for earlier in reversed(self.steps[: step.number]):
            path = self.folder / "demos" / f"{earlier.slug}.py"
            if path.exists():
                return path
        return None


class Series:
    """All lessons in order, the uncarved rest last."""

    def __init__(self, course: Path = COURSE) -> None:
        self.course = course
        self.all: list[Lesson] = []
        for folder in sorted(path for path in course.glob("[0-9][0-9]-*") if path.is_dir()):
            first = sum(len(lesson.steps) for lesson in self.all)
            self.all.append(Lesson(folder, first))
        self.lessons = [lesson for lesson in self.all if lesson.name != UNCARVED]
        self.steps = [step for lesson in self.all for step in lesson.steps]
        self.trees: list[Tree] = [{}]

    def tree(self, steps: int) -> Tree:
        """The files after so many steps."""
        while len(self.trees) <= steps:
            self.trees.append(self.steps[len(self.trees) - 1].patch.apply(self.trees[-1]))
        return self.trees[steps]

    def after(self, lesson: Lesson) -> int:
        """How many steps are done at a lesson's end."""
        return lesson.first + len(lesson.steps)

    def entries(self) -> dict[str, str]:
        """The names that checks ask a learner's package for -> the module where they are due."""
        return {k: v for lesson in self.lessons for k, v in lesson.facts.get("entries", {}).items()}

    def find(self, name: str) -> Lesson | None:
        """A lesson by its number or name."""
        for lesson in self.lessons:
            if name in (lesson.name, str(lesson.number), f"{lesson.number:02d}"):
                return lesson
        return None


def write_tree(folder: Path, tree: Tree) -> None:
    """Write a tree's files, line feeds everywhere."""
    for path, text in tree.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode("utf-8"))


def core_tree() -> Tree:
    """Our core's code, as a tree."""
    return {f"gpt/{path.name}": path.read_text(encoding="utf-8") for path in CORE.glob("*.py")}


def data_files() -> Iterator[Path]:
    """What the core needs beside code; placed, not typed."""
    return (path for path in sorted(CORE.iterdir()) if path.suffix in (".txt", ".md"))


class Repository:
    """A git repository in a folder, with its own fixed author and no settings from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def git(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run git here."""
        who = {f"GIT_{who}_NAME": AUTHOR for who in ("AUTHOR", "COMMITTER")}
        who |= {f"GIT_{who}_EMAIL": EMAIL for who in ("AUTHOR", "COMMITTER")}
        who |= {f"GIT_{who}_DATE": DATE for who in ("AUTHOR", "COMMITTER")}
        alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_EDITOR": "true"}
        outside = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        return subprocess.run(
            ["git", "-c", "core.autocrlf=false", "-c", "init.defaultBranch=main", *words],
            cwd=self.folder,
            env=outside | who | alone,
            check=check,
            capture_output=True,
            encoding="utf-8",
        )

    def init(self) -> None:
        """Make it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet")
        self.git("config", "user.name", AUTHOR)
        self.git("config", "user.email", EMAIL)

    def apply(self, steps: list[Step]) -> None:
        """The steps' commits, with the same ids wherever it is done."""
        if steps:
            self.git("am", "--quiet", "--keep", *(str(step.path.resolve()) for step in steps))

    def head(self) -> str:
        """The newest commit's id."""
        return self.git("rev-parse", "HEAD").stdout.strip()


def write_repository(folder: Path, series: Series) -> str:
    """The whole series as a git repository whose gpt/ is the core; returns the last commit's id."""
    repository = Repository(folder)
    repository.init()
    repository.apply(series.steps)
    (folder / "gpt").mkdir(exist_ok=True)
    for path in data_files():
        shutil.copyfile(path, folder / "gpt" / path.name)
    repository.git("add", "--all")
    repository.git(
        "commit", "--quiet", "--message", "The files that are placed, not typed, are here"
    )
    return repository.head()
