"""The recorded times of the course: all lessons are there, and none keeps a learner waiting."""

import json

from buildgpt.course.series import COURSE, Series

TIMES = json.loads((COURSE / "times.json").read_text(encoding="utf-8"))
LESSONS = [lesson.name for lesson in Series().lessons]


def test_every_lesson_is_timed() -> None:
    assert sorted(TIMES["seconds"]) == LESSONS
    assert TIMES["cores"] and TIMES["processor"] and TIMES["torch"] and TIMES["command"]


def test_no_run_of_a_lesson_took_two_minutes() -> None:
    slow = {name: took for name, took in TIMES["seconds"].items() if took["longest"] >= 120}
    assert not slow
