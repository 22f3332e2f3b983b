"""The gallery: what each model said is kept, shown, and drawn as a page that stands alone."""

import json
import re
import sys
from pathlib import Path

import pytest

from buildgpt.course import gallery, trying, verbs
from buildgpt.course.checking import Mine
from buildgpt.course.folder import Folder
from buildgpt.course.runner import steps_done
from buildgpt.course.series import Series, write_tree

SERIES = Series()
DEARER = {13}  # dropout pays where a text is read again and again, which nobody here does
SAID = [["random bytes", 5.55, "\x07?<b>&"], ["a bigram", 2.5, "\n  the & then"]]


@pytest.fixture
def calls(monkeypatch):
    """Nothing is trained; what would have been run is noted: the lesson, code, names, steps."""
    calls = []

    def call(series, lesson, package, names, steps, *words):
        code = {path.name: path.read_text("utf-8") for path in package.glob("*.py")}
        calls.append((lesson.name, code, names, steps[-1], words))
        return SAID

    monkeypatch.setattr(gallery, "call", call)
    return calls


@pytest.fixture
def course(say, monkeypatch):
    """course(folder, "gallery") is typed in a learner's folder."""

    def course(folder: Folder, *words: str):
        monkeypatch.setattr(Path, "cwd", classmethod(lambda cls: folder.path))
        return say("course", *words)

    return course


def test_what_models_said_is_kept_and_shown(calls, course, tmp_path):
    folder = verbs.start(SERIES, tmp_path / "mine", "5")
    said = course(folder, "gallery")
    assert said.status == 0
    assert "Lesson 3: A bigram" in said.out
    assert "random bytes; loss 5.55, the reference's code" in " ".join(said.out.split())
    assert "ROMEO:\n" in said.out
    assert "    the & then" in said.out
    assert len(calls) == 1
    course(folder, "gallery")
    assert len(calls) == 1  # it was kept
    course(folder, "gallery", "--again")
    assert len(calls) == 2
    found = json.loads(course(folder, "gallery", "--json").out.splitlines()[-1])
    assert [picture["loss"] for picture in found["pictures"]] == [5.55, 2.5]


def test_it_is_their_code_as_it_was_at_the_lessons_end(calls, tmp_path):
    folder = verbs.start(SERIES, tmp_path / "mine", "4")
    mine = "# mine\n"
    start = folder.path / ".course" / "kept" / "04-recipe-start" / "model.py"
    start.write_text(start.read_text() + mine)
    pictures = [one for _, said in gallery.fill(folder) for one in said]
    name, code, _, step, words = calls[0]
    assert (name, step, words) == ("03-bigram", "03-bigram/babble", ("gallery", "talk", "ROMEO:"))
    assert code["model.py"].endswith(mine)
    assert {picture.whose for picture in pictures} == {"your code"}


def test_before_a_model_talks_the_gallery_is_closed(course, tmp_path):
    said = course(verbs.start(SERIES, tmp_path / "mine", "3"), "gallery")
    assert (said.status, "at the end of lesson 3" in said.err) == (2, True)


def test_the_page_asks_for_nothing_and_shows_text_as_it_is():
    pictures = [gallery.Picture(3, "A & B", *said[:1], "your code", *said[1:]) for said in SAID]
    page = gallery.page(pictures)
    assert not re.search(r"https?:|//|<script|<link|<img|@import|url\(", page)
    assert "color-scheme: light dark" in page
    assert "?&lt;b&gt;&amp;" in page
    assert "\x07" not in page
    assert "A &amp; B" in page


def test_all_models_that_hang_here_are_recorded_each_less_surprised():
    """As tools/course.py gallery wrote it; a lesson without its picture is told."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
    import course_gallery

    sys.path.pop(0)
    assert course_gallery.unrecorded(SERIES) == [], "python tools/course.py gallery"
    losses = [p.loss for p in gallery.recorded(SERIES) if p.lesson not in DEARER]
    assert losses == sorted(losses, reverse=True)
    assert {picture.whose for picture in gallery.recorded(SERIES)} == {"the reference's code"}
    titles = {lesson.number: lesson.title for lesson in gallery.hanging(SERIES)}
    assert {picture.lesson: picture.title for picture in gallery.recorded(SERIES)} == titles


def test_a_lesson_without_its_picture_is_named(monkeypatch):
    sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
    import course_gallery

    sys.path.pop(0)
    kept = [picture for picture in gallery.recorded(SERIES) if picture.lesson != 7]
    monkeypatch.setattr(gallery, "recorded", lambda series: kept)
    assert course_gallery.unrecorded(SERIES) == ["07-heads"]


def test_a_lesson_that_changes_a_model_hangs_it_or_says_why_not():
    sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
    import course_gallery

    sys.path.pop(0)
    changing = {lesson.number for lesson in course_gallery.changing(SERIES)}
    assert {3, 6, 7, 8, 9, 13, 21, 28, 30} <= changing
    assert not changing & {1, 2, 5, 10, 11, 14, 16, 24, 26, 29}
    series = Series()
    del series.find("21").facts["gallery"]
    assert course_gallery.unrecorded(series) == ["21-attention"]


def test_a_model_of_a_recipe_is_trained_and_talks(tmp_path):
    lesson = SERIES.find("8")
    write_tree(tmp_path, SERIES.tree(SERIES.after(lesson)))
    path = [*sys.path]
    mine = Mine(tmp_path / "gpt", SERIES.entries(), {}, steps_done(SERIES, lesson))
    shape, train = {"layers": 1, "heads": 2, "width": 16}, {"lr": 0.01}
    try:
        text = trying.write_text(tmp_path / "text.txt")
        one, other = (
            gallery.trained(mine, text, gallery.PROMPT, "small", shape, train | {"steps": steps})
            for steps in (1, 40)
        )
    finally:
        sys.path[:] = path
        for name in [name for name in sys.modules if name.partition(".")[0] == "gpt"]:
            del sys.modules[name]
    assert (one[0], other[0]) == ("small, 1 steps", "small, 40 steps")
    assert other[1] < one[1] - 0.5
    assert len(other[2].encode(errors="replace")) > 100 and one[2] != other[2]


def test_a_bigram_talks_better_once_it_has_learnt(tmp_path):
    """The lesson's own script, in this process, with few steps."""
    lesson = SERIES.find("3")
    write_tree(tmp_path, SERIES.tree(SERIES.after(lesson)))
    steps, path = steps_done(SERIES, lesson), [*sys.path]
    talk = trying.script(SERIES.course, lesson.name, "gallery")
    talk.STEPS = 40
    mine = Mine(tmp_path / "gpt", SERIES.entries(), {}, steps)
    try:
        text = trying.write_text(tmp_path / "text.txt")
        (_, before, one), (what, after, other) = talk.talk(mine, text, gallery.PROMPT)
    finally:
        sys.path[:] = path
        for name in [name for name in sys.modules if name.partition(".")[0] == "gpt"]:
            del sys.modules[name]
    assert before == pytest.approx(5.55, abs=0.01)
    assert (after < 3.5, one != other, "40 steps" in what) == (True, True, True)
