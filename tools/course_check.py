"""What must hold of the course; `tools/course.py check` runs it, and `figures` measures with it.

Learners' checks and demos run in forked copies of this process, where torch is imported already.
"""

import ast
import builtins
import contextlib
import functools
import importlib
import importlib.util
import io
import json
import keyword
import os
import re
import resource
import runpy
import shutil
import signal
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import course_words

from buildgpt.core import load_core
from buildgpt.course import prose, ranks, warm_up
from buildgpt.course.checking import load_checks
from buildgpt.course.folder import place_data, place_files, place_made, place_text
from buildgpt.course.owners import authors
from buildgpt.course.patches import Tree
from buildgpt.course.runner import Outcome, due_checks, run_checks
from buildgpt.course.series import (
    KINDS,
    Lesson,
    Series,
    Step,
    core_tree,
    write_repository,
    write_tree,
)

MOST_ADDED, MOST_STEPS, MEDIAN, TYPED, ALL_TYPED = 60, 8, 15, (20, 60), 900
CPU_SECONDS, SECONDS = 100, 900  # for one forked copy: of its own, and at most
WORKERS = min(2, os.cpu_count() or 1)  # lessons at a time
ROUNDING = 1e-9  # the share by which a figure without a tolerance may differ
SEEDED = re.compile(r"seed(?:\(| ?= ?| in \()([\d, ]+)")  # manual_seed(1), seed=1, seed in (1, 2)


class Findings:
    """What does not hold, told as it is found."""

    def __init__(self) -> None:
        self.count = 0

    def need(self, condition: object, sentence: str) -> None:
        """Tell the sentence unless the condition holds."""
        if not condition:
            self.count += 1
            print(f"  NO: {sentence}", flush=True)


# Forked copies.


def forked(function: Callable[[], Any], cpu_seconds: float = CPU_SECONDS) -> tuple[Any, str]:
    """What a function returns in a copy of this process, as JSON, and its error's text if any."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            signal.alarm(SECONDS)
            signal.setitimer(signal.ITIMER_VIRTUAL, cpu_seconds)
            os.close(read)
            with os.fdopen(write, "w", encoding="utf-8") as pipe:
                pipe.write(json.dumps(attempt(function)))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said) if said else (None, f"no end after {cpu_seconds} s")


def computed() -> float:
    """The seconds that forked copies, now ended, have computed."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


def attempt(function: Callable[[], Any]) -> tuple[Any, str]:
    """What it returns, and the last line of its error if it raises one."""
    try:
        return function(), ""
    except BaseException:
        return None, traceback.format_exc().strip().splitlines()[-1]


def side_by_side(jobs: list[Callable[[], Any]], workers: int) -> list[Any]:
    """What jobs return, so many at a time in forked copies; what each prints comes in their order.

    None in the place of a job that broke off.
    """
    found: list[Any] = [None] * len(jobs)
    running: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as name:
        waiting, told, ended = [*range(len(jobs))], 0, set()
        while told < len(jobs):
            while waiting and len(running) < workers:
                number = waiting.pop(0)
                running[set_off(jobs[number], Path(name) / str(number))] = number
            number = running.pop(first_ended([*running]))
            ended.add(number)
            result = Path(name) / f"{number}.json"
            found[number] = json.loads(result.read_text()) if result.exists() else None
            while told in ended:
                print((Path(name) / f"{told}.out").read_text("utf-8"), end="", flush=True)
                told += 1
    return found


def first_ended(children: list[int]) -> int:
    """Wait for the first of some processes to end, and for none that others have begun."""
    while True:
        for child in children:
            if os.waitpid(child, os.WNOHANG)[0]:
                return child
        time.sleep(0.02)


