"""What the reference's models make of the gallery's prompt, recorded for the site."""

import contextlib
import io
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from course_check import enter, forked

from buildgpt.course import gallery
from buildgpt.course.checking import Mine
from buildgpt.course.folder import place_data
from buildgpt.course.runner import steps_done
from buildgpt.course.series import Lesson, Series, write_tree
from buildgpt.course.trying import script, write_text


def record(series: Series) -> list[dict[str, Any]]:
    """Every picture, by the code at the end of its lesson."""
    found = []
    for lesson in gallery.hanging(series):
        for what, loss, text in reference(series, lesson):
            whose = gallery.OURS
            picture = gallery.Picture(lesson.number, lesson.title, what, whose, loss, text)
            print(f"lesson {lesson.number}: {what}, loss {loss:.2f}", flush=True)
            found.append(asdict(picture))
    return found


def reference(series: Series, lesson: Lesson) -> list[tuple[str, float, str]]:
    """What one lesson's models are, how surprised the text leaves them, and what they say."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_tree(place, series.tree(series.after(lesson)))
        place_data(place / "gpt", series, lesson)
        text = write_text(place / "text.txt")

        def run() -> list[tuple[str, float, str]]:
            enter(place)
            import torch

            torch.set_num_threads(1)
            mine = Mine(place / "gpt", series.entries(), {}, steps_done(series, lesson))
            with contextlib.redirect_stdout(io.StringIO()):
                talk = script(series.course, lesson.name, "gallery").talk
                said: list[tuple[str, float, str]] = talk(mine, text, gallery.PROMPT)
            return said

        found, error = forked(run)
    if error:
        raise SystemExit(f"{lesson.name}/gallery.py: {error}")
    return [(what, round(loss, 4), said) for what, loss, said in found]


def unrecorded(series: Series) -> list[str]:
    """The lessons whose models hang in the gallery and are not recorded."""
    known = {picture.lesson for picture in gallery.recorded(series)}
    return [lesson.name for lesson in gallery.hanging(series) if lesson.number not in known]
