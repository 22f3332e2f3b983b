"""A learner's folder: their package, the text, and what the course remembers about them.

my-gpt/gpt/            their package
       data/           Shakespeare
       try.py          what to run after the step at hand; replaced with each step
       learn.toml      where checks find their entry points, if they have other names
       .course/        state.json, and their files as they were before a lesson or a catch-up
"""

import ast
import difflib
import json
import shutil
import tomllib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from buildgpt.core import load_core

from .checking import write_shard
from .series import Lesson, Series, Step, data_files, write_tree

LEARN = """\
# Where the course's checks find your code. They look for the names that the lessons use; if you
# gave something another name, say so here, as OURS = "module.yours":
#
#     [names]
#     ByteTokenizer = "tokenizer.Bytes"

package = "gpt"

[names]
"""
SHARD_TOKENS = 2_000_000
END = "end"  # the place after a lesson's last step


@dataclass
class State:
    """Where a learner is, and what they have asked for."""

    lesson: str
    step: str  # a slug, or END
    hints: dict[str, int] = field(default_factory=dict)  # rungs taken, by the step's id
    predictions: dict[str, float] = field(default_factory=dict)
    bugs: dict[str, str] = field(default_factory=dict)  # of the zoo, by name: open, found, shown

    def __post_init__(self) -> None:
        if not all(isinstance(part, dict) for part in (self.hints, self.predictions, self.bugs)):
            raise TypeError("what is remembered is remembered by name")