def set_off(job: Callable[[], Any], place: Path) -> int:
    """Begin a job in a forked copy; its words and what it returns go into files. Gives its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    try:
        with open(f"{place}.out", "w", encoding="utf-8") as out, contextlib.redirect_stdout(out):
            returned = job()
        place.with_suffix(".json").write_text(json.dumps(returned))
    except BaseException:
        with open(f"{place}.out", "a", encoding="utf-8") as out:
            out.write(traceback.format_exc())
    os._exit(0)


class Workshop:
    """Folders with the reference's code after so many steps, and the text beside it."""

    def __init__(self, series: Series, place: Path) -> None:
        self.series, self.place = series, place
        place_text(place / "data" / "shakespeare.txt")

    def folder(self, name: str, tree: Tree, lesson: Lesson) -> Path:
        """A folder like a learner's."""
        path = self.place / name
        shutil.rmtree(path, ignore_errors=True)
        write_tree(path, tree)
        (path / "gpt").mkdir(parents=True, exist_ok=True)
        (path / "data").symlink_to(self.place / "data", target_is_directory=True)
        place_data(path / "gpt", self.series, lesson)
        for earlier in self.series.lessons[: self.series.lessons.index(lesson) + 1]:
            place_files(path, earlier)
        place_made(path, self.series, lesson)
        return path

    def at(self, steps: int, lesson: Lesson) -> Path:
        """The same after so many steps of the series."""
        return self.folder(f"after-{steps}", self.series.tree(steps), lesson)


def enter(folder: Path) -> None:
    """Make a folder this process's own."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))


class Differs(BaseException):
    """What is printed is not what was printed elsewhere; no demo catches that."""


class Echo(io.StringIO):
    """Output that breaks off where it is no longer that of another run, which saves the rest."""

    def __init__(self, other: str) -> None:
        super().__init__()
        self.other = other

    def write(self, text: str) -> int:
        """Raises Differs."""
        count = super().write(text)
        if not self.other.startswith(self.getvalue()):
            raise Differs
        return count


def run_demo(folder: Path, demo: Path, other: str | None = None) -> tuple[str, str]:
    """What a demo prints, and its error; if it is not what an `other` run printed, no more."""

    def run() -> str:
        enter(folder)
        out = io.StringIO() if other is None else Echo(other)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            runpy.run_path(str(demo), run_name="__main__")
        return out.getvalue()

    found, error = forked(run)
    return found or "", error


def failing(
    folder: Path, series: Series, checks: list, steps: int, cpu_seconds: float = CPU_SECONDS
) -> dict[str, str]:
    """The checks that fail in a folder when so many steps are done, with what was seen."""

    def run() -> dict[str, str]:
        return {
            o.check: f"{o.seen}; expected {o.expected}" + f"; for {o.given}" * bool(o.given)
            for o in outcomes(folder, series, checks, steps)
            if not o.passed
        }

    found, error = forked(run, cpu_seconds)
    return {"all of them": error} if error else found


def first_to_fail(
    folder: Path, series: Series, checks: list, steps: int, cpu_seconds: float = CPU_SECONDS
) -> str:
    """The first check that fails, or what they break off with; "" where all pass."""

    def run() -> str:
        found = outcomes(folder, series, checks, steps)
        return next((outcome.check for outcome in found if not outcome.passed), "")

    found, error = forked(run, cpu_seconds)
    return error or found


def outcomes(folder: Path, series: Series, checks: list, steps: int) -> Iterator[Outcome]:
    """What becomes of each check in a folder, in this process, which is the folder's own."""
    enter(folder)
    done = [step.id for step in series.steps[:steps]]
    wanted = [(lesson.name, check) for lesson, check in checks]
    with contextlib.redirect_stderr(io.StringIO()):
        yield from run_checks(folder, wanted, series.entries(), {}, done)


# What must hold.


def check_all(
    series: Series, words: list[str], workers: int = WORKERS, every_step: bool = False
) -> int:
    """Everything, of all lessons or of some; returns how much does not hold."""
    findings = Findings()
    lessons = asked_for(series, words)
    check_series(series, findings)
    counts = for_each(series, lessons, functools.partial(check_lesson, every_step), workers)
    for lesson, count in zip(lessons, counts):
        findings.need(count is not None, f"the checking of {lesson.name} broke off")
        findings.count += count or 0
    steps = [step for lesson in series.lessons for step in lesson.steps]
    median = statistics.median(len(code_lines(step.patch.added())) for step in steps)
    findings.need(median <= MEDIAN, f"the median step has {median} lines")
    typed = sum(map(typed_lines, steps))
    findings.need(typed <= ALL_TYPED, f"{typed} lines are typed in all, more than {ALL_TYPED}")
    print(f"{len(lessons)} lessons, {typed} typed lines in all; {findings.count} findings")
    return findings.count


