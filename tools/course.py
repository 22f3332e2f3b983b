"""The course's series of commits: build it, check it, change it.

    python tools/course.py --help

The last commit of the series holds our core, byte for byte.
"""

import datetime
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tools")]

import course_check  # noqa: E402
import course_curves  # noqa: E402
import course_gallery  # noqa: E402
import course_mutants  # noqa: E402
import course_notebooks  # noqa: E402
import course_times  # noqa: E402
import course_zoo  # noqa: E402

from buildgpt.core import load_core  # noqa: E402
from buildgpt.course import owners  # noqa: E402
from buildgpt.course.patches import BadPatch, parse  # noqa: E402
from buildgpt.course.series import (  # noqa: E402
    AUTHOR,
    COURSE,
    EMAIL,
    UNCARVED,
    Repository,
    Series,
    Step,
    core_tree,
    write_repository,
    write_tree,
)

WORK = ROOT / "tmp" / "course"
COMPARE = "Only compare them with what is recorded, each within its tolerance."
EVERY_STEP = "Earlier lessons' checks after every step, not only at a lesson's end."
FORMAT = ["-1", "--stdout", "--zero-commit", "--no-signature", "--no-stat", "--keep-subject"]
FORMAT += ["--full-index", "--no-renames", "--no-base", "-U3"]


class WentWrong(Exception):
    """One sentence: what, where, what to do."""


def build(folder: Path) -> None:
    """Write the series as a repository."""
    if folder.exists() and any(folder.iterdir()):
        raise WentWrong(f"{folder} is not empty")
    print(
        f"{folder}: {len(Series().steps)} steps, the last is {write_repository(folder, Series())}"
    )


# Patches from commits.


def patch_of(repository: Repository, commit: str) -> str:
    """A commit as a patch, by the course's author at the course's date."""
    text = repository.git("format-patch", *FORMAT, commit).stdout
    text = re.sub(r"^From: .*$", f"From: {AUTHOR} <{EMAIL}>", text, count=1, flags=re.M)
    return re.sub(r"^Date: .*$", "Date: Thu, 1 Jan 2026 00:00:00 +0000", text, count=1, flags=re.M)


def slug_of(text: str) -> str:
    """A commit's short name: what it says, else from its subject."""
    patch = parse(text)
    return patch.trailers.get("Step") or re.sub(r"[^a-z0-9]+", "-", patch.subject.lower()).strip(
        "-"
    )


def write_patches(patches: list[str], default: str) -> None:
    """Write the patches into their lessons' folders, and delete those that are no more."""
    lessons: dict[str, list[str]] = {}
    for text in patches:
        default = parse(text).trailers.get("Lesson", default)
        lessons.setdefault(default, []).append(text)
    for folder in {*COURSE.glob("[0-9][0-9]-*"), *(COURSE / name for name in lessons)}:
        if folder.name != UNCARVED:
            write_lesson(folder, lessons.get(folder.name, []))
    renew_uncarved()


def write_lesson(folder: Path, patches: list[str]) -> None:
    """One lesson's patches, numbered as they come."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {f"{i:02d}-{slug_of(text)}.patch": text for i, text in enumerate(patches, 1)}
    if len(wanted) < len(patches):
        raise WentWrong(f"two steps of {folder.name} have the same name")
    for path in folder.glob("*.patch"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_bytes(text.encode("utf-8"))


def uncarved() -> str:
    """The patch from the last lesson's tree to the core; "" where there is nothing left."""
    series = Series()
    steps = [step for lesson in series.lessons for step in lesson.steps]
    if series.tree(len(steps)) == core_tree():
        return ""
    scratch = ROOT / "tmp" / "uncarved"
    shutil.rmtree(scratch, ignore_errors=True)
    repository = Repository(scratch)
    repository.init()
    write_tree(scratch, series.tree(len(steps)))
    commit(repository, "The lessons so far", "")
    shutil.rmtree(scratch / "gpt", ignore_errors=True)
    write_tree(scratch, core_tree())
    trailers = f"Lesson: {UNCARVED}\nStep: rest\nKind: read"
    commit(repository, "The rest of the core is here, which no lesson has come to yet", trailers)
    text = patch_of(repository, "HEAD")
    shutil.rmtree(scratch)
    return text


def commit(repository: Repository, subject: str, body: str) -> None:
    """Commit everything."""
    repository.git("add", "--all")
    repository.git(
        "commit", "--quiet", "--allow-empty", "-m", subject, *(["-m", body] * bool(body))
    )


def renew_uncarved() -> None:
    """Write course/99-uncarved anew, so that the series ends in the core as it is."""
    folder, text = COURSE / UNCARVED, uncarved()
    if text:
        write_lesson(folder, [text])
    else:
        shutil.rmtree(folder, ignore_errors=True)


# Amending.


def find_step(series: Series, words: str) -> Step:
    """A step by "3.2" or "03-bigram/loss"."""
    for lesson in series.lessons:
        for step in lesson.steps:
            if words in (step.label, step.id):
                return step
    raise WentWrong(f"there is no step {words}")


