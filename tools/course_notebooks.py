"""The hands-on kits in notebooks/, written from the lessons: `tools/course.py notebooks`.

A step becomes: its words, a cell with what it needs, a cell to be filled in, its hints, a cell with
the lesson's checks, and its demo. A notebook holds no outputs: nothing in it ran where it was made.
"""

import ast
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildgpt.course import prose
from buildgpt.course.handing import blocks, is_text
from buildgpt.course.kit import TODO, changed
from buildgpt.course.patches import Tree
from buildgpt.course.series import Series, Step

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
GIVEN, EXERCISE, CHECK, TRY = "given", "exercise", "check", "try"  # what a cell of code is for
OPENING = """\
Fill in the cells that say `NotImplementedError`, and mend those that do less than the words above
them ask for. After each comes a cell that checks what yours *does*; how you write it is your
affair. All else around it is the code of the course at that step. Run the cells in order. What the
words call `try.py` is the cell below the checks; it runs with your code.

Stuck? There are three hints at each step, and `kit.solution()` shows how the course does it."""
INSTALL = """\
# Installs the package where it is missing, as in Colab.
import importlib.util
import subprocess
import sys
from pathlib import Path

SOURCE = "{source}"  # git+https://... of the repository; beside a clone's notebooks it is found
if importlib.util.find_spec("buildgpt") is None:
    where = SOURCE or (".." if Path("../pyproject.toml").exists() else "")
    assert where, "say in SOURCE where the package is to be installed from"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", where], check=True)

from buildgpt.course.kit import Kit

kit = Kit()"""


@dataclass(frozen=True)
class Plan:
    """A notebook: its name, its title, and the steps that it is made of."""

    name: str
    title: str
    steps: tuple[str, ...]


PLANS = (
    Plan(
        "attention-and-masks",
        "Attention and masks",
        ("06-head/scores", "06-head/triangle", "06-head/scale", "06-head/head", "07-heads/split"),
    ),
    Plan(
        "loss-and-sampling",
        "Loss and sampling",
        (
            "03-bigram/loss",
            "03-bigram/update",
            "03-bigram/pick",
            "05-sampling/temperature",
            "05-sampling/greedy",
            "05-sampling/top-k",
            "05-sampling/top-p",
            "05-sampling/stream",
        ),
    ),
)


def notebook(series: Series, plan: Plan) -> str:
    """A notebook's file."""
    cells = [words(f"# {plan.title}\n\n{OPENING}"), code(GIVEN, install())]
    lesson = None
    for step in steps(series, plan):
        if step.lesson != lesson:
            lesson = step.lesson
            cells += [words(f"## {lesson.title}\n\n{opening(series, step)}")]
        cells += step_cells(series, step)
    for number, cell in enumerate(cells, 1):
        cell["id"] = f"{plan.name}-{number:02d}"
    python = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": python, "language_info": {"name": "python"}}
    whole = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def steps(series: Series, plan: Plan) -> list[Step]:
    """The steps of a plan, in its order."""
    known = {step.id: step for step in series.steps}
    return [known[name] for name in plan.steps]


def install() -> str:
    """The first cell; it knows the repository's address where pyproject.toml does."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address = project.get("urls", {}).get("Repository", "")
    return INSTALL.format(source=f"git+{address}" if address else "")


def words(text: str) -> dict[str, Any]:
    """A cell of Markdown."""
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def code(role: str, text: str) -> dict[str, Any]:
    """A cell of code that has not run."""
    source = text.rstrip().splitlines(keepends=True)
    facts: dict[str, Any] = {"cell_type": "code", "execution_count": None, "outputs": []}
    return facts | {"metadata": {"role": role}, "source": source}


# A step.


def opening(series: Series, step: Step) -> str:
    """The words with which a lesson begins."""
    return "\n\n".join(block.text for block in prose.section(series, step.lesson, ""))


def step_cells(series: Series, step: Step) -> list[dict[str, Any]]:
    """The cells of one step."""
    found = prose.section(series, step.lesson, step.slug)
    place = next((i for i, block in enumerate(found) if block.kind == "try"), len(found))
    before = [block.text for block in found[:place] if block.kind == "words"]
    after = [block.text for block in found[place:] if block.kind == "words"]
    cells = [words("\n\n".join([f"### {step.label} {step.patch.subject}", *before]))]
    cells += [code(GIVEN, given(series, step)), code(EXERCISE, exercise(series, step))]
    cells += [words(hints(step))] if hints(step) else []
    cells += [code(CHECK, f"kit.check({', '.join(changed(series, step))})")]
    cells += [words(question) for question in asked(series, step)]
    demo = step.lesson.demo(step)
    cells += [code(TRY, demo.read_text(encoding="utf-8"))] if demo else []
    return cells + ([words("\n\n".join(after))] if after else [])


def given(series: Series, step: Step) -> str:
    """The step's code is put in place, and what the exercise needs of it is imported."""
    after, own = series.tree(step.index + 1), changed(series, step)
    lines = [f'kit.begin("{step.id}")', ""]
    for module in dict.fromkeys(own.values()):
        text = after[f"gpt/{module}.py"]
        used = names_in("\n".join(blocks(text)[name] for name in own if name in blocks(text)))
        lines += imports(text, used)
        there = sorted((symbols(text) & used) - {*own})
        lines += [f"from gpt.{module} import {', '.join(there)}"] * bool(there)
    return "\n".join(dict.fromkeys(lines))


