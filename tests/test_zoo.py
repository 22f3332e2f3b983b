"""The bug zoo: each bug is caught by its own checks, in the symptom's words, and can be mended."""

import json
import sys
import tomllib
from pathlib import Path

import pytest
from learners import forget

from buildgpt.course import verbs, zoo
from buildgpt.course.checking import load_checks
from buildgpt.course.patches import BadPatch
from buildgpt.course.runner import Outcome, run_checks, steps_done
from buildgpt.course.series import Series, write_tree

ROOT = Path(__file__).parent.parent
SERIES = Series()
BUGS = zoo.bugs(SERIES)


@pytest.fixture(autouse=True)
def fresh():
    """The next test reads its copy's files anew."""
    path = [*sys.path]
    yield
    forget()
    sys.path[:] = path


def outcomes(bug: zoo.Bug, place: Path, where: str) -> list[Outcome]:
    """What becomes of a bug's own checks in a folder, in this process."""
    forget()
    wanted = [(bug.name, check) for check in load_checks(bug.folder / "checks.py")]
    lesson = SERIES.find(where) or SERIES.lessons[-1]
    steps = steps_done(SERIES, lesson)
    return list(run_checks(place, wanted, SERIES.entries(), {}, steps))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_is_caught_in_the_symptoms_words_and_the_reference_passes(bug, tmp_path):
    where = zoo.homes(SERIES, bug)[-1]
    copy = zoo.Copy(tmp_path / "with", SERIES, bug, where)
    copy.write()
    found = outcomes(bug, copy.path, where)
    failed = [outcome for outcome in found if not outcome.passed]
    assert failed
    said = " ".join(f"{o.says} {o.seen} {o.expected} {o.given}" for o in failed)
    assert bug.facts["told"] in said
    assert all(outcome.expected != "no error" for outcome in failed), said
    write_tree(tmp_path / "without", zoo.sound_tree(SERIES, where))
    assert [o.seen for o in outcomes(bug, tmp_path / "without", where) if not o.passed] == []


def test_each_bug_has_a_source_that_can_be_looked_up():
    assert len(BUGS) >= 10
    addresses = [bug.facts["source"]["address"] for bug in BUGS]
    assert len({*addresses}) == len(BUGS)
    for bug in BUGS:
        project = bug.facts["source"]["project"]
        assert bug.facts["source"]["address"].startswith(f"https://github.com/{project}/")
        assert len(bug.facts["hints"]) == 3


def test_the_zoo_is_in_the_wheel():
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    patterns = setup["package-data"]["buildgpt.course.lessons"]
    shipped = {path for pattern in patterns for path in SERIES.course.glob(pattern)}
    assert {path for bug in BUGS for path in bug.folder.glob("*.*")} <= shipped


def test_a_fault_goes_where_its_lines_are_and_nowhere_else():
    bug = zoo.find(SERIES, "4")
    tree = zoo.sound_tree(SERIES, "05-sampling")
    path = "gpt/data.py"
    moved = tree | {path: "# one line more\n" + tree[path]}
    assert zoo.changed(bug.put_into(moved), bug.fault, backwards=True) == moved
    with pytest.raises(BadPatch):
        bug.put_into(tree | {path: tree[path].replace("self.seed, epoch", "epoch, self.seed")})
    with pytest.raises(BadPatch):
        bug.put_into(tree | {path: tree[path] * 2})


def test_the_code_is_that_of_the_learners_lesson_as_far_as_the_bug_fits():
    by_name = {bug.name: bug for bug in BUGS}
    again, first = by_name["04-again"], by_name["05-first-push"]
    assert zoo.home(SERIES, again, "") == "02-targets"
    assert zoo.home(SERIES, again, "04-recipe") == "04-recipe"
    assert zoo.home(SERIES, first, "05-sampling") == "03-bigram"  # whose loop lesson 4 replaces
    assert zoo.home(SERIES, by_name["11-lost-place"], "01-bytes") == zoo.CORE


