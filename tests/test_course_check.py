"""Lessons are checked side by side, and what is said of them comes in their order."""

import dataclasses
import os
import sys
import time
from pathlib import Path

import pytest

from buildgpt.course.series import Series, write_tree

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="lessons run in forked copies")


@pytest.fixture(scope="module")
def tool():
    """tools/course_check.py"""
    sys.path.insert(0, str(ROOT / "tools"))
    import course_check

    yield course_check
    sys.path.remove(str(ROOT / "tools"))


def wait_for(path: Path) -> None:
    for _ in range(3000):
        if path.exists():
            return
        time.sleep(0.02)
    raise TimeoutError(path)


def test_two_jobs_run_at_a_time_and_their_words_come_in_order(tool, tmp_path, capfd):
    """The first ends only when the third has begun, for which the second has to end."""

    def first():
        print("one", flush=True)
        wait_for(tmp_path / "third")
        return 1

    def third():
        (tmp_path / "third").touch()
        print("three")
        return [3]

    def second():
        print("two")
        return {"n": 2}

    assert tool.side_by_side([first, second, third], 2) == [1, {"n": 2}, [3]]
    assert capfd.readouterr().out.split() == ["one", "two", "three"]


def test_a_job_that_breaks_off_is_told_and_the_others_go_on(tool, capfd):
    def broken():
        print("before")
        raise ValueError("it broke")

    killed = lambda: os._exit(9)  # noqa: E731
    assert tool.side_by_side([broken, killed, lambda: 7], 2) == [None, None, 7]
    said = capfd.readouterr().out
    assert said.startswith("before\n") and "ValueError: it broke" in said


def test_what_does_not_hold_of_a_lesson_is_counted(tool, monkeypatch, capfd):
    def check_lesson(every_step, shop, lesson):
        findings = tool.Findings()
        findings.need(lesson.number != 2, "two is wrong")
        findings.need(shop.place.name == lesson.name, "a workshop of another lesson")
        assert lesson.number != 3
        return findings.count

    monkeypatch.setattr(tool, "check_lesson", check_lesson)
    monkeypatch.setattr(tool, "check_series", lambda series, findings: None)
    assert tool.check_all(Series(), ["1", "2"], 2) == 1
    assert "NO: two is wrong" in capfd.readouterr().out
    assert tool.check_all(Series(), ["1", "3"], 2) == 1
    assert "the checking of 03-bigram broke off" in capfd.readouterr().out


def test_a_demo_runs_on_only_as_long_as_it_prints_the_same(tool, tmp_path):
    demo = tmp_path / "demo.py"
    demo.write_text("print('one')\nprint('two')\nopen('ended', 'w').close()\n")
    for printed, said, ended in (("one\ntwo\n", "one\ntwo\n", True), ("one\nTWO\n", "", False)):
        (tmp_path / "ended").unlink(missing_ok=True)
        assert tool.run_demo(tmp_path, demo, printed)[0] == said
        assert (tmp_path / "ended").exists() == ended


def test_what_the_site_draws_is_measured_beside_the_figures(tool, tmp_path):
    """By the code at the lesson's end; a lesson need not have anything drawn."""
    series = Series()
    lesson = dataclasses.replace(series.find("12-schedule"), folder=tmp_path / "12-schedule")
    lesson.folder.mkdir()
    asked = 'FIGURES = {"one": (learning_rate(0, 8, TrainConfig(lr=1.0)), "{:.1f}", 0.1)}\n'
    head = "from gpt.config import TrainConfig\nfrom gpt.optim import learning_rate\n\n"
    drawn = 'DRAWN = {"two": [learning_rate(i, 4, TrainConfig(lr=1.0)) > 0 for i in range(2)]}\n'
    shop = Here(series, tmp_path / "code")
    (lesson.folder / "figures.py").write_text(head + asked)
    assert tool.lesson_figures(shop, lesson)["drawn"] == {}
    (lesson.folder / "figures.py").write_text(head + asked + drawn)
    found = tool.lesson_figures(shop, lesson)
    assert found["drawn"] == {"two": [True, True]}
    assert found["figures"]["one"]["tolerance"] == 0.1


class Here:
    """A workshop with the code of one lesson's end, and nothing beside it."""

    def __init__(self, series, place):
        self.series, self.place = self, place
        self.tree = series.tree(series.after(series.find("12-schedule")))

    def after(self, lesson):
        return 0

    def at(self, steps, lesson):
        write_tree(self.place, self.tree)
        return self.place
