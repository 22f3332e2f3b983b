"""Checks in a process of their own: with a time limit, one thread, and whatever they print kept.

    python -m buildgpt.course.runner < order.json

writes a line of JSON when a check begins and one when it ends. The learner's folder is where it
runs.
"""

import contextlib
import faulthandler
import io
import json
import linecache
import math
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from buildgpt.core import load_core

from .checking import Check, Failed, Mine, Missing, load_checks
from .series import Lesson, Series

resource: Any
try:
    import resource
except ImportError:  # as on Windows, where only the clock limits
    resource = None

SECONDS = 60.0  # of the processor, for each check
BY_THE_CLOCK = 600.0  # the last resort: a busy machine takes its time, and code may wait for ever
MANY = 60  # checks; more take so long that two processes are worth their start
SLOW = ["a loop that never ends", "one that does far more than it needs"]
WAITING = [
    "the machine is busy with something else: try again, your code may be right",
    "something waits that nobody wakes up",
]


@dataclass
class Outcome:
    """What became of a check."""

    check: str  # the lesson's name / the function's
    says: str
    passed: bool
    seen: str = ""
    expected: str = ""
    given: str = ""
    causes: list[str] = field(default_factory=list)
    place: str = ""  # the learner's line in which an error arose
    printed: str = ""


def due_checks(series: Series, lesson: Lesson, step: str = "") -> list[tuple[Lesson, Check]]:
    """The checks that apply when a step of a lesson is done; without a step, at its end."""
    found = []
    for earlier in series.lessons:
        if earlier.number > lesson.number:
            break
        slugs = [s.slug for s in earlier.steps]
        done = slugs[: slugs.index(step) + 1] if step and earlier == lesson else slugs
        for check in load_checks(earlier.folder / "checks.py"):
            if check.step in done and (not check.until or lesson.name < check.until):
                found.append((earlier, check))
    return found


def retired(series: Series, lesson: Lesson) -> int:
    """How many checks of earlier lessons no longer apply in this one."""
    earlier = [own for own in series.lessons if own.number < lesson.number]
    checks = [check for own in earlier for check in load_checks(own.folder / "checks.py")]
    return sum(bool(check.until) and lesson.name >= check.until for check in checks)


def steps_done(series: Series, lesson: Lesson, step: str = "") -> list[str]:
    """The ids of the steps up to one of a lesson; without it, up to the lesson's end."""
    slugs = [own.slug for own in lesson.steps]
    count = lesson.first + (slugs.index(step) + 1 if step else len(slugs))
    return [own.id for own in series.steps[:count]]


def run_checks(
    folder: Path,
    wanted: list[tuple[str, Check]],
    entries: dict[str, str],
    names: dict[str, str],
    steps: list[str],
    package: str = "gpt",
) -> Iterator[Outcome]:
    """Run checks on a learner's package, in this process; `steps` are the ids of those done."""
    mine = Mine(folder / package, entries, names, steps)
    for lesson, check in wanted:
        yield run_check(f"{lesson}/{check.name}", check, mine)


def run_check(name: str, check: Check, mine: Mine) -> Outcome:
    """Run one check; whatever happens, an outcome."""
    printed = io.StringIO()
    outcome = Outcome(name, check.says, False)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    try:
        with contextlib.redirect_stdout(printed):
            check.function(mine)
        outcome.passed = True
    except Failed as failed:
        outcome.seen, outcome.expected = failed.seen, failed.expected
        outcome.given, outcome.causes = failed.given, failed.causes
        if isinstance(failed.__cause__, Exception):
            outcome.place = place_of(failed.__cause__, mine.folder)
    except Missing as missing:
        outcome.seen, outcome.expected = str(missing), f"a class or function {missing.name}"
        outcome.causes = [
            "the step is not typed yet, or the file is not saved",
            f'you gave it another name: then write {missing.name} = "module.your_name" below'
            " [names] in learn.toml",
        ]
        if missing.own:
            outcome.expected += f', which learn.toml says is "{missing.own}"'
            outcome.causes = ["the line below [names] in learn.toml names what is not there"]
    except (Exception, SystemExit) as error:
        outcome.seen = f"{type(error).__name__}: {error}"
        outcome.expected = "no error"
        if isinstance(error, AttributeError) and "has no attribute" in str(error):
            outcome.causes = ["a method that the lesson asks for is missing, or has another name"]
        if "Double and Float" in str(error) or "Float and Double" in str(error):
            outcome.causes = [
                "a part of the model is in a plain list, where PyTorch does not find it, so the"
                " check's .double() passed it by: nn.ModuleList"
            ]
        outcome.place = place_of(error, mine.folder)
    outcome.printed = printed.getvalue()
    return outcome


def place_of(error: BaseException, folder: Path) -> str:
    """The innermost line of the learner's package that an error came through."""
    if isinstance(error, SyntaxError) and error.filename:
        text = (error.text or "").strip()
        return f"{folder.name}/{Path(error.filename).name}, line {error.lineno}: {text}"
    found = ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.exists() and path.resolve().is_relative_to(folder.resolve()):
            name = f"{folder.name}/{Path(frame.filename).name}"
            found = f"{name}, line {frame.lineno}: {frame.line}"
    return found


