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


@pytest.fixture(scope="module")
def words(tool):
    """tools/course_words.py"""
    return tool.course_words


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("a model of GPT-2's shape talk.", ""),
        ("", "does not say"),
        ("a loss of 2 fall.", "a figure or code"),
        ("what `loss` becomes.", "a figure or code"),
        ("{{figure loss}} become less.", "a figure or code"),
        ("much " * 25 + "more.", "more than 25 words"),
        ("a model talk", "full stop"),
    ],
)
def test_what_one_will_see_is_a_sentence_without_figures(words, sentence, said):
    found = words.seen_wrongly(sentence)
    assert said in found and bool(said) == bool(found)


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("It is three\ntimes as fast, after some twenty seconds.", 2),
        ("Twice as long; 200 times as many; ten times faster; a thousand times less.", 4),
        ("It takes half an hour, or one minute, and a sixth of the time.", 3),
        ("It is {{figure gain}} times as fast after {{figure wait}} seconds.", 0),
        ("Seen twice as it was, several times, four times; a second one, the first minute.", 0),
        ("`two seconds`\n## Sources\n* three times as fast", 0),
    ],
)
def test_a_measurement_in_words_is_found(words, text, claims):
    found = words.typed_claims(text, [])
    assert len(found) == claims
    assert words.typed_claims(text, found) == []


def test_a_number_that_nobody_measured_is_found(words):
    text = "GPT-2 has 3 parts and 17 more, {{figure x}} of `99`, 1,024 in all, U+1F3AD."
    assert words.typed_figures(text, [1024]) == ["17"]


def test_a_term_is_not_used_before_the_lesson_that_defines_it(words, tmp_path):
    texts = {"1": "A token; **Top-k** and\nheads, of their key.", "2": "A **head**, a **key**."}
    course = tmp_path / "course"
    for number, text in texts.items():
        folder = course / f"0{number}-part"
        folder.mkdir(parents=True)
        (folder / "lesson.md").write_text(text)
        (folder / "lesson.toml").write_text(f'title = "{number}"\n')
    (course / "glossary.md").write_text("## Top-k\nx\n\n## head\nx\n\n## key\nx\n\n## lost\nx\n")
    series = Series(course)
    assert words.early_terms(series, series.lessons[0]) == ["head"]
    assert words.early_terms(series, series.lessons[1]) == []
    assert words.undefined_terms(series) == ["lost"]
    series.lessons[0].facts["terms"] = ["head"]
    assert words.early_terms(series, series.lessons[0]) == []


# Figures.


def test_a_figure_measured_again_has_its_tolerance_and_no_more(tool):
    def one(value: float, tolerance: float = 0.0) -> dict:
        return {"x": {"value": value, "tolerance": tolerance}}

    for before, after, tolerance, sentences in (
        (2.5, 2.6, 0.125, 0),
        (2.5, 2.4, 0.125, 0),
        (2.5, 2.75, 0.125, 1),
        (2.5, 2.25, 0.125, 1),
        (100.0, 100.0, 0.0, 0),
        (100.0, 100.0 + 1e-8, 0.0, 0),  # sums come in another order
        (100.0, 101.0, 0.0, 1),
        (2.5, float("nan"), 9.0, 1),
    ):
        assert len([*tool.moved(one(before, tolerance), one(after, 99.0))]) == sentences
    assert [*tool.moved(one(1.0, 0.25), one(2.0))] == ["the figure 'x' is 2; 1 ± 0.25 is recorded"]


@pytest.fixture
def recorded(tool, monkeypatch):
    """recorded(changes) puts other values in the place of those recorded of lesson 1."""
    real = tool.prose.records(Series().course)

    def recorded(**changes: float) -> None:
        figure = {**real["figures"]["ids of a mask"], **changes}
        figures = real["figures"] | {"ids of a mask": figure}
        monkeypatch.setattr(tool.prose, "records", lambda course: real | {"figures": figures})

    return recorded


def test_figures_are_held_against_their_record(tool, recorded, monkeypatch, capsys):
    """What a lesson measures, and a record that somebody has moved."""
    recorded()
    assert tool.figures_hold(Series(), ["1"])
    recorded(value=5.0)
    assert not tool.figures_hold(Series(), ["1"])
    assert "the figure 'ids of a mask' is 4; 5 ± 0 is recorded" in capsys.readouterr().out
    recorded(value=5.0, tolerance=1.0)
    assert tool.figures_hold(Series(), ["1"])
    new = {"a new one": {"value": 1.0, "tolerance": 0.0}}
    monkeypatch.setattr(tool, "lesson_figures", lambda shop, lesson: {"figures": new})
    assert not tool.figures_hold(Series(), ["1"])
    assert "the figure 'a new one' is not recorded" in capsys.readouterr().out
    assert not tool.figures_hold(Series(), [])
    assert "nothing measures the figure 'ids of a mask' any more" in capsys.readouterr().out


def test_what_is_measured_anew_tells_what_has_moved_and_its_seeds(tool, recorded, capsys):
    recorded(value=5.0)
    measured = tool.measure(Series(), ["1"])
    assert "MOVED: the figure 'ids of a mask' is 4; 5 ± 0 is recorded" in capsys.readouterr().out
    assert measured["figures"]["ids of a mask"]["value"] == 4
    assert "loss of counting" in measured["figures"]  # another lesson's stays
    assert measured["seeds"]["03-bigram"] == measured["seeds"]["recipes"] == "1337"
    assert measured["seeds"]["28-modern"].endswith("1, 2, 3")
    assert measured["threads"] == 1


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
