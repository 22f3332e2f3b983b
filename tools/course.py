"""The course's series of commits: build it, check it, change it.

    python tools/course.py build DIR          # the whole series as a git repository
    python tools/course.py check              # what must hold; --write renews 99-uncarved
    python tools/course.py check 3            # the same, of one lesson only
    python tools/course.py check bugs         # of the bug zoo only
    python tools/course.py mutants            # whether checks catch small mistakes; or: mutants 3 4
    python tools/course.py owners [model.py]  # which lesson and step wrote which file, or symbol
    python tools/course.py notebooks          # write the hands-on kits anew from the lessons
    python tools/course.py amend 3.2          # open a step (03-bigram/loss, or end)
    python tools/course.py amend --continue   # replay the later steps, write the patches anew
    python tools/course.py amend --abort      # forget the edit
    python tools/course.py figures            # measure anew what the lessons quote
    python tools/course.py curves             # the same for the bands of `course curve`
    python tools/course.py gallery            # let every lesson's model talk, for the site

The last commit of the series holds our core, byte for byte.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

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
AT_ONCE = "lessons at a time"
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


def main() -> int:
    """Do as the words say; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="the series as a git repository").add_argument(
        "folder", type=Path
    )
    checking = verbs.add_parser("check", help="everything that must hold")
    checking.add_argument("lessons", nargs="*", help="only these, by number or name")
    checking.add_argument("--workers", type=int, default=course_check.WORKERS, help=AT_ONCE)
    checking.add_argument("--write", action="store_true", help="renew 99-uncarved first")
    every = "earlier lessons' checks after every step, not only at a lesson's end"
    checking.add_argument("--every-step", action="store_true", help=every)
    mutating = verbs.add_parser("mutants", help="whether the checks catch small mistakes")
    mutating.add_argument("lessons", nargs="*", help="only these, by number or name")
    mutating.add_argument("--count", type=int, default=course_mutants.COUNT, help="of a lesson")
    mutating.add_argument("--seed", type=int, default=course_mutants.SEED)
    mutating.add_argument("--workers", type=int, default=course_check.WORKERS, help=AT_ONCE)
    owning = verbs.add_parser("owners", help="which lesson and step wrote what of the core")
    owning.add_argument("files", nargs="*", help="the symbols of these files, such as model.py")
    amending = verbs.add_parser("amend", help="open a step, take the edit, replay the later ones")
    amending.add_argument("step", nargs="?")
    amending.add_argument("--continue", action="store_true", dest="go_on")
    amending.add_argument("--abort", action="store_true")
    verbs.add_parser("notebooks", help="write the hands-on kits anew from the lessons")
    measuring = verbs.add_parser("figures", help="measure anew what the lessons quote")
    measuring.add_argument("lessons", nargs="*", help="only these, by number or name")
    timing = verbs.add_parser("times", help="how long each lesson's runs and checks take here")
    timing.add_argument("lessons", nargs="*", help="only these, by number or name")
    banding = verbs.add_parser("curves", help="record anew the bands of the lessons' losses")
    banding.add_argument("lessons", nargs="*", help="only these, by number or name")
    verbs.add_parser("gallery", help="let every lesson's model continue the gallery's prompt")
    words = parser.parse_args()
    try:
        return run(words)
    except (WentWrong, BadPatch) as error:
        print(f"error: {error}", file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"error: {' '.join(error.cmd)}: {error.stderr.strip()}", file=sys.stderr)
    return 1


def run(words: argparse.Namespace) -> int:
    """One verb."""
    if words.verb == "build":
        build(words.folder)
    elif words.verb == "amend" and words.abort:
        shutil.rmtree(WORK, ignore_errors=True)
    elif words.verb == "amend" and words.go_on:
        go_on()
    elif words.verb == "amend" and words.step:
        amend(words.step)
    elif words.verb == "amend":
        raise WentWrong("amend what? a step such as 3.2, or end")
    elif words.verb == "check":
        if words.write:
            renew_uncarved()
        return check(words.lessons, words.workers, words.every_step)
    elif words.verb == "mutants":
        enough = course_mutants.try_all(
            Series(), words.lessons, words.count, words.seed, words.workers
        )
        return 0 if enough else 1
    elif words.verb == "notebooks":
        print("\n".join(map(str, course_notebooks.write(Series()))))
    elif words.verb == "owners":
        print(owners.table(Series(), in_core(words.files)))
    elif words.verb == "figures":
        record("figures", course_check.measure(Series(), words.lessons))
    elif words.verb == "times":
        before = read_record("times").get("seconds", {})
        for seconds in course_times.measure(Series(), words.lessons, before):
            record("times", {"cores": os.cpu_count(), "seconds": seconds})
    elif words.verb == "curves":
        before = read_record("curves").get("curves", {})
        for curves in course_curves.measure(Series(), words.lessons, before):
            record("curves", {"curves": curves})
    elif words.verb == "gallery":
        record("gallery", {"pictures": course_gallery.record(Series())})
    return 0


def check(words: list[str], workers: int, every_step: bool = False) -> int:
    """Lessons and bugs, or those asked for; returns the exit status."""
    count = 0
    if words != ["bugs"]:
        count += course_check.check_all(Series(), words, workers, every_step)
    if not words or "bugs" in words:
        count += course_zoo.check_zoo(Series())
    return 1 if count + (0 if words else made_anew(Series())) else 0


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


if __name__ == "__main__":
    sys.exit(main())