def amend(words: str) -> None:
    """Open a step: the series up to it, in a repository to edit."""
    if WORK.exists():
        raise WentWrong(f"{WORK} is open already: amend --continue, or amend --abort")
    series = Series()
    steps = [step for lesson in series.lessons for step in lesson.steps]
    last = find_step(series, words).index if words != "end" else len(steps) - 1
    repository = Repository(WORK)
    repository.init()
    repository.apply(steps)
    if steps:
        repository.git("branch", "original")
        repository.git("reset", "--hard", f"HEAD~{len(steps) - 1 - last}")
        later = repository.git("rev-list", "--reverse", "HEAD..original").stdout
        (WORK / ".git" / "later").write_text(later)
    done = f"the series up to {steps[last].id} lies" if steps else "an empty series lies"
    print(
        f"{done} in {WORK}. Edit the files there; then:\n"
        "    python tools/course.py amend --continue\n"
        "puts the edit into that step, replays the later ones and writes all patches anew.\n"
        "To add steps after it, commit them there with git, one by one, each with the lines\n"
        "    Lesson: NN-name\n    Step: short-name\n    Kind: type (or take, read)\n"
        "at the end of its message. To change a message: git commit --amend.\n"
        "    python tools/course.py amend --abort\n"
        "forgets everything."
    )


def go_on() -> None:
    """Take the edit, replay what is left, write the patches."""
    if not WORK.exists():
        raise WentWrong("nothing is open: amend STEP opens a step")
    repository = Repository(WORK)
    picking = (WORK / ".git" / "CHERRY_PICK_HEAD").exists()
    marked = [p for p in WORK.glob("gpt/*.py") if re.search(r"^(<{7}|>{7}) ", p.read_text(), re.M)]
    if marked:
        raise WentWrong(f"{', '.join(p.name for p in marked)} still has conflict marks")
    if picking:
        repository.git("add", "--all")
        repository.git("commit", "--quiet", "--allow-empty", "--no-edit")
    elif repository.git("status", "--porcelain").stdout:
        repository.git("add", "--all")
        first = repository.git("rev-parse", "--verify", "HEAD", check=False).returncode != 0
        if first:
            raise WentWrong(f"commit the first step in {WORK} with git")
        repository.git("commit", "--quiet", "--amend", "--no-edit")
    replay(repository)
    commits = repository.git("rev-list", "--reverse", "HEAD").stdout.split()
    write_patches([patch_of(repository, c) for c in commits if changes(repository, c)], "")
    shutil.rmtree(WORK)
    print(f"{len(commits)} steps written below {COURSE}; now: python tools/course.py check")


def changes(repository: Repository, commit: str) -> bool:
    """Whether a commit changes anything; one whose change an earlier step has taken is dropped."""
    if repository.git("show", "--format=", "--name-only", commit).stdout.strip():
        return True
    print(f"dropped, as nothing is left of it: {repository.git('log', '-1', commit).stdout}")
    return False


def replay(repository: Repository) -> None:
    """Pick the later commits one by one; stop where one does not fit."""
    path = WORK / ".git" / "later"
    left = path.read_text().split() if path.exists() else []
    while left:
        commit = left.pop(0)
        path.write_text("\n".join(left))
        if repository.git("cherry-pick", "--allow-empty", commit, check=False).returncode:
            subject = repository.git("log", "-1", "--format=%s", commit).stdout.strip()
            files = repository.git("diff", "--name-only", "--diff-filter=U").stdout.split()
            raise WentWrong(
                f'the step "{subject}" does not fit any more in {", ".join(files)}.\n'
                f"Mend the places between <<<<<<< and >>>>>>> below {WORK},\n"
                "then: python tools/course.py amend --continue"
            )


# What is made of the lessons.


def made_anew(series: Series) -> int:
    """Tell what is made of the lessons and has to be made again; returns how much."""
    found = [
        f"{path} is not as the lessons are: notebooks" for path in course_notebooks.stale(series)
    ]
    found += [
        f"{name}'s model is not in the gallery: gallery"
        for name in course_gallery.unrecorded(series)
    ]
    for sentence in found:
        what, _, verb = sentence.rpartition(": ")
        print(f"  NO: {what}; python tools/course.py {verb}")
    return len(found)


def in_core(names: list[str]) -> list[str]:
    """Files of the core by their paths in the series."""
    paths = [f"gpt/{Path(name).stem}.py" for name in names]
    for path, name in zip(paths, names):
        if path not in core_tree():
            raise WentWrong(f"the core has no {name}; it has: {', '.join(sorted(core_tree()))}")
    return paths


