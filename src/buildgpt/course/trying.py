"""A script of a lesson, run with a learner's code in a process of its own.

    python -m buildgpt.course.trying < order.json

calls function(mine, text, *words) of course/NN-name/FILE.py and writes what it returns as JSON;
`text` is a file with a part of Shakespeare, always the same one.
"""

import contextlib
import importlib.util
import io
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from buildgpt.core import load_core

from .checking import Mine, Missing
from .runner import environment, last_line, place_of
from .series import Lesson, Series

TEXT_BYTES = 500_000
SECONDS = 300.0  # on a busy machine a run of seconds takes minutes


def call(
    series: Series,
    lesson: Lesson,
    package: Path,
    names: dict[str, str],
    steps: list[str],
    file: str,
    function: str,
    *words: Any,
) -> Any:
    """What the function returns for a package, as JSON keeps it; UserError where it fails.

    `names` are the learner's own of entry points, `steps` the ids of those that are done.
    """
    order = {
        "course": str(series.course),
        "lesson": lesson.name,
        "file": file,
        "function": function,
        "words": words,
        "package": str(package.resolve()),
        "names": names,
        "steps": steps,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "buildgpt.course.trying"],
            input=json.dumps(order),
            cwd=package.parent,
            env=environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise failed(f"no end after {SECONDS:.0f} s") from None
    said = json.loads(last_line(done.stdout) or "{}")
    if "found" not in said:
        raise failed(said.get("error") or last_line(done.stderr) or "the process died")
    return said["found"]


def failed(why: str) -> Exception:
    """What to say where a run has no end."""
    error: Exception = load_core().config.UserError(
        f"the run did not come to its end: {why}; see: buildgpt course check"
    )
    return error


def script(course: Path, lesson: str, file: str) -> ModuleType:
    """A lesson's script as a module."""
    return load(course / lesson / f"{file}.py")


def load(path: Path) -> ModuleType:
    """A file as a module, wherever it lies."""
    spec = importlib.util.spec_from_file_location(f"{path.stem}_of_{path.parent.name[:2]}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_text(path: Path) -> Path:
    """The text that everybody's runs read."""
    from buildgpt.datasets.text import shakespeare

    text = "\n\n".join(work.content.strip("\n") for work in shakespeare()).encode()
    path.write_bytes(text[:TEXT_BYTES].decode(errors="ignore").encode())
    return path


def attempt(order: dict[str, Any], text: Path) -> dict[str, Any]:
    """What it returns, or what went wrong and where."""
    course, package = Path(order["course"]), Path(order["package"])
    mine = Mine(package, Series(course).entries(), order["names"], order["steps"])
    function = getattr(script(course, order["lesson"], order["file"]), order["function"])
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return {"found": function(mine, text, *order["words"])}
    except Missing as missing:
        return {"error": str(missing)}
    except Exception as error:
        where = place_of(error, package)
        told = f"{type(error).__name__}: {error}" + f", in {where}" * bool(where)
        return {"error": " ".join(told.split())}


def finite(found: Any) -> Any:
    """None in the place of what JSON has no word for."""
    if isinstance(found, list | tuple):
        return [finite(part) for part in found]
    return None if isinstance(found, float) and not math.isfinite(found) else found


def main() -> None:
    """One run, as stdin orders; what it found is the last line."""
    order = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as place:
        said = attempt(order, write_text(Path(place) / "text.txt"))
    print(json.dumps({key: finite(value) for key, value in said.items()}))


if __name__ == "__main__":
    main()
