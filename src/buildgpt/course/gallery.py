"""The gallery: one prompt, continued by the model of each lesson that has changed it.

course/NN-name/gallery.py   talk(mine, text, prompt) -> [(what it is, loss, continuation), ...]

What was said is kept in the learner's folder, .course/gallery.json, and drawn as a page that needs
nothing from elsewhere.
"""

import html
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .checking import continuation, text_data, trainer
from .folder import Folder, place_data
from .patches import Tree
from .runner import steps_done
from .series import Lesson, Series, write_tree
from .trying import call

PROMPT = "ROMEO:"
YOURS, OURS = "your code", "the reference's code"


@dataclass(frozen=True)
class Picture:
    """What a model said."""

    lesson: int
    title: str  # of the lesson
    what: str
    whose: str
    loss: float
    text: str


def lessons(folder: Folder) -> list[Lesson]:
    """Those that are done and whose model hangs here."""
    here = folder.lesson.number + (1 if folder.step is None else 0)
    return [lesson for lesson in hanging(folder.series) if lesson.number < here]


def hanging(series: Series) -> list[Lesson]:
    """All lessons whose model hangs here."""
    return [lesson for lesson in series.lessons if (lesson.folder / "gallery.py").exists()]


def recorded(series: Series) -> list[Picture]:
    """What the reference's models said when `tools/course.py gallery` let them talk."""
    path = series.course / "gallery.json"
    found = json.loads(path.read_text(encoding="utf-8"))["pictures"] if path.exists() else []
    return [Picture(**one) for one in found]


def kept(folder: Folder) -> dict[str, list[Picture]]:
    """What was said so far, by lesson."""
    try:
        text = (folder.path / ".course" / "gallery.json").read_text(encoding="utf-8")
        return {name: [Picture(**one) for one in said] for name, said in json.loads(text).items()}
    except (OSError, ValueError, TypeError):
        return {}


def fill(folder: Folder, again: bool = False) -> Iterator[tuple[Lesson, list[Picture]]]:
    """All pictures by lesson; what is not there yet is made, which takes some seconds each."""
    known = {} if again else kept(folder)
    for lesson in lessons(folder):
        if lesson.name not in known:
            known[lesson.name] = made(folder, lesson)
            said = {name: [*map(asdict, pictures)] for name, pictures in known.items()}
            path = folder.path / ".course" / "gallery.json"
            path.write_text(json.dumps(said, ensure_ascii=False, indent=1), encoding="utf-8")
        yield lesson, known[lesson.name]


def made(folder: Folder, lesson: Lesson) -> list[Picture]:
    """Train the model of a lesson, and let it talk."""
    tree, whose = code_of(folder, lesson)
    with tempfile.TemporaryDirectory() as place:
        package = Path(place) / "gpt"
        write_tree(Path(place), tree)
        place_data(package, folder.series, lesson)
        names = folder.names if whose == YOURS else {}
        steps = steps_done(folder.series, lesson)
        words = ("gallery", "talk", PROMPT)
        found = call(folder.series, lesson, package, names, steps, *words)
    return [Picture(lesson.number, lesson.title, what, whose, *said) for what, *said in found]


def code_of(folder: Folder, lesson: Lesson) -> tuple[Tree, str]:
    """The learner's code at a lesson's end, if it is here or was kept; else the reference's."""
    if lesson == folder.lesson:
        return folder.code(), YOURS
    after = folder.series.lessons[folder.series.lessons.index(lesson) + 1]
    tree = folder.lesson_start(after)
    ours = folder.series.tree(folder.series.after(lesson))
    return (ours, OURS) if not tree or tree == ours else (tree, YOURS)


def trained(
    mine: Any, text: Path, prompt: str, what: str, model: dict[str, Any], train: dict[str, Any]
) -> tuple[str, float, str]:
    """A lesson's model, trained as a recipe says, from lesson 5 on: what it is, loss, text."""
    import torch

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        recipe = mine.Recipe(
            model=mine.ModelConfig(context=64, **model),
            data=text_data(mine, Path(folder), text.read_bytes()),
            train=mine.TrainConfig(seed=1337, **train),
        )
        made = trainer(mine, recipe)
        made.run()
        made.model.eval()  # nothing is dropped any more
        corpus = mine.Corpus(recipe.data)
        batches = mine.Batches(corpus.train, 32, 1337)
        with torch.no_grad():
            losses = [float(made.model(*batches(first, 16))) for first in range(0, 160, 16)]
        sampling = mine.Sampling(max_tokens=240, seed=1337)
        said = continuation(mine, made.model, corpus.tokenizer, prompt, sampling)
    return f"{what}, {recipe.train.steps} steps", sum(losses) / len(losses), said


# The page.

STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 44rem; margin: 2rem auto; padding: 0 1rem; }
body { background: Canvas; color: CanvasText; }
article { border-left: .25rem solid #7a9; padding: .1rem 0 .1rem 1rem; margin: 2rem 0; }
h2 { font-size: 1.1rem; margin: 0; }
p { margin: .2rem 0; opacity: .8; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font: .95rem/1.5 ui-monospace, monospace; }
b { color: light-dark(#063, #8ec); }
"""


def page(pictures: list[Picture]) -> str:
    """All of them as one HTML document, which asks for nothing else."""
    body = "\n".join(map(article, pictures))
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>The gallery</title>\n<style>{STYLE}</style>\n<body>\n<h1>The gallery</h1>\n"
        f"<p>One prompt, continued by the model of each lesson that has changed it.</p>\n{body}\n"
        "</body>\n</html>\n"
    )


def article(picture: Picture) -> str:
    """One of them."""
    what, whose = html.escape(picture.what), html.escape(picture.whose)
    return (
        f"<article>\n<h2>Lesson {picture.lesson}: {html.escape(picture.title)}</h2>\n"
        f"<p>{what}. Loss {picture.loss:.2f}, {whose}.</p>\n"
        f"<pre><b>{PROMPT}</b>{html.escape(readable(picture.text))}</pre>\n</article>"
    )


def readable(text: str) -> str:
    """A box for each character that no terminal and no page shows."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