def read_record(name: str) -> dict[str, Any]:
    """What course/NAME.json holds; nothing where there is none yet."""
    path = COURSE / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def record(name: str, measured: dict[str, Any]) -> None:
    """Write what was measured, with the machine and the day, into course/NAME.json."""
    facts = {
        "date": datetime.date.today().isoformat(),
        "processor": load_core().runtime.processor_name(),
        "torch": importlib.metadata.version("torch"),
        "command": f"make course-{name}",
    }
    text = json.dumps(facts | measured, indent=1, ensure_ascii=False, sort_keys=True)
    text = re.sub(r"(?<=[\d\[]),?\n +(?=[-\d])", lambda m: ", " if "," in m[0] else "", text)
    (COURSE / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


# The command line.


def known(context: typer.Context, words: list[str] | None) -> list[str]:
    """The lessons that are asked for, all of which there must be; `check` knows the bugs, too."""
    for word in words or []:
        if not (Series().find(word) or (word == "bugs" and context.command.name == "check")):
            raise typer.BadParameter(f"there is no lesson {word}")
    return words or []


SOME = typer.Argument(callback=known, help="Only these, by number or name.")
Words = Annotated[list[str] | None, SOME]
Workers = Annotated[int, typer.Option(help="Lessons at a time.")]
app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.command("build")
def command_build(folder: Path) -> None:
    """The whole series as a git repository."""
    build(folder)


@app.command("check")
def command_check(
    lessons: Words = None,
    workers: Workers = course_check.WORKERS,
    write: Annotated[bool, typer.Option("--write", help="Renew 99-uncarved first.")] = False,
    every_step: Annotated[bool, typer.Option("--every-step", help=EVERY_STEP)] = False,
) -> None:
    """Everything that must hold, of all lessons and bugs, or of those asked for."""
    if write:
        renew_uncarved()
    words = lessons or []
    count = 0
    if words != ["bugs"]:
        count += course_check.check_all(Series(), words, workers, every_step)
    if not words or "bugs" in words:
        count += course_zoo.check_zoo(Series())
    count += 0 if words else made_anew(Series())
    raise typer.Exit(1 if count else 0)


@app.command("mutants")
def command_mutants(
    lessons: Words = None,
    count: Annotated[int, typer.Option(help="Mistakes of a lesson.")] = course_mutants.COUNT,
    seed: int = course_mutants.SEED,
    workers: Workers = course_check.WORKERS,
) -> None:
    """Whether the checks catch small mistakes."""
    enough = course_mutants.try_all(Series(), lessons or [], count, seed, workers)
    raise typer.Exit(0 if enough else 1)


@app.command("stubs")
def command_stubs(lessons: Words = None, workers: Workers = course_check.WORKERS) -> None:
    """Whether the checks miss each function that is handed over, when it is emptied."""
    count = course_check.check_all_taken(Series(), lessons or [], workers)
    raise typer.Exit(1 if count else 0)


@app.command("owners")
def command_owners(
    files: Annotated[list[str] | None, typer.Argument(help="Such as model.py.")] = None,
) -> None:
    """Which lesson and step wrote which file of the core, or which symbol of these files."""
    print(owners.table(Series(), in_core(files or [])))


@app.command("amend")
def command_amend(
    step: Annotated[str, typer.Argument(help="Such as 3.2, or end.")] = "",
    onwards: Annotated[bool, typer.Option("--continue", help="Take the edit, replay.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Forget the edit.")] = False,
) -> None:
    """Open a step, take the edit, replay the later ones."""
    if abort:
        shutil.rmtree(WORK, ignore_errors=True)
    elif onwards:
        go_on()
    elif step:
        amend(step)
    else:
        raise WentWrong("amend what? a step such as 3.2, or end")


@app.command("notebooks")
def command_notebooks() -> None:
    """Write the hands-on kits anew from the lessons."""
    print("\n".join(map(str, course_notebooks.write(Series()))))


@app.command("figures")
def command_figures(
    lessons: Words = None,
    check: Annotated[bool, typer.Option("--check", help=COMPARE)] = False,
) -> None:
    """Measure anew what the lessons quote."""
    if check:
        raise typer.Exit(0 if course_check.figures_hold(Series(), lessons or []) else 1)
    record("figures", course_check.measure(Series(), lessons or []))


@app.command("times")
def command_times(lessons: Words = None) -> None:
    """How long each lesson's runs and checks take here."""
    before = read_record("times").get("seconds", {})
    for seconds in course_times.measure(Series(), lessons or [], before):
        record("times", {"cores": os.cpu_count(), "seconds": seconds})


@app.command("curves")
def command_curves(lessons: Words = None) -> None:
    """Record anew the bands of the lessons' losses, for `course curve`."""
    before = read_record("curves").get("curves", {})
    for curves in course_curves.measure(Series(), lessons or [], before):
        record("curves", {"curves": curves})


@app.command("gallery")
def command_gallery(lessons: Words = None) -> None:
    """Let the lessons' models continue the gallery's prompt, for the site."""
    record("gallery", {"pictures": course_gallery.record(Series(), lessons or [])})


def main() -> int:
    """Do as the words say; returns the exit status."""
    try:
        app(prog_name="tools/course.py")
    except (WentWrong, BadPatch) as error:
        print(f"error: {error}", file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"error: {' '.join(error.cmd)}: {error.stderr.strip()}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
