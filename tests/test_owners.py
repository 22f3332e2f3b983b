"""Which step wrote what: as git's own blame says, and every line of the core in some step."""

import subprocess
import sys
from pathlib import Path

import pytest

from buildgpt.course import owners
from buildgpt.course.series import Repository, Series, core_tree

ROOT = Path(__file__).parent.parent
SERIES = Series()
TOY = """\
import os

# Of a constant.
WIDTH = 3


@decorated
class Pair:
    left = 1

    def both(self):
        return 2


def alone():
    return os
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The lessons' commits, without what is not carved yet."""
    repository = Repository(tmp_path_factory.mktemp("series"))
    repository.init()
    repository.apply([step for lesson in SERIES.lessons for step in lesson.steps])
    return repository


def test_every_line_of_the_core_has_its_step():
    files = owners.authors(SERIES, len(SERIES.steps))
    assert {p: "".join(f"{line}\n" for line, _ in lines) for p, lines in files.items()} == (
        core_tree()
    )
    owned = owners.owners(SERIES)
    full = {p: sum(bool(line.strip()) for line in t.splitlines()) for p, t in core_tree().items()}
    assert {one.path: one.lines for one in owners.by_file(owned)} == full


def test_git_blames_the_same_steps(built):
    """Where one of several equal lines is left, git may name another one's step."""
    count = sum(len(lesson.steps) for lesson in SERIES.lessons)
    subjects = {step.patch.subject: step for step in SERIES.steps[:count]}
    same = every = 0
    for path, lines in owners.authors(SERIES, count).items():
        told = built.git("blame", "--line-porcelain", path).stdout.splitlines()
        blamed = [subjects[line[8:]] for line in told if line.startswith("summary ")]
        assert len(blamed) == len(lines)
        pairs = [(step, own) for step, (line, own) in zip(blamed, lines) if line.strip()]
        same, every = same + sum(one == other for one, other in pairs), every + len(pairs)
    assert same >= 0.99 * every, f"{same} of {every} lines"


def test_a_line_belongs_to_the_innermost_symbol():
    found = dict(zip(TOY.splitlines(), owners.symbol_of_lines(TOY)))
    assert found["WIDTH = 3"] == "WIDTH"
    assert found["@decorated"] == found["    left = 1"] == "Pair"
    assert found["        return 2"] == "Pair.both"
    assert found["    return os"] == "alone"
    assert found["import os"] == found["# Of a constant."] == owners.HEAD


def test_a_symbol_names_the_steps_that_wrote_it():
    owned = next(one for one in owners.owners(SERIES) if one.symbol == "probabilities")
    slugs = ("greedy", "top-k")
    labels = [step.label for step in SERIES.find("5").steps if step.slug in slugs]
    assert owned.path == "gpt/generate.py"
    assert {*labels} <= {step.label for step, _ in owned.carved()}
    assert all(label in owners.written_by(owned) for label in labels)
    assert owned.uncarved + sum(n for _, n in owned.carved()) == owned.lines


def test_the_tool_prints_files_and_symbols_and_refuses_others():
    def owning(*words: str):
        command = [sys.executable, str(ROOT / "tools" / "course.py"), "owners", *words]
        return subprocess.run(command, capture_output=True, text=True)

    told = owning().stdout
    assert [path for path in core_tree() if path not in told] == []
    said = owning("generate.py")
    assert ("nucleus" in said.stdout, "gpt/model.py" in said.stdout) == (True, False)
    wrong = owning("nothing.py")
    assert (wrong.returncode, wrong.stderr.startswith("error: the core has no nothing.py")) == (
        1,
        True,
    )


@pytest.mark.parametrize(("verb", "word"), [("check", "99"), ("mutants", "bugs"), ("times", "x")])
def test_the_tool_refuses_a_lesson_that_there_is_not(verb, word):
    command = [sys.executable, str(ROOT / "tools" / "course.py"), verb, word]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, f"there is no lesson {word}" in done.stderr) == (2, True)