def check_folder(
    folder: Path,
    series: Series,
    lesson: Lesson,
    step: str,
    names: dict[str, str],
    package: str = "gpt",
) -> list[Outcome]:
    """Run what applies after a step in processes of their own, which are stopped when they hang.

    Many checks are shared out to two of them; on how many cores does not matter to any check.
    """
    due = due_checks(series, lesson, step)
    wanted = [(own.name, own.folder / "checks.py", check.name) for own, check in due]
    steps = steps_done(series, lesson, step)
    parts = [wanted[::2], wanted[1::2]] if len(wanted) > MANY else [wanted]
    with ThreadPoolExecutor(len(parts)) as pool:
        jobs = [
            pool.submit(check_apart, folder, series, part, steps, names, package) for part in parts
        ]
        found = {outcome.check: outcome for job in jobs for outcome in job.result()}
    order = [f"{own}/{name}" for own, _, name in wanted]
    return [found[name] for name in order if name in found]


def check_apart(
    folder: Path,
    series: Series,
    wanted: list[tuple[str, Path, str]],
    steps: list[str],
    names: dict[str, str],
    package: str = "gpt",
) -> list[Outcome]:
    """Run checks, (whose, the file they are in, name), in a process of its own."""
    order = {
        "folder": str(folder.resolve()),
        "course": str(series.course),
        "checks": [[own, str(path), name] for own, path, name in wanted],
        "names": names,
        "steps": steps,
        "package": package,
        "seconds": SECONDS,
    }
    out, err, ended, causes = run_process(json.dumps(order), folder)
    outcomes, begun = read_outcomes(out)
    if begun:
        place = last_place(err, folder / package)
        outcomes.append(broken_off(begun, ended or last_line(err), causes, place))
    if len(outcomes) < len(wanted) and not begun:
        raise load_core().config.UserError(f"the checks did not run: {ended or last_line(err)}")
    return outcomes


def run_process(order: str, folder: Path) -> tuple[str, str, str, list[str]]:
    """Run this module in a folder; returns stdout, stderr, and where it was stopped why, and likely
    causes."""
    before = children_seconds()
    process = subprocess.Popen(
        [sys.executable, "-m", "buildgpt.course.runner"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment(),
        encoding="utf-8",
    )
    clock = BY_THE_CLOCK if resource else 3 * SECONDS
    try:
        out, err = process.communicate(order, timeout=clock)
        spent = process.returncode == -getattr(signal, "SIGXCPU", sys.maxsize)
        ended, causes = (
            (f"no end after {SECONDS:.0f} s of the processor", SLOW) if spent else ("", [])
        )
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        ended, causes = f"no end after {clock:.0f} s", SLOW + WAITING
        if resource:
            used = children_seconds() - before
            ended, causes = f"{ended}, {used:.0f} s of them on the processor", WAITING
    return out, err, ended, causes


def read_outcomes(out: str) -> tuple[list[Outcome], dict[str, str]]:
    """What the process reported, and the check that it had begun when it ended, if any."""
    outcomes: list[Outcome] = []
    begun: dict[str, str] = {}
    for line in out.splitlines():
        with contextlib.suppress(ValueError, TypeError):  # what their code has printed
            said = json.loads(line)
            if not isinstance(said, dict):
                continue
            if "begin" in said:
                begun = said
            else:
                outcomes.append(Outcome(**said))
                begun = {}
    return outcomes, begun


def broken_off(begun: dict[str, str], reason: str, causes: list[str], place: str) -> Outcome:
    """The outcome of a check in which the process ended."""
    seen = reason or "the process died"
    return Outcome(begun["begin"], begun["says"], False, seen, "an end", "", causes, place)


def last_place(err: str, package: Path) -> str:
    """The innermost line of the learner's package in what faulthandler left; "" if it left none."""
    for file, number in re.findall(r'^ *File "(.+)", line (\d+)', err, re.M):
        if Path(file).resolve().is_relative_to(package.resolve()):
            text = linecache.getline(file, int(number)).strip()
            return f"{package.name}/{Path(file).name}, line {number}: {text}"
    return ""


def limit_processor(seconds: float) -> None:
    """End this process when it has computed for so much longer, where the system can do that."""
    if resource:
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        seconds += time.process_time()
        least = math.ceil(seconds) if most == resource.RLIM_INFINITY else most - 1
        resource.setrlimit(resource.RLIMIT_CPU, (min(math.ceil(seconds), least), most))
        _, largest = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, largest))  # the signal would dump all memory


def children_seconds() -> float:
    """The seconds of the processor that ended processes of this one have used; 0 if unknown."""
    if resource is None:
        return 0.0
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def run_python(
    words: list[str], folder: Path, seconds: float
) -> "subprocess.CompletedProcess[str]":
    """What a Python process in a learner's folder says; TimeoutExpired if it does not end."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=seconds,
    )


def environment() -> dict[str, str]:
    """This package's code, one thread, the same hashes each time."""
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    fixed = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    fixed |= {"PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"}
    return os.environ | fixed | {"PYTHONPATH": path}


def main() -> None:
    """Run the checks that stdin orders."""
    order: dict[str, Any] = json.load(sys.stdin)
    if resource:  # who computes for too long leaves word of where
        faulthandler.register(signal.SIGXCPU, all_threads=False, chain=True)
    real = sys.stdout
    sys.stdout = sys.stderr  # what a module prints when it is imported is no report
    entries, names = Series(Path(order["course"])).entries(), order["names"]
    files = {path: load_checks(Path(path)) for _, path, _ in order["checks"]}
    for own, path, name in order["checks"]:
        check = next(check for check in files[path] if check.name == name)
        limit_processor(order["seconds"])
        print(json.dumps({"begin": f"{own}/{name}", "says": check.says}), file=real, flush=True)
        for outcome in run_checks(
            Path(order["folder"]), [(own, check)], entries, names, order["steps"], order["package"]
        ):
            print(json.dumps(asdict(outcome)), file=real, flush=True)


if __name__ == "__main__":
    main()