def for_each(
    series: Series,
    lessons: list[Lesson],
    work: Callable[[Workshop, Lesson], Any],
    workers: int = WORKERS,
) -> list[Any]:
    """What some work gives for each lesson, in a workshop of its own, so many at a time."""
    import torch

    ranks.prepare()  # once, not in each copy, as the next line
    torch.set_num_threads(1)
    series.tree(len(series.steps))
    with tempfile.TemporaryDirectory() as place:
        shops = [Workshop(series, Path(place) / lesson.name) for lesson in lessons]
        jobs = [functools.partial(work, *pair) for pair in zip(shops, lessons)]
        return side_by_side(jobs, workers)


def check_lesson(every_step: bool, shop: Workshop, lesson: Lesson) -> int:
    """Everything of one lesson; returns how much does not hold.

    Checks of earlier lessons are run at its end, and after each of its steps if that is wished.
    """
    findings, began = Findings(), time.monotonic()
    print(f"lesson {lesson.number}: {lesson.title}", flush=True)
    check_size(lesson, findings)
    check_prose(shop.series, lesson, findings)
    for step in lesson.steps:
        check_step(shop, step, findings, every_step or step == lesson.steps[-1])
    check_stubs(shop, lesson, findings)
    check_exercise(shop, lesson, findings)
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return findings.count


def wanted(lesson: Lesson, words: list[str]) -> bool:
    """Whether a lesson is among those asked for."""
    return bool({lesson.name, str(lesson.number), f"{lesson.number:02d}"} & {*words})


def check_series(series: Series, findings: Findings) -> None:
    """It ends in the core; git and our own way of applying patches agree; the ids are stable."""
    last = series.tree(len(series.steps))
    core = core_tree()
    off = sorted(path for path in {*last, *core} if last.get(path) != core.get(path))
    findings.need(
        not off,
        f"the series does not end in the core: {', '.join(off)}; renew what no lesson has come to"
        " with: python tools/course.py check --write",
    )
    with tempfile.TemporaryDirectory() as place:
        heads = {write_repository(Path(place) / name, series) for name in ("one", "other")}
        findings.need(len(heads) == 1, "two builds of the series have different commit ids")
        built = {f"gpt/{p.name}": p.read_text("utf-8") for p in Path(place).glob("one/gpt/*.py")}
        findings.need(built == last, "git am gives another tree than the course's own patching")
    written = authors(series, len(series.steps)).items()
    lines = {path: "".join(f"{line}\n" for line, _ in owned) for path, owned in written}
    findings.need(lines == last, "some line of the core belongs to no step")
    text = "".join(step.path.read_bytes().decode() for step in series.steps)
    findings.need("\r" not in text, "a patch holds a carriage return")
    for term in course_words.undefined_terms(series):
        findings.need(False, f"course/glossary.md explains {term}, which no lesson defines")


def code_lines(lines: list[str]) -> list[str]:
    """Lines that are neither empty nor, as far as one line shows, words."""
    return [line for line in lines if line.strip() and not line.strip().startswith(('"""', "#"))]


def typed_lines(step: Step) -> int:
    """How many lines of code a learner types."""
    return len(code_lines(step.patch.added())) if step.kind == "type" else 0


def check_size(lesson: Lesson, findings: Findings) -> None:
    """Steps are small, and each says what it makes true and what to do with it."""
    where = lesson.name
    findings.need(0 < len(lesson.steps) <= MOST_STEPS, f"{where} has {len(lesson.steps)} steps")
    for step in lesson.steps:
        added = len(step.patch.added())
        findings.need(added <= MOST_ADDED, f"{step.id} adds {added} lines")
        findings.need(step.kind in KINDS, f"{step.id} is of no kind: {step.kind}")
        agrees = step.patch.trailers.get("Lesson") == where
        findings.need(agrees, f"{step.id} says that it belongs to another lesson")
    typed = sum(map(typed_lines, lesson.steps))
    is_read = all(step.kind != "type" for step in lesson.steps)
    findings.need(is_read or TYPED[0] <= typed <= TYPED[1], f"{where}: {typed} lines are typed")