def imports(text: str, used: set[str]) -> list[str]:
    """A file's imports of what is used, as they are written outside of the package."""
    found = []
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            node.names = [a for a in node.names if (a.asname or a.name.partition(".")[0]) in used]
            if isinstance(node, ast.ImportFrom) and node.level:
                node.module, node.level = ".".join(filter(None, ("gpt", node.module))), 0
            found += [ast.unparse(node)] * bool(node.names)
    return found


def symbols(text: str) -> set[str]:
    """What a file defines."""
    return {name for node in ast.parse(text).body for name in prose.names_of(node)}


def names_in(text: str) -> set[str]:
    """Every name that stands in code."""
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def exercise(series: Series, step: Step) -> str:
    """The symbols as they were before the step; the new ones as empty as a learner finds them."""
    old = every_block(series.tree(step.index))
    new = every_block(series.tree(step.index + 1))
    parts = [old.get(name) or emptied(new[name]) for name in changed(series, step)]
    return "\n\n\n".join(part.strip("\n") for part in parts)


def solution(series: Series, step: Step) -> str:
    """The same as the course has it."""
    new = every_block(series.tree(step.index + 1))
    return "\n\n\n".join(new[name].strip("\n") for name in changed(series, step))


def every_block(tree: Tree) -> dict[str, str]:
    """All symbols of a tree, with their text."""
    return {name: part for text in tree.values() for name, part in blocks(text).items()}


def emptied(text: str) -> str:
    """A symbol with its signatures and docstrings, and nothing inside."""
    lines = text.rstrip("\n").split("\n")
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: -node.lineno):
        start = node.body[1 if is_text(node.body[0]) and node.body[1:] else 0].lineno - 1
        while lines[start - 1].strip().startswith("#"):
            start -= 1
        indent = " " * node.body[0].col_offset
        lines[start : node.end_lineno] = [f"{indent}{TODO}  # yours"]
    return "\n".join(lines)


def hints(step: Step) -> str:
    """Three rungs, each to be opened."""
    names = ("a question", "the place", "the shape of the code")
    rungs = prose.hints(step.lesson).get(step.slug, [])
    return "\n\n".join(hidden(f"Hint {i + 1}: {names[i]}", text) for i, text in enumerate(rungs))


def asked(series: Series, step: Step) -> list[str]:
    """What to predict before the demo runs, with the reasoning to be opened."""
    entries = [e for e in step.lesson.facts.get("predict", []) if e["step"] == step.slug]
    recorded = prose.records(series.course)
    reasons = [prose.fill(entry["reasoning"].strip(), recorded) for entry in entries]
    return [
        f"**Before you run it:** {entry['question']}\n\n{hidden('The answer, and why', reason)}"
        for entry, reason in zip(entries, reasons)
    ]


def hidden(title: str, text: str) -> str:
    """Something that opens when it is asked for."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


# The files.


def write(series: Series) -> list[Path]:
    """All notebooks, anew."""
    FOLDER.mkdir(exist_ok=True)
    for plan in PLANS:
        path_of(plan).write_text(notebook(series, plan), encoding="utf-8")
    return [path_of(plan) for plan in PLANS]


def path_of(plan: Plan) -> Path:
    """Where a notebook lies."""
    return FOLDER / f"{plan.name}.ipynb"


def stale(series: Series) -> list[Path]:
    """The notebooks that are not as the lessons are."""
    paths = {path_of(plan): notebook(series, plan) for plan in PLANS}
    return [p for p, text in paths.items() if not p.exists() or p.read_text("utf-8") != text]
