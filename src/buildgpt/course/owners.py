"""Which lesson and step wrote what of the core: derived from the series, never kept by hand."""

import ast
from collections import Counter
from dataclasses import dataclass

from .prose import find, names_of
from .series import UNCARVED, Series, Step

HEAD = "(the file itself)"  # imports, comments and what else stands between its symbols


@dataclass(frozen=True)
class Owned:
    """A file or a symbol: how many lines each step wrote of it, empty ones not counted."""

    path: str
    symbol: str
    steps: "Counter[Step]"

    @property
    def lines(self) -> int:
        """All of them."""
        return sum(self.steps.values())

    @property
    def uncarved(self) -> int:
        """Those that no lesson has come to yet."""
        return sum(n for step, n in self.steps.items() if step.lesson.name == UNCARVED)

    def carved(self) -> list[tuple[Step, int]]:
        """The lessons' steps in order, each with the lines that are still its own."""
        found = [(step, n) for step, n in self.steps.items() if step.lesson.name != UNCARVED]
        return sorted(found, key=lambda pair: pair[0].index)


def authors(series: Series, steps: int) -> dict[str, list[tuple[str, Step]]]:
    """Each file's lines after so many steps, each with the step that wrote it."""
    files: dict[str, list[tuple[str, Step]]] = {}
    for step in series.steps[:steps]:
        for path, hunks in step.patch.files.items():
            old, done, read = files.get(path, []), [], 0
            for hunk in hunks:
                done += old[read : hunk.start]
                read = hunk.start
                for line in hunk.lines:
                    if line[0] == "+":
                        done.append((line[1:], step))
                        continue
                    done += [old[read]] * (line[0] == " ")
                    read += 1
            files[path] = done + old[read:]
        for path in step.patch.deleted:
            del files[path]
    return files


def owners(series: Series) -> list[Owned]:
    """Every symbol of the core in its file's order, methods after their class."""
    found = []
    for path, lines in sorted(authors(series, len(series.steps)).items()):
        text = "".join(f"{line}\n" for line, _ in lines)
        counts: dict[str, Counter[Step]] = {}
        for (line, step), name in zip(lines, symbol_of_lines(text)):
            if line.strip():
                counts.setdefault(name, Counter())[step] += 1
        found += [Owned(path, name, steps) for name, steps in counts.items()]
    return found


def by_file(owned: list[Owned]) -> list[Owned]:
    """The same of whole files."""
    found: dict[str, Counter[Step]] = {}
    for one in owned:
        found.setdefault(one.path, Counter()).update(one.steps)
    return [Owned(path, "", steps) for path, steps in found.items()]


def symbol_of_lines(text: str) -> list[str]:
    """For each line, the innermost class, function or constant that it is part of."""
    found = [HEAD] * len(text.splitlines())
    for name in symbols(text):
        start, stop = find(text, name) or (0, 0)
        found[start:stop] = [name] * (stop - start)
    return found


def symbols(text: str) -> list[str]:
    """A file's symbols, a class before its methods."""
    found = []
    for node in ast.parse(text).body:
        found += [] if isinstance(node, ast.If) else names_of(node)
        if isinstance(node, ast.ClassDef):
            methods = [inner for inner in node.body if isinstance(inner, ast.FunctionDef)]
            found += [f"{node.name}.{method.name}" for method in methods]
    return found


def written_by(one: Owned) -> str:
    """Such as "lesson 6: 6.2, 6.5; lesson 7: 7.1; no lesson yet: 12 lines"."""
    lessons: dict[int, list[str]] = {}
    for step, _ in one.carved():
        lessons.setdefault(step.lesson.number, []).append(step.label)
    parts = [f"lesson {number}: {', '.join(labels)}" for number, labels in lessons.items()]
    parts += [f"no lesson yet: {one.uncarved} line{'s' * (one.uncarved > 1)}"] * bool(one.uncarved)
    return "; ".join(parts)


def table(series: Series, paths: list[str]) -> str:
    """What `tools/course.py owners` prints: all files, or the symbols of those asked for."""
    owned = owners(series)
    wanted = [one for one in owned if one.path in paths] if paths else by_file(owned)
    rows = [(one.symbol or one.path, one.lines, written_by(one)) for one in wanted]
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{name:<{width}} {count:5}  {words}" for name, count, words in rows]
    every, left = (sum(getattr(one, key) for one in owned) for key in ("lines", "uncarved"))
    return "\n".join([*lines, f"{every} lines in all, {left} of them not carved yet"])
