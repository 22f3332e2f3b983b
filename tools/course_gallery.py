"""What the reference's models make of the gallery's prompt, recorded for the site."""

import ast
import contextlib
import io
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from course_check import asked_for, enter, forked

from buildgpt.course import gallery
from buildgpt.course.checking import Mine
from buildgpt.course.folder import place_data
from buildgpt.course.patches import Tree
from buildgpt.course.runner import steps_done
from buildgpt.course.series import Lesson, Series, write_tree
from buildgpt.course.trying import script, write_text

MODELS = ("gpt/model.py", "gpt/modern.py")


def record(series: Series, words: list[str]) -> list[dict[str, Any]]:
    """Every picture, by the code at the end of its lesson; with words, those of some lessons,
    beside what is recorded of the others."""
    asked = [one for one in gallery.hanging(series) if one in asked_for(series, words)]
    again = {lesson.number for lesson in asked}
    kept = [picture for picture in gallery.recorded(series) if picture.lesson not in again]
    found = [asdict(picture) for picture in kept if words]
    for lesson in asked:
        for what, loss, text in reference(series, lesson):
            whose = gallery.OURS
            picture = gallery.Picture(lesson.number, lesson.title, what, whose, loss, text)
            print(f"lesson {lesson.number}: {what}, loss {loss:.2f}", flush=True)
            found.append(asdict(picture))
    return sorted(found, key=lambda picture: picture["lesson"])


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
    """The lessons whose models are to hang in the gallery and are not recorded: those with a
    gallery.py, and those that change a model's classes and do not say why theirs does not hang."""
    known = {picture.lesson for picture in gallery.recorded(series)}
    due = {lesson.name: lesson for lesson in gallery.hanging(series) + changing(series)}
    return [
        name
        for name, lesson in sorted(due.items())
        if lesson.number not in known and not lesson.facts.get("gallery")
    ]


def changing(series: Series) -> list[Lesson]:
    """The lessons whose steps change a class of a model."""
    found = []
    for lesson in series.lessons:
        before, after = (
            classes(series.tree(step)) for step in (lesson.first, series.after(lesson))
        )
        if any(before.get(name) != code for name, code in after.items()):
            found.append(lesson)
    return found


def classes(tree: Tree) -> dict[tuple[str, str], str]:
    """The code of each class of the files with models, by file and name."""
    return {
        (path, node.name): ast.dump(node)
        for path in MODELS
        for node in ast.parse(tree.get(path, "")).body
        if isinstance(node, ast.ClassDef)
    }