def check_step(shop: Workshop, step: Step, findings: Findings, earlier: bool) -> None:
    """It imports, the lesson's checks up to it pass, with `earlier` those of all lessons, its own
    fail before it, its demo shows something."""
    series, lesson = shop.series, step.lesson
    after, before = shop.at(step.index + 1, lesson), shop.at(step.index, lesson)
    error = forked(lambda: import_all(after))[1]
    findings.need(not error, f"{step.id} does not import: {error}")
    due = due_checks(series, lesson, step.slug)
    due = [(own, check) for own, check in due if earlier or own == lesson]
    for name, seen in failing(after, series, due, step.index + 1).items():
        findings.need(False, f"{step.id}: {name} fails: {seen}")
    own = [(own, check) for own, check in due if own == lesson and check.step == step.slug]
    findings.need(own or step.kind != "type", f"{step.id} is typed, but nothing checks it")
    early = failing(before, series, own, step.index + 1)
    for _, check in own:
        name = f"{lesson.name}/{check.name}"
        if name not in early and "all of them" not in early:
            findings.need(False, f"{name} passes before {step.id}")
    check_demo(shop, step, findings, after, before)
    print(f"  {step.label} {step.slug}: {len(due)} checks, {len(own)} of them its own", flush=True)


def check_demo(shop: Workshop, step: Step, findings: Findings, after: Path, before: Path) -> None:
    """What a step's demo prints is not what it would have printed before."""
    demo = step.lesson.demo(step)
    if demo is None:
        findings.need(step.kind == "read", f"{step.id} has nothing to run")
        return
    shown, error = run_demo(after, demo)
    findings.need(not error and shown.strip(), f"{step.id}: its demo fails: {error}")
    same = run_demo(before, demo, shown)[0] == shown
    findings.need(not same, f"{step.id}: its demo shows no difference")


def import_all(folder: Path) -> None:
    """Import every module of a package."""
    enter(folder)
    for path in sorted((folder / "gpt").glob("*.py")):
        importlib.import_module(f"gpt.{path.stem}" if path.stem != "__init__" else "gpt")


# Stubs: what a learner may leave there who has not understood.


def check_stubs(shop: Workshop, lesson: Lesson, findings: Findings) -> None:
    """Each function that the lesson's typed steps wrote, emptied, makes some check fail."""
    names = sorted(written(shop.series, lesson, "type"))
    count, unmissed = emptied(shop, lesson, names)
    for path, name in unmissed:
        findings.need(False, f"{lesson.name}: nobody misses {name} in {path}")
    print(f"  {count} functions emptied, each was missed" * (not unmissed), flush=True)


def check_taken(shop: Workshop, lesson: Lesson) -> int:
    """The same of what is handed over, but for what lesson.toml lists as `unmissed`, with a reason;
    returns how much does not hold."""
    findings, series = Findings(), shop.series
    taken = written(series, lesson, "take") - written(series, lesson, "type")
    listed = {(f"gpt/{key.partition('.')[0]}.py", key.partition(".")[2]) for key in excused(lesson)}
    count, unmissed = emptied(shop, lesson, sorted(taken - listed))
    print(f"lesson {lesson.number}: {count} functions emptied that are handed over", flush=True)
    for path, name in unmissed:
        findings.need(False, f"{lesson.name}: nobody misses {name} in {path}")
    for path, name in sorted(listed - taken):
        findings.need(False, f"{lesson.name}/lesson.toml excuses {name}, which is not in {path}")
    return findings.count


def check_all_taken(series: Series, words: list[str], workers: int = WORKERS) -> int:
    """The same of all lessons, or of some."""
    lessons = asked_for(series, words)
    counts = for_each(series, lessons, check_taken, workers)
    return sum(1 if count is None else count for count in counts)


def excused(lesson: Lesson) -> dict[str, str]:
    """Functions that no check can see, such as "train.Trainer.say", and why."""
    return dict(lesson.facts.get("unmissed", {}))


