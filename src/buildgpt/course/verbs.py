"""What each command does with a learner's folder; show.py says how it looks."""

import difflib
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from buildgpt.core import load_core

from . import prose, warm_up
from .checking import top_level
from .folder import Folder, place_data, wrong
from .handing import hand_over, same_code
from .patches import Tree
from .runner import Outcome, check_folder, environment, last_line, run_python
from .series import Series, Step, write_tree

RUNGS = ("a question", "the place", "the shape of the code")
PEEK_SECONDS = 120.0


def start(series: Series, path: Path, at: str = "") -> Folder:
    """Make a learner's folder, at a lesson's beginning."""
    if at in ("0", "00", warm_up.FOLDER):
        raise wrong("lesson 0 is the warm-up, which needs no folder: buildgpt course warm-up")
    lesson = series.find(at) if at else series.lessons[0]
    if lesson is None:
        numbers = ", ".join(str(lesson.number) for lesson in series.lessons)
        raise wrong(f"there is no lesson {at}; there are: {numbers}")
    return Folder.make(path, series, lesson)


def check(folder: Folder) -> list[Outcome]:
    """Run all checks that apply on their code."""
    step = folder.step.slug if folder.step else ""
    return check_folder(
        folder.path, folder.series, folder.lesson, step, folder.names, folder.package.name
    )


@dataclass
class Handed:
    """A step that was handed over: which files were written, and what is left to the learner."""

    files: list[str]
    own: list[str]  # symbols that stayed their own
    lacking: list[str]  # symbols that the step changes or uses, and that they do not have
    failed: str = ""  # why all of it was taken back


def planned(folder: Folder, step: Step, theirs: Tree) -> tuple[Handed, Tree]:
    """What handing a step over would do: what it leaves to them, and their files with it."""
    before, after = folder.series.tree(step.index), folder.series.tree(step.index + 1)
    handed, written = Handed([], [], []), {}
    for path in step.patch.files:
        try:
            merged = hand_over(theirs.get(path, ""), before.get(path, ""), after[path])
        except SyntaxError as error:
            raise wrong(f"{path} is no Python yet, line {error.lineno}: mend it first") from None
        handed.own += [f"{name or 'the first lines'} in {path}" for name in merged.own]
        handed.lacking += [f"{name} in {path}" for name in merged.lacking]
        if merged.text != theirs.get(path):
            written[path] = merged.text
    return handed, written


def left_to_them(folder: Folder) -> list[str]:
    """What of the step at hand they have otherwise, if it is one that is handed over."""
    if not folder.step or folder.step.kind != "take":
        return []
    try:
        handed, _ = planned(folder, folder.step, folder.code())
    except load_core().config.UserError:  # it is no Python; the checks say that
        return []
    return [*handed.own, *handed.lacking]


def take(folder: Folder, step: Step) -> Handed:
    """Put a step into their code; what cannot be imported afterwards is taken back."""
    before = folder.series.tree(step.index)
    theirs, there = folder.code(), folder.contents(step.patch.files)
    handed, written = planned(folder, step, theirs)
    folder.keep_present()
    differs = any(not same_code(text, before.get(path, "")) for path, text in theirs.items())
    # What could not be imported before cannot tell whether the step fits.
    tells = differs and not unimportable(folder, [path for path in written if path in theirs])
    try:
        for path, text in written.items():
            folder.write(path, text, there.get(path, b""))
        handed.failed = unimportable(folder, [*written]) if tells else ""
    except BaseException:
        take_back(folder, there, [*written])
        raise
    if handed.failed:
        take_back(folder, there, [*written])
    handed.files = [] if handed.failed else [*written]
    return handed


def handed_over(folder: Folder) -> Handed | None:
    """Put the step at hand in, if it is one that is handed over."""
    step = folder.step
    return take(folder, step) if step and step.kind == "take" else None


def go_on(folder: Folder) -> Handed | None:
    """Go to the next step, and put it in if it is handed over; where that fails, stay."""
    here = replace(folder.state)
    folder.advance()
    try:
        return handed_over(folder)
    except BaseException:
        folder.go_back(here)
        raise


