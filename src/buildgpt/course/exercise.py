"""A learner's solution of a lesson's exercise, tried in a process of its own.

    python -m buildgpt.course.exercise TEST SOLUTION PACKAGE

runs test(solution) of the file TEST; the last line says, as JSON, what went wrong and where.
"""

import contextlib
import importlib
import io
import json
import subprocess
import sys
import traceback
from pathlib import Path
from types import ModuleType

from .folder import Folder, wrong
from .runner import last_line, place_of, run_python
from .series import Lesson
from .trying import load

SECONDS = 120.0


def lesson_at(folder: Folder, word: str = "") -> Lesson:
    """The lesson that somebody names, else the last one of which they have done all steps."""
    done = [
        lesson for lesson in folder.series.lessons if folder.series.after(lesson) <= folder.done
    ]
    wanted = folder.series.find(word) if word else None
    if not done or (word and wanted not in done):
        raise wrong("an exercise comes after its lesson's last step")
    return wanted or done[-1]


def attempt(folder: Folder, lesson: Lesson, solution: Path) -> tuple[str, str]:
    """Why a solution of a lesson's exercise is none, and the line of theirs in which that showed;
    ("", "") if it is one."""
    if not solution.exists() and not (solution := folder.path / solution).exists():
        raise wrong(f"{solution} is not there; write your solution into it, and try again")
    test = lesson.folder / "exercise" / "test.py"
    files = [str(path.resolve()) for path in (test, solution, folder.package)]
    try:
        done = run_python(["-m", "buildgpt.course.exercise", *files], folder.path, SECONDS)
    except subprocess.TimeoutExpired:
        return f"it has no end within {SECONDS:.0f} s", ""
    if done.returncode:
        return last_line(done.stderr) or "the process died", ""
    said = json.loads(last_line(done.stdout))
    return said["why"], said["place"]


def module_of(solution: Path, package: Path) -> ModuleType:
    """A solution as a module, whether it is a file of its own or one of their package's."""
    sys.path.insert(0, str(package.parent))
    if package.name != "gpt":  # the tests import what they need by our package's name
        sys.modules["gpt"] = importlib.import_module(package.name)
    if solution.is_relative_to(package):
        name = ".".join(solution.relative_to(package.parent).with_suffix("").parts)
        return importlib.import_module(name)
    return load(solution)


def why(error: BaseException) -> str:
    """What went wrong, in words; of an assertion without any, the assertion."""
    if isinstance(error, AssertionError):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        line = (frame.line or "").removeprefix("assert ")
        return " ".join(f"{line}: {error}".split()) if str(error) not in line else line
    return " ".join(f"{type(error).__name__}: {error}".split())


def main(test: str, solution: str, package: str) -> None:
    """One attempt."""
    said = {"why": "", "place": ""}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            load(Path(test)).test(module_of(Path(solution), Path(package)))
    except Exception as error:
        said = {"why": why(error), "place": place_of(error, Path(solution).parent)}
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