@pytest.fixture
def course(say, monkeypatch, tmp_path):
    """course("bug", "4", inside="bugs/04-again") is typed in a learner's folder at lesson 4."""
    folder = verbs.start(SERIES, tmp_path / "mine", "4")

    def course(*words: str, inside: str = ""):
        place = folder.path / inside
        monkeypatch.setattr(Path, "cwd", classmethod(lambda cls: place))
        return say("course", *words)

    course.path = folder.path
    return course


@pytest.fixture
def here(monkeypatch):
    """Checks of a copy are run in this process, which has torch already."""

    def check(self: zoo.Copy) -> list[Outcome]:
        return outcomes(self.bug, self.path, self.where)

    monkeypatch.setattr(zoo.Copy, "check", check)
    monkeypatch.setattr(zoo.Copy, "symptom", lambda self: "a number\n")


def test_the_zoo_lists_what_can_be_looked_for(course, here):
    said = course("bug").out
    assert "  4  Each lap is the same lap\n" in said
    assert "It freezes at zero, after lesson 5" in said
    last = SERIES.lessons[-1].number
    for bug in zoo.bugs(SERIES):
        after = int(bug.facts.get("after", 0))
        told = f"{bug.facts['title']}, after lesson {after}, which is to come"
        assert (told in said) == (after > last)
    assert "course bug 1 " in said
    course("bug", "1", "--solution")
    said = course("bug").out
    assert "-  1  One letter" in said
    assert "course bug 2 " in said


def test_a_bug_is_shown_by_its_symptom_found_and_told(course, here):
    said = course("bug", "4")
    assert said.status == 0
    assert "It is in a copy of the code of lesson 3, in " in said.out
    assert "a number" in said.out
    for secret in ("RandomState", "set_epoch", "transformers", "same seed each time"):
        assert secret not in said.out
    data = course.path / "bugs" / "04-again" / "gpt" / "data.py"
    assert "RandomState(self.seed)" in data.read_text()
    assert course("check", inside="bugs/04-again").status == 1
    data.write_text(data.read_text().replace("State(self.seed)", "State([7, self.seed, epoch])"))
    said = course("check", inside="bugs/04-again/gpt")
    assert said.status == 0
    for words in ("Found and mended", "set_epoch", "huggingface/transformers, issue 4398"):
        assert words in said.out
    course("bug", "4", "--solution")
    assert json.loads(course("status", "--json").out)["bugs"] == {"04-again": "found"}


def test_hints_come_one_by_one_and_a_bug_can_be_put_in_anew(course, here):
    first, second = course("bug", "3", "--hint").out, course("bug", "3", "--hint").out
    assert ("hint 1 of 3" in first, "hint 2 of 3" in second) == (True, True)
    data = course.path / "bugs" / "03-just-enough" / "gpt" / "data.py"
    with_it = data.read_text()
    data.write_text("")
    course("bug", "3")
    assert data.read_text() == ""
    course("bug", "3", "--again")
    assert data.read_text() == with_it
    said = json.loads(course("bug", "3", "--check", "--json").out.splitlines()[-1])
    assert not said["passed"]


def test_words_that_name_no_bug_are_told(course):
    said = course("bug", "99")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "there is no bug 99; there are: 1, 2, " in said.err


def test_symptom_and_checks_run_in_processes_of_their_own(course):
    """As they do for a learner; a mended copy must pass the lessons' checks as well."""
    bug = zoo.find(SERIES, "1")
    copy = zoo.Copy(course.path / "bugs" / bug.name, SERIES, bug, "01-bytes")
    copy.write()
    assert "ends of text among them: 1" in copy.symptom()
    assert [outcome.check for outcome in copy.check()] == ["01-two-texts/forged"]
    sound = zoo.sound_tree(SERIES, "01-bytes")["gpt/tokenizer.py"]
    write_tree(copy.path, {"gpt/tokenizer.py": sound})
    assert "ends of text among them: 0" in copy.symptom()
    found = copy.check()
    assert len(found) > 5
    assert all(outcome.passed for outcome in found)
    broken = sound.replace('errors="replace"', 'errors="strict"')
    write_tree(copy.path, {"gpt/tokenizer.py": broken})
    assert {outcome.passed for outcome in copy.check()} == {True, False}
