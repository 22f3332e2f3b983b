"""A lesson's words. What is in double braces is put in from its one source:

{{step encode}}                       opens the words of a step
{{code tokenizer.ByteTokenizer}}      a symbol after the step, marked where the step changed it
{{code tokenizer}}                    a file's head: what stands before its first symbol
{{try}}                               the step's demo, and what it printed when it was recorded
{{end}}                               opens what comes after the last step
{{figure loss at the start}}          a recorded figure, within a line
"""

import ast
import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .folder import wrong
from .patches import Tree
from .series import Lesson, Series, Step

DIRECTIVE = re.compile(r"^\{\{(step|code|try|end)(?: ([^}]*))?\}\}$", re.M)
FIGURE = re.compile(r"\{\{figure ([^}]+)\}\}")


class BadProse(Exception):
    """A lesson's words do not fit its steps."""


@dataclass(frozen=True)
class Block:
    """A part of what is shown. kind: "words" (Markdown), "code" or "try"."""

    kind: str
    text: str = ""
    title: str = ""
    lines: tuple[tuple[str, str], ...] = ()  # of code: (mark, line), the mark ' ', '+' or '-'
    output: str = ""


def records(course: Path) -> dict[str, Any]:
    """What `tools/course.py figures` measured: figures, outputs, and on what."""
    path = course / "figures.json"
    empty: dict[str, Any] = {"figures": {}, "outputs": {}}
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else empty


def sections(lesson: Lesson) -> dict[str, str]:
    """The words before the first step, "", of each step, by its slug, and after the last, "end"."""
    text = (lesson.folder / "lesson.md").read_text(encoding="utf-8")
    parts = re.split(r"^\{\{(step [^}]*|end)\}\}\n", text, flags=re.M)
    names = ["", *(name.removeprefix("step ") for name in parts[1::2])]
    return dict(zip(names, parts[0::2]))


def section(series: Series, lesson: Lesson, name: str) -> list[Block]:
    """One section, ready to be shown."""
    step = next((step for step in lesson.steps if step.slug == name), None)
    found, recorded = [], records(series.course)
    text = fill(sections(lesson).get(name, ""), recorded)
    place = 0
    shown: list[str] = []
    for directive in DIRECTIVE.finditer(text):
        found.append(Block("words", text[place : directive.start()].strip()))
        place = directive.end()
        if step is None:
            raise BadProse(f"{lesson.name}: {directive[0]} stands outside of a step")
        if directive[1] == "code":
            found.append(code_block(series, step, directive[2] or "", shown))
            shown.append(directive[2] or "")
        else:
            found.append(try_block(lesson, step, recorded))
    found.append(Block("words", text[place:].strip()))
    return [block for block in found if block.kind != "words" or block.text]


def fill(text: str, recorded: dict[str, Any]) -> str:
    """Put the recorded figures in."""

    def figure(match: re.Match) -> str:
        try:
            return str(recorded["figures"][match[1]]["shown"])
        except KeyError:
            raise BadProse(f"no figure {match[1]!r} is recorded") from None

    return FIGURE.sub(figure, text)


def try_block(lesson: Lesson, step: Step, recorded: dict[str, Any]) -> Block:
    """The demo of a step, with its recorded output."""
    demo = lesson.demo(step)
    text = demo.read_text(encoding="utf-8") if demo else ""
    fresh = demo is not None and demo.stem == step.slug
    return Block("try", text if fresh else "", "", (), recorded["outputs"].get(step.id, ""))


def code_block(series: Series, step: Step, words: str, shown: Sequence[str] = ()) -> Block:
    """A symbol, or a file's head, as it is after the step, marked where the step changed it.

    `shown` is what stands above it in the same section, by the same words.
    """
    module, _, symbol = words.partition(".")
    path = f"gpt/{module}.py"
    before, after = series.tree(step.index), series.tree(step.index + 1)
    new = excerpt(after, path, symbol)
    if new is None:
        raise BadProse(f"{step.id}: there is no {words} after it")
    old = excerpt(before, path, symbol)
    where = "" if path in before else a_new_file(module, shown)
    title = path + (where or place_of(symbol, old is None, f"{words}." in "".join(shown)))
    return Block("code", "\n".join(new), title, tuple(marked(old, new)))


def a_new_file(module: str, shown: Sequence[str]) -> str:
    """What a title says of a file that the step makes: it is made once."""
    again = any(words.partition(".")[0] == module for words in shown)
    return ", further down" if again else ", a new file"