class Folder:
    """A learner's folder. Raises UserError where there is none."""

    def __init__(self, path: Path, series: Series) -> None:
        self.path, self.series = path, series
        self.state_file = path / ".course" / "state.json"
        try:
            self.state = State(**json.loads(self.state_file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise wrong(
                f"{path.resolve()} is no folder of the course; cd into yours, or make one with:"
                " buildgpt course start my-gpt"
            ) from None
        except (ValueError, TypeError):
            raise wrong(f"{self.state_file} is damaged; mend it, or start a new folder") from None

    @classmethod
    def find(cls, series: Series) -> "Folder":
        """The folder that this process is in, or in a folder of."""
        here = Path.cwd()
        for path in (here, *here.parents):
            if (path / ".course" / "state.json").exists():
                return cls(path, series)
        return cls(here, series)

    @classmethod
    def make(cls, path: Path, series: Series, lesson: Lesson) -> "Folder":
        """A new folder, at a lesson's beginning, with the reference of all before it."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise wrong(f"{path} is there already and not empty; choose another folder")
        (path / "gpt").mkdir(parents=True)
        place_text(path / "data" / "shakespeare.txt")
        (path / "learn.toml").write_text(LEARN, encoding="utf-8")
        write_tree(path, series.tree(lesson.first))
        if lesson.first:
            place_data(path / "gpt", series, lesson)
        for earlier in series.lessons[: series.lessons.index(lesson)]:
            place_files(path, earlier)
        place_made(path, series, lesson)
        (path / ".course").mkdir()
        (path / ".course" / ".gitignore").write_text("*\n", encoding="utf-8")
        state = State(lesson.name, lesson.steps[0].slug)
        (path / ".course" / "state.json").write_text(json.dumps(asdict(state)), encoding="utf-8")
        folder = cls(path, series)
        folder.arrive()
        return folder

    # Where they are.

    @property
    def lesson(self) -> Lesson:
        """The lesson at hand; the first one where the course has changed under them."""
        return self.series.find(self.state.lesson) or self.series.lessons[0]

    @property
    def step(self) -> Step | None:
        """The step at hand; None after the lesson's last."""
        if self.state.step == END:
            return None
        steps = self.lesson.steps
        return next((step for step in steps if step.slug == self.state.step), steps[0])

    @property
    def done(self) -> int:
        """How many steps of the series are done when the one at hand is."""
        return self.step.index + 1 if self.step else self.series.after(self.lesson)

    @property
    def is_finished(self) -> bool:
        """Whether no lesson is left."""
        return self.step is None and self.lesson == self.series.lessons[-1]

    def advance(self) -> None:
        """Go to the next step, or to the place after the last, or to the next lesson."""
        lessons = self.series.lessons
        if self.step is None:
            lesson = lessons[lessons.index(self.lesson) + 1]
            self.state.lesson, self.state.step = lesson.name, lesson.steps[0].slug
        else:
            rest = self.lesson.steps[self.step.number :]
            self.state.step = rest[0].slug if rest else END
        self.arrive()

    def arrive(self) -> None:
        """Place what the step at hand wants, and remember the files at a lesson's beginning."""
        self.save()
        if self.step is None:
            return
        if self.step.number == 1:
            self.keep(f"{self.lesson.name}-start")
            place_files(self.path, self.lesson)
            place_data(self.package, self.series, self.lesson)
        self.place_demo()

    def place_demo(self) -> None:
        """What there is to run at the step at hand, as try.py."""
        demo = self.lesson.demo(self.step) if self.step else None
        if demo:
            text = with_their_names(demo.read_text("utf-8"), self.package.name, self.names)
            (self.path / "try.py").write_text(text, encoding="utf-8", newline="\n")

    def go_back(self, state: State) -> None:
        """Be at an earlier place again; what is kept stays as it is."""
        self.state = state
        self.save()
        self.place_demo()

    def save(self) -> None:
        """Write the state, whole or not at all."""
        load_core().config.write_text(self.state_file, json.dumps(asdict(self.state), indent=1))

    # Their code.

    @property
    def facts(self) -> dict[str, Any]:
        """learn.toml."""
        return read_learn(self.path)

    @property
    def package(self) -> Path:
        """The folder of their package, which lies beside learn.toml."""
        name = str(self.facts.get("package", "gpt"))
        if not name.isidentifier():
            raise wrong(
                f"{self.path / 'learn.toml'}: package = {name!r} is no plain name of a folder"
                ' beside it; write package = "gpt", say'
            )
        return self.path / name

    @property
    def names(self) -> dict[str, str]:
        """Their own names of entry points, by ours."""
        found = self.facts.get("names", {})
        if not isinstance(found, dict):
            raise wrong(f"{self.path / 'learn.toml'}: names is a section; write it as [names]")
        known = self.series.entries()
        for name in found.keys() - known.keys():
            (near,) = difflib.get_close_matches(name, known, 1, 0.0)
            raise wrong(
                f"{self.path / 'learn.toml'}: no lesson asks for {name}, which is below [names];"
                f" the nearest that one does is {near}"
            )
        return {k: str(v) for k, v in found.items()}

    def code(self) -> dict[str, str]:
        """Their package's files, as a tree."""
        paths = sorted(self.package.rglob("*.py"))
        return {
            f"gpt/{path.relative_to(self.package).as_posix()}": read_python(path) for path in paths
        }

    def contents(self, paths: Iterable[str]) -> dict[str, bytes]:
        """The bytes of those files of the series that are there."""
        places = {path: self.path / self.place(path) for path in paths}
        return {path: place.read_bytes() for path, place in places.items() if place.exists()}

    def write(self, path: str, text: str, before: bytes) -> None:
        """Write a file of theirs, whole or not at all, with the line ends that it had before."""
        place = self.path / self.place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        ends = "\r\n" if b"\r\n" in before else "\n"
        load_core().config.write_bytes(place, text.replace("\n", ends).encode("utf-8"))

    def keep(self, name: str) -> Path:
        """Copy their package away under a name, and say where."""
        place = self.path / ".course" / "kept" / name
        growing = place.with_name(f".{name}.part")
        shutil.rmtree(growing, ignore_errors=True)
        growing.mkdir(parents=True)
        if self.package.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(self.package, growing, ignore=ignore, dirs_exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        growing.rename(place)
        return place

    def keep_present(self) -> Path:
        """Copy their package away before something else takes its place, unless the newest copy is
        just that; returns where it is."""
        kept = self.path / ".course" / "kept"
        names = (path.name.removeprefix("copy-") for path in kept.glob("copy-*"))
        number = max((int(name) for name in names if name.isdecimal()), default=0)
        newest = kept / f"copy-{number}"
        if number and contents(newest) == contents(self.package):
            return newest
        return self.keep(f"copy-{number + 1}")

    def replace(self, tree: dict[str, str]) -> Path:
        """Put another package in the place of theirs, which is kept; returns where. If that breaks
        off, theirs is back."""
        kept, theirs = self.keep_present(), self.python_files()
        try:
            self.put({self.place(path): text.encode("utf-8") for path, text in tree.items()})
        except BaseException:
            self.put(theirs)
            raise
        return kept

    def python_files(self) -> dict[str, bytes]:
        """The bytes of all of their package's Python, by the path in their folder."""
        paths = sorted(self.package.rglob("*.py"))
        return {path.relative_to(self.path).as_posix(): path.read_bytes() for path in paths}

    def put(self, files: dict[str, bytes]) -> None:
        """Have exactly these as their package's Python."""
        for name, content in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            load_core().config.write_bytes(self.path / name, content)
        for name in self.python_files().keys() - files.keys():
            (self.path / name).unlink()

    def place(self, path: str) -> str:
        """A path of the series in their package."""
        return f"{self.package.name}/{path.partition('/')[2]}"

    def lesson_start(self, lesson: Lesson | None = None) -> dict[str, str] | None:
        """Their package as it was when they came to a lesson, the one at hand otherwise."""
        place = self.path / ".course" / "kept" / f"{(lesson or self.lesson).name}-start"
        if not place.exists():
            return None
        paths = sorted(place.rglob("*.py"))
        return {f"gpt/{p.relative_to(place).as_posix()}": read_python(p) for p in paths}


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder but what Python has compiled, by their paths in it."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    return {name: p.read_bytes() for p, name in names.items() if "__pycache__/" not in name}


def with_their_names(code: str, package: str, names: dict[str, str]) -> str:
    """A demo's code that imports from a learner's package what they have under other names."""
    lines = code.split("\n")
    found = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in found if f"{node.module}.".startswith("gpt.")]
    for node in sorted(ours, key=lambda node: -node.lineno):
        renamed = [alias for alias in node.names if alias.name in names]
        if renamed or package != "gpt":
            gap = " " * node.col_offset
            wanted = imports_from(f"{node.module}"[4:], node.names, names)
            lines[node.lineno - 1 : node.end_lineno] = [
                f"{gap}from {package}{'.' * bool(module)}{module} import {', '.join(these)}"
                for module, these in wanted
            ]
    return "\n".join(lines)


def imports_from(
    module: str, wanted: list[ast.alias], names: dict[str, str]
) -> list[tuple[str, list[str]]]:
    """What is to be imported from which of their modules: ours, and those with another place."""
    found: dict[str, list[str]] = {}
    for alias in wanted:
        theirs, _, name = names.get(alias.name, alias.name).rpartition(".")
        known = alias.asname or alias.name
        found.setdefault(theirs or module, []).append(
            name if name == known else f"{name} as {known}"
        )
    return [*found.items()]


def read_python(path: Path) -> str:
    """A file of theirs; some editors begin it with a mark of the encoding."""
    try:
        return path.read_text("utf-8-sig")
    except ValueError:
        raise wrong(f"{path} is not in UTF-8; have your editor save it so") from None


def wrong(sentence: str) -> Exception:
    """A user's mistake, in one sentence."""
    error: Exception = load_core().config.UsageError(sentence)
    return error


def read_learn(folder: Path) -> dict[str, Any]:
    """A folder's learn.toml; empty where there is none."""
    try:
        return tomllib.loads((folder / "learn.toml").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except ValueError as error:
        raise wrong(f"{folder / 'learn.toml'} is not TOML: {error}") from None


def place_text(path: Path) -> None:
    """The bundled Shakespeare as one file; the works held out elsewhere come last."""
    from buildgpt.datasets.text import shakespeare

    works = sorted(shakespeare(), key=lambda work: work.split != "train")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(work.content.strip("\n") for work in works)
    path.write_bytes(f"{text}\n".encode())


def place_files(folder: Path, lesson: Lesson) -> None:
    """What a lesson brings along, where it is not there yet."""
    for path in lesson.files():
        if not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def place_made(folder: Path, series: Series, lesson: Lesson) -> None:
    """What a learner has made of the text in the lessons before one: folders of shards."""
    for earlier in series.lessons[: series.lessons.index(lesson)]:
        for name in earlier.facts.get("makes", []):
            if not (folder / name).exists():
                place_shards(folder / name, folder / "data" / "shakespeare.txt")


def place_shards(folder: Path, text: Path) -> None:
    """A text in bytes as shards, as lesson 19's prepare.py makes them; without any core."""
    words, splits = text.read_text(encoding="utf-8"), {}
    cut = len(words) - len(words) // 10
    for split, part in (("train", words[:cut]), ("val", words[cut:])):
        ids, shards = [256, *part.encode()], []
        for i, start in enumerate(range(0, len(ids), SHARD_TOKENS)):
            tokens = ids[start : start + SHARD_TOKENS]
            shard = write_shard(folder / f"{folder.name}_{split}_{i:06d}.bin", tokens)
            digest = load_core().config.sha256(shard)
            shards.append({"file": shard.name, "tokens": len(tokens), "sha256": digest})
        splits[split] = {"tokens": len(ids), "documents": 1, "shards": shards}
    made = {"tokenizer": {"kind": "byte"}, "vocab_size": 257, "splits": splits}
    (folder / "manifest.json").write_text(json.dumps(made) + "\n", encoding="utf-8")


def place_data(package: Path, series: Series, lesson: Lesson) -> None:
    """What the code of the lessons so far reads and nobody types."""
    wanted = {
        name
        for earlier in series.lessons
        if earlier.number <= lesson.number
        for name in earlier.facts.get("places", [])
    }
    for path in data_files():
        if path.name in wanted:
            shutil.copyfile(path, package / path.name)
