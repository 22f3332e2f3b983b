"""From an empty folder to a model of one's own that babbles: python tools/babble.py

Does in a terminal what a learner of lessons 1 to 3 does: `course start`, then each step's code into
the files, `course check`, try.py, `course next`. Each command is printed with its seconds, the
babble at the end. Exit status 1 if it takes ten minutes, or if there is none.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from buildgpt.course.series import Series, Step, write_tree  # noqa: E402

LESSONS = 3
MOST_SECONDS = 600.0
PROMPT, LENGTH = "ROMEO:", 200  # what the babble begins with, and at least how long it is


def run(folder: Path, *words: str) -> str:
    """A command typed in a folder; what it says. SystemExit where it goes wrong."""
    began = time.perf_counter()
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        encoding="utf-8",
        timeout=MOST_SECONDS,
    )
    if done.returncode:
        raise SystemExit(f"{shlex.join(words)} went wrong:\n{done.stdout}{done.stderr}")
    typed = shlex.join(words).replace("-m buildgpt", "buildgpt")
    print(f"{time.perf_counter() - began:6.1f} s  {typed}", flush=True)
    return done.stdout


def course(folder: Path, *words: str) -> str:
    """A command of the course."""
    return run(folder, "-m", "buildgpt", "course", *words)


def do_step(folder: Path, series: Series, step: Step) -> str:
    """Type a step if it is to be typed, check it, and run it; returns what that said."""
    if step.kind == "type":
        tree = series.tree(step.index + 1)
        write_tree(folder, {path: tree[path] for path in step.patch.files})
    course(folder, "check")
    return run(folder, "try.py") if step.lesson.demo(step) else ""


def walk(place: Path) -> str:
    """All of it, in a folder that it makes; returns what the last run said."""
    series, said = Series(), ""
    course(place, "start", "my-gpt")
    folder = place / "my-gpt"
    for lesson in series.lessons[:LESSONS]:
        for step in lesson.steps:
            said = do_step(folder, series, step) or said
            course(folder, "next")
        if lesson.number < LESSONS:
            course(folder, "next")
    return said


def main() -> int:
    """Walk, and say how long it took."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        said = walk(Path(place))
    took = time.perf_counter() - began
    babble = said[said.rindex(PROMPT) :] if PROMPT in said else ""
    print(f"\n{babble}\n{took:.0f} s from `course start` to this")
    return 0 if len(babble) >= LENGTH and took < MOST_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