def place_of(symbol: str, is_new: bool, parts_shown: bool) -> str:
    """What a title says of a symbol of a file that is there already."""
    owner = symbol.rpartition(".")[0]
    if owner:
        return f", new in class {owner}" if is_new else f", in class {owner}"
    if parts_shown:
        return f", all of {symbol} after it" if symbol else ", how it begins"
    return ", new" if symbol and is_new else ""


def excerpt(tree: Tree, path: str, symbol: str) -> list[str] | None:
    """The lines of a symbol of a file, or of its head; None where there is none."""
    text = tree.get(path)
    if text is None:
        return None
    span = find(text, symbol)
    if span is None:
        return None
    whole = text.splitlines()
    lines = whole[headed(whole, span[0]) if symbol else 0 : span[1]]
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    return lines


def headed(lines: list[str], start: int) -> int:
    """Where a symbol begins together with the comment that stands above it."""
    place = start
    while place and not lines[place - 1].strip():
        place -= 1
    top = place
    while top and lines[top - 1].lstrip().startswith("#"):
        top -= 1
    return top if top < place else start


def find(text: str, symbol: str) -> tuple[int, int] | None:
    """Lines [start, stop) of "Class.method", "function", "NAME", or "" for the head."""
    body = ast.parse(text).body
    if not symbol:
        return 0, next((first(node) for node in body if is_symbol(node)), len(text.splitlines()))
    span = None
    for name in symbol.split("."):
        node = next((node for node in body if name in names_of(node)), None)
        if node is None:
            return None
        span = first(node), node.end_lineno or 0
        body = getattr(node, "body", [])
    return span


def is_symbol(node: ast.stmt) -> bool:
    """Whether it ends a file's head."""
    return isinstance(node, ast.ClassDef | ast.FunctionDef)


def first(node: ast.stmt) -> int:
    """Where a statement begins, from 0, its decorators included."""
    lines = [d.lineno for d in getattr(node, "decorator_list", [])]
    return min([node.lineno, *lines]) - 1


def names_of(node: ast.stmt) -> list[str]:
    """What a statement defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        return [node.name]
    if isinstance(node, ast.If):
        return [ast.unparse(node.test)]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def marked(old: list[str] | None, new: list[str]) -> list[tuple[str, str]]:
    """The new lines, and the old ones that are gone, each with its mark; no marks if all is new."""
    if old is None:
        return [(" ", line) for line in new]
    found = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, False).get_opcodes():
        if kind == "equal":
            found += [(" ", line) for line in new[c:d]]
        else:
            found += [("-", line) for line in old[a:b]] + [("+", line) for line in new[c:d]]
    return found


def hints(lesson: Lesson) -> dict[str, list[str]]:
    """The rungs of each step, by its slug: "## encode", then a numbered list."""
    path = lesson.folder / "hints.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = re.split(r"^## (.+)\n", text, flags=re.M)
    return {
        name.strip(): [rung.strip() for rung in re.split(r"^\d\. ", body, flags=re.M)[1:]]
        for name, body in zip(parts[1::2], parts[2::2])
    }


def glossary(course: Path) -> dict[str, str]:
    """The words that explain each term, in course/glossary.md."""
    path = course / "glossary.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = re.split(r"^## (.+)\n", text, flags=re.M)
    return {term.strip(): " ".join(body.split()) for term, body in zip(parts[1::2], parts[2::2])}


def look_up(course: Path, word: str) -> dict[str, str]:
    """The terms that are meant by a word, all if there is none; UsageError if it is no term."""
    known = glossary(course)
    names = {term.lower(): term for term in known}
    if not word or word.lower() in names:
        return {names[word.lower()]: known[names[word.lower()]]} if word else known
    near = difflib.get_close_matches(word.lower(), names, n=3, cutoff=0.0)
    nearest = ", ".join(names[name] for name in near)
    raise wrong(f"the glossary does not explain {word!r}; the nearest it has: {nearest}")


def terms(lesson: Lesson) -> list[str]:
    """The terms that a lesson defines: what stands in bold."""
    path = lesson.folder / "lesson.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [" ".join(term.split()) for term in re.findall(r"\*\*([^*`]+)\*\*", text)]


def defined_in(series: Series, term: str) -> Lesson | None:
    """The first lesson that defines a term."""
    return next((lesson for lesson in series.lessons if term in terms(lesson)), None)