def emptied(
    shop: Workshop, lesson: Lesson, names: list[tuple[str, str]]
) -> tuple[int, list[tuple[str, str]]]:
    """How many of these functions do something, and which of them nobody misses.

    The lesson's own checks come first, and whoever needs far longer for them than the whole code
    hangs: a loop whose step is empty never ends.
    """
    series, end = shop.series, shop.series.after(lesson)
    tree, due = series.tree(end), due_checks(series, lesson)
    own = [(whose, check) for whose, check in due if whose == lesson]
    others = [(whose, check) for whose, check in due if whose != lesson]
    began = computed()
    failing(shop.at(end, lesson), series, own, end)
    limit = 5 + 5 * (computed() - began)
    count, unmissed = 0, []
    for path, name in names:
        stubbed = stub(tree[path], name)
        if stubbed is None:
            continue
        count += 1
        folder = shop.folder("stub", tree | {path: stubbed}, lesson)
        if not first_to_fail(folder, series, own, end, limit):
            if not first_to_fail(folder, series, others, end):
                unmissed.append((path, name))
    return count, unmissed


def written(series: Series, lesson: Lesson, kind: str) -> set[tuple[str, str]]:
    """(path, "Class.method") of each function that a step of a kind wrote or changed."""
    found = set()
    for step in lesson.steps:
        if step.kind == kind:
            before, after = series.tree(step.index), series.tree(step.index + 1)
            for path in step.patch.files:
                old, new = functions(before.get(path, "")), functions(after[path])
                found |= {(path, name) for name in new if old.get(name) != new[name]}
    return found


def functions(code: str) -> dict[str, str]:
    """Each function and method of a file, by its dotted name."""
    found = {}
    for node in ast.parse(code).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        for part in inner:
            if isinstance(part, ast.FunctionDef):
                prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
                found[f"{prefix}{part.name}"] = ast.dump(part)
    return found


def stub(code: str, name: str) -> str | None:
    """The file with one function that only gives its first argument back; None if it is gone, or
    does nothing but say that others have to."""
    tree = ast.parse(code)
    cls, _, function = name.rpartition(".")
    body = tree.body
    if cls:
        body = next((n.body for n in body if isinstance(n, ast.ClassDef) and n.name == cls), [])
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            if "NotImplementedError" in ast.unparse(node.body[-1]):
                return None
            arguments = [a.arg for a in node.args.args if a.arg != "self"]
            giving = arguments[0] if arguments and function != "__init__" else "None"
            node.body = ast.parse(f"return {giving}").body
            return ast.unparse(ast.fix_missing_locations(tree))
    return None


def check_exercise(shop: Workshop, lesson: Lesson, findings: Findings) -> None:
    """The exercise's solution passes its test, and nothing at all does not."""
    folder = lesson.folder / "exercise"
    if not folder.is_dir():
        findings.need(False, f"{lesson.name} has no exercise")
        return
    place = shop.at(shop.series.after(lesson), lesson)

    def solve(empty: bool) -> None:
        enter(place)
        module = ModuleType("solution") if empty else load(folder / "solution.py")
        load(folder / "test.py").test(module)

    error = forked(lambda: solve(False))[1]
    findings.need(not error, f"{lesson.name}: the exercise's solution fails: {error}")
    findings.need(forked(lambda: solve(True))[1], f"{lesson.name}: an unsolved exercise passes")