def take_back(folder: Folder, there: dict[str, bytes], paths: list[str]) -> None:
    """Make files what they were, byte for byte, before a step was put in."""
    for path in paths:
        if path in there:
            load_core().config.write_bytes(folder.path / folder.place(path), there[path])
        else:
            (folder.path / folder.place(path)).unlink(missing_ok=True)


def unimportable(folder: Folder, paths: list[str]) -> str:
    """Why one of these files of theirs cannot be imported; "" if all can."""
    modules = [folder.place(path).removesuffix(".py").replace("/", ".") for path in paths]
    command = ["-c", f"import {', '.join(modules)}" if modules else ""]
    try:
        done = run_python(command, folder.path, PEEK_SECONDS)
    except subprocess.TimeoutExpired:
        return f"importing it does not end within {PEEK_SECONDS} s"
    return last_line(done.stderr) if done.returncode else ""


@contextmanager
def reference(folder: Folder, steps: int) -> Iterator[Path]:
    """A folder like theirs with the reference's code after so many steps."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place)
        write_tree(path, folder.series.tree(steps))
        (path / "gpt").mkdir(exist_ok=True)
        place_data(path / "gpt", folder.series, folder.lesson)
        for file in folder.path.iterdir():
            if file.is_file() and file.suffix == ".toml":
                shutil.copyfile(file, path / file.name)
        if (folder.path / "data").is_dir():
            shutil.copytree(folder.path / "data", path / "data")
        yield path


def peek(folder: Folder) -> "subprocess.CompletedProcess[str]":
    """Run the demo of the step at hand once with the reference's code; theirs stays as it is."""
    step = folder.step or folder.lesson.steps[-1]
    demo = folder.lesson.demo(step)
    if demo is None:
        raise wrong(f"step {step.label} has nothing to run")
    with reference(folder, step.index + 1) as path:
        shutil.copyfile(demo, path / "try.py")
        try:
            return subprocess.run(
                [sys.executable, "try.py"],
                cwd=path,
                env=environment(),
                capture_output=True,
                encoding="utf-8",
                timeout=PEEK_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise wrong(
                f"step {step.label} did not end within {PEEK_SECONDS:.0f} s: the machine seems"
                " busy; what it shows is on the lesson's page"
            ) from None


def hint(folder: Folder) -> tuple[Step, int, str]:
    """The next rung for the step at hand: the step, the rung's number from 1, and its words."""
    step = folder.step
    if step is None:
        raise wrong("this lesson is done; go on with: buildgpt course next")
    rungs = prose.hints(folder.lesson).get(step.slug, [])
    taken = folder.state.hints.get(step.id, 0)
    if not rungs:
        raise wrong(f"step {step.label} has no hints; see its code with: buildgpt course solution")
    number = min(taken + 1, len(rungs))
    folder.state.hints[step.id] = number
    folder.save()
    return step, number, rungs[number - 1]


def solution(folder: Folder) -> tuple[str, list[prose.Block]]:
    """The code of the step at hand, symbol by symbol; after the last, that of the exercise."""
    step = folder.step
    if step is None:
        path = folder.lesson.folder / "exercise" / "solution.py"
        lines = tuple((" ", line) for line in path.read_text(encoding="utf-8").splitlines())
        return "One solution of the exercise", [prose.Block("code", "", path.name, lines)]
    blocks = prose.section(folder.series, folder.lesson, step.slug)
    title = f"{step.label}  {step.patch.subject}"
    return title, [block for block in blocks if block.kind == "code"]


@dataclass
class Swapped:
    """What happened when one of their modules ran among the reference's."""

    module: str
    outcomes: list[Outcome]

    @property
    def failed(self) -> list[Outcome]:
        """The checks that did not pass."""
        return [outcome for outcome in self.outcomes if not outcome.passed]


def swap(folder: Folder, module: str = "") -> Iterator[Swapped]:
    """Run the reference with exactly one of their modules inside, one after another."""
    theirs, ours = folder.code(), folder.series.tree(folder.done)
    step = folder.step.slug if folder.step else ""
    paths = [path for path in theirs if path in ours and path != "gpt/__init__.py"]
    if module:
        paths = [path for path in paths if Path(path).stem == module.removesuffix(".py")]
    if not paths:
        raise wrong(f"there is no {module or 'module'} that both you and the reference have")
    for path in paths:
        text = theirs[path] + aliases(folder, path)
        with tempfile.TemporaryDirectory() as place:
            write_tree(Path(place), ours | {path: text})
            (Path(place) / "gpt").mkdir(exist_ok=True)
            place_data(Path(place) / "gpt", folder.series, folder.lesson)
            found = check_folder(Path(place), folder.series, folder.lesson, step, {})
        yield Swapped(path, found)


def aliases(folder: Folder, path: str) -> str:
    """Lines that give their entry points the reference's names too."""
    defined = top_level(folder.path / folder.place(path))
    lines = []
    for name, place in folder.names.items():
        attribute = place.rpartition(".")[2]
        if attribute in defined and name not in defined:
            lines.append(f"\n{name} = {attribute}\n")
    return "".join(lines)


def compare(folder: Folder, module: str = "") -> str:
    """The difference from the reference's code to theirs, as a diff."""
    theirs, ours = folder.code(), folder.series.tree(folder.done)
    wanted = [
        path
        for path in sorted({*theirs, *ours})
        if not module or Path(path).stem == module.removesuffix(".py")
    ]
    if module and not wanted:
        raise wrong(f"there is no module {module}, neither here nor in the reference")
    found: list[str] = []
    for path in wanted:
        one, other = ours.get(path, ""), theirs.get(path, "")
        found += difflib.unified_diff(
            one.splitlines(True), other.splitlines(True), f"reference/{path}", f"yours/{path}"
        )
    return "".join(found)


@dataclass
class Prediction:
    """A number to be guessed before the run."""

    name: str
    question: str
    answer: float
    shown: str
    near: float  # as a share of the answer
    reasoning: str

    def is_near(self, guess: float) -> bool:
        """Whether a guess is as good as the question asks for."""
        return abs(guess - self.answer) <= self.near * abs(self.answer)


def prediction(folder: Folder) -> Prediction | None:
    """The question that belongs to the step at hand, or the last one before it."""
    recorded = prose.records(folder.series.course)
    slugs = [step.slug for step in folder.lesson.steps]
    here = slugs.index(folder.step.slug) if folder.step else len(slugs)
    found = None
    for entry in folder.lesson.facts.get("predict", []):
        if slugs.index(entry["step"]) <= here:
            found = entry
    if found is None:
        return None
    figure = recorded["figures"][found["figure"]]
    reasoning = prose.fill(found["reasoning"], recorded)
    name = f"{folder.lesson.name}/{found['step']}"
    return Prediction(
        name, found["question"], figure["value"], figure["shown"], found["near"], reasoning
    )


def read_guess(text: str) -> float:
    """A number as somebody types it, or a fraction; UsageError if it is none."""
    typed = text.strip().replace("_", "")
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", typed):
        typed = typed.replace(",", "")
    try:
        guess = float(Fraction(typed)) if "/" in typed else float(typed)
        if not math.isfinite(guess):
            raise ValueError
        return guess
    except (ValueError, ZeroDivisionError, OverflowError):
        raise wrong(f"{text!r} is no number; type one such as 5.5, 1e-3 or 2/3") from None


def reset(folder: Folder) -> Path:
    """Go back to the lesson's beginning, with their files as they were then."""
    tree = folder.lesson_start()
    if tree is None:
        raise wrong("the files at this lesson's beginning are not kept; see catch-up")
    kept = folder.replace(tree)
    folder.go_back(replace(folder.state, step=folder.lesson.steps[0].slug))
    return kept


def catch_up(folder: Folder) -> Path:
    """Put the reference's code, up to and with the step at hand, in the place of theirs."""
    kept = folder.replace(folder.series.tree(folder.done))
    place_data(folder.package, folder.series, folder.lesson)
    return kept


def python_name() -> str:
    """How to call the Python that has this program: "python" where that is it."""
    for name in ("python", "python3", "py"):
        found = shutil.which(name)
        if found and Path(found).parent.resolve() == Path(sys.executable).parent.resolve():
            return name
    relative = os.path.relpath(sys.executable)
    return relative if len(relative) < len(sys.executable) else sys.executable