def load(path: Path) -> ModuleType:
    """A Python file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Words.


def check_prose(series: Series, lesson: Lesson, findings: Findings) -> None:
    """A lesson's words show every line of its steps, type none, and name only what is there; the
    glossary explains what they define."""
    where = lesson.name
    for term in prose.terms(lesson):
        explained = term in prose.glossary(series.course)
        findings.need(explained, f"{where}/lesson.md defines {term}: course/glossary.md does not")
    for key in ("title", "part", "minutes", "presumes"):
        findings.need(key in lesson.facts, f"{where}/lesson.toml has no {key}")
    wrongly = course_words.seen_wrongly(lesson.facts.get("sees", ""))
    findings.need(not wrongly, f"{where}/lesson.toml {wrongly}")
    found = prose.sections(lesson)
    slugs = [step.slug for step in lesson.steps]
    findings.need([*found] == ["", *slugs, "end"], f"{where}/lesson.md has the sections {[*found]}")
    text = (lesson.folder / "lesson.md").read_text(encoding="utf-8")
    findings.need("```" not in text, f"{where}/lesson.md holds code that was typed")
    constants = lesson.facts.get("constants", [])
    for number in course_words.typed_figures(text, constants):
        findings.need(False, f"{where}/lesson.md holds a typed figure: {number}")
    for claim in course_words.typed_claims(text, constants):
        findings.need(False, f"{where}/lesson.md says a measurement in words: {claim}")
    for term in course_words.early_terms(series, lesson):
        findings.need(False, f"{where}/lesson.md uses {term}, which a later lesson defines")
    recorded = prose.records(series.course)
    for entry in lesson.facts.get("predict", []):
        good = entry["step"] in slugs and entry["figure"] in recorded["figures"]
        findings.need(good, f"{where}/lesson.toml asks to predict what is not there")
    for step in lesson.steps:
        with complaints(findings, step.id):
            check_step_prose(series, step, found.get(step.slug, ""), findings)
    for name in ("", "end"):
        with complaints(findings, f"{where}, {name or 'opening'}"):
            prose.section(series, lesson, name)
    check_names(series, lesson, found, findings)
    unknown = {check.step for check in load_checks(lesson.folder / "checks.py")} - {*slugs}
    findings.need(not unknown, f"{where}/checks.py names steps that are not there: {unknown}")


@contextlib.contextmanager
def complaints(findings: Findings, where: str) -> Iterator[None]:
    """Words that do not fit the steps are a finding."""
    try:
        yield
    except prose.BadProse as error:
        findings.need(False, f"{where}: {error}")


def check_step_prose(series: Series, step: Step, text: str, findings: Findings) -> None:
    """Every line that a step adds is shown; a typed step has three hints, without its lines."""
    blocks = prose.section(series, step.lesson, step.slug)
    shown = {line for block in blocks for _, line in block.lines}
    for line in step.patch.added():
        findings.need(not line or line in shown, f"{step.id} does not show: {line}")
    findings.need(step.kind == "read" or "{{try}}" in text, f"{step.id} has no {{{{try}}}}")
    if step.kind != "type":
        return
    rungs = prose.hints(step.lesson).get(step.slug, [])
    findings.need(len(rungs) == 3, f"{step.id} has {len(rungs)} hints, not three")
    for line in code_lines(step.patch.added()):
        told = len(line.strip()) > 14 and any(line.strip() in rung for rung in rungs)
        findings.need(not told, f"a hint of {step.id} holds its line: {line.strip()}")


def check_names(series: Series, lesson: Lesson, found: dict[str, str], findings: Findings) -> None:
    """Every name between backticks is one of the code, of Python, or listed as known."""
    tree = series.tree(series.after(lesson))
    sources = [*tree.values(), *(p.read_text("utf-8") for p in lesson.folder.glob("demos/*.py"))]
    sources += [p.read_text("utf-8") for p in lesson.folder.glob("files/*")]
    sources += [p.read_text("utf-8") for p in lesson.folder.glob("exercise/*.py")]
    known = {word for source in sources for word in re.findall(r"\w+", source)}
    known |= {*dir(builtins), *keyword.kwlist, *dir(str), *dir(list), "py", "try", "toml", "gpt"}
    known |= {path.removesuffix(".py").partition("/")[2] for path in tree} | {"data", "self"}
    known |= {"python", "m", "buildgpt", "course"} | {*lesson.facts.get("words", [])}
    for name, text in found.items():
        for span in re.findall(r"`([^`\n]+)`", prose.DIRECTIVE.sub("", text)):
            for word in re.findall(r"[A-Za-z_]\w+", span):
                findings.need(word in known, f"{lesson.name}, {name}: what is `{span}` ({word})?")


# Figures and outputs.


def measure(series: Series, words: list[str]) -> dict[str, Any]:
    """Every figure, what the site draws, and every demo's output, anew; with words, those of some
    lessons, beside what is recorded of the others. Tells which figures have moved farther than they
    may."""
    recorded = prose.records(series.course)
    before = recorded if words else {}
    figures: dict[str, Any] = {**before.get("figures", {})}
    drawn: dict[str, Any] = {**before.get("drawn", {})}
    outputs: dict[str, str] = {**before.get("outputs", {})}
    with measuring(series) as shop:
        for name, demo in ({} if words else warm_up.demos(series.course)).items():
            outputs[f"{warm_up.FOLDER}/{name}"], error = run_demo(shop.place, demo)
            print(f"{warm_up.FOLDER}/{name}: {error or 'recorded'}", flush=True)
        for lesson in asked_for(series, words):
            found = lesson_figures(shop, lesson)
            for sentence in moved(recorded["figures"], found["figures"]):
                print(f"  MOVED: {sentence}", flush=True)
            figures, drawn = figures | found["figures"], drawn | found["drawn"]
            for step in lesson.steps:
                demo = lesson.demo(step)
                if demo:
                    outputs[step.id], error = run_demo(shop.at(step.index + 1, lesson), demo)
                    print(f"{step.id}: {error or 'recorded'}", flush=True)
    found = {"figures": figures, "drawn": drawn, "outputs": outputs}
    return found | {"seeds": seeds(series), "threads": 1}


def figures_hold(series: Series, words: list[str]) -> bool:
    """Whether all figures, or those of some lessons, are measured again within their tolerances;
    tells which are not."""
    recorded, found = prose.records(series.course)["figures"], {}
    findings = Findings()
    with measuring(series) as shop:
        for lesson in asked_for(series, words):
            again = lesson_figures(shop, lesson)["figures"]
            print(f"{lesson.name}: {len(again)} figures measured again", flush=True)
            for sentence in moved(recorded, again):
                findings.need(False, sentence)
            found |= again
    for name in sorted(found.keys() - recorded.keys()):
        findings.need(False, f"the figure {name!r} is not recorded")
    for name in [] if words else sorted(recorded.keys() - found.keys()):
        findings.need(False, f"nothing measures the figure {name!r} any more")
    print(f"{len(found)} figures, {findings.count} findings")
    return not findings.count


def asked_for(series: Series, words: list[str]) -> list[Lesson]:
    """The lessons that are asked for, all where none is."""
    return [lesson for lesson in series.lessons if not words or wanted(lesson, words)]


@contextlib.contextmanager
def measuring(series: Series) -> Iterator[Workshop]:
    """A workshop where figures are measured: on one thread, as everywhere in the course."""
    import torch

    with tempfile.TemporaryDirectory() as place:
        ranks.prepare()
        torch.set_num_threads(1)
        yield Workshop(series, Path(place))


def moved(recorded: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """Of figures measured again, those that are not within the tolerance of their record."""
    for name in sorted(found.keys() & recorded.keys()):
        before, value = recorded[name], found[name]["value"]
        most = before["tolerance"] + ROUNDING * abs(before["value"])
        if not abs(value - before["value"]) <= most:  # what is no number is outside, too
            within = f"{before['value']:g} ± {before['tolerance']:g}"
            yield f"the figure {name!r} is {value:g}; {within} is recorded"


def seeds(series: Series) -> dict[str, str]:
    """The seed of all recipes that name none, and those that the text of each lesson's figures and
    demos fixes. Who says nothing has PyTorch's own, which is always the same in a new process."""
    found = {"recipes": str(load_core().config.TrainConfig().seed)}
    for lesson in series.lessons:
        paths = [*lesson.folder.glob("figures.py"), *lesson.folder.glob("demos/*.py")]
        texts = [path.read_text("utf-8") for path in [*paths, *lesson.folder.glob("files/*.*")]]
        given = " ".join(numbers for text in texts for numbers in SEEDED.findall(text))
        named = sorted({*map(int, re.findall(r"\d+", given))})
        found |= {lesson.name: ", ".join(map(str, named))} if named else {}
    return found


def lesson_figures(shop: Workshop, lesson: Lesson) -> dict[str, Any]:
    """What a lesson's figures.py measures where its code is: "figures" for the words, and what is
    "drawn" on the site."""
    path = lesson.folder / "figures.py"
    if not path.exists():
        return {"figures": {}, "drawn": {}}
    folder = shop.at(shop.series.after(lesson), lesson)

    def run() -> dict[str, Any]:
        enter(folder)
        with contextlib.redirect_stdout(io.StringIO()):
            module = load(path)
        figures = {
            name: {"value": float(value), "shown": shown.format(value), "tolerance": tolerance}
            for name, (value, shown, tolerance) in module.FIGURES.items()
        }
        return {"figures": figures, "drawn": getattr(module, "DRAWN", {})}

    measured, error = forked(run)
    if error:
        raise SystemExit(f"{path}: {error}")
    return measured
