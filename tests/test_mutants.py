"""Small mistakes in the lessons' lines: what is changed and what is not, and that checks see it."""

import ast
import sys
from pathlib import Path

import pytest

from buildgpt.course.series import Series

ROOT = Path(__file__).parent.parent
SERIES = Series()
TOY = '''\
"""Words."""
import math
from dataclasses import dataclass

LIMIT = 3


@dataclass(frozen=True)
class Shape:
    width: int = 64
    seed: int = 1337
    tied: bool = True
    left: Half = field(default_factory=Left)
    right: Half = field(default_factory=Right)

    def part(self, x: int, count: int = 2) -> int:
        """More words, 1 + 1."""
        if x < 0:
            raise ValueError(f"{x + 1} is below 0")
        x = x / (self.width + 1e-9)
        print("x is", x * 2)
        if x == 7:
            print(f"seven {x}")
        y = "ä" * 2
        require(x in self.known, "unknown")
        sizes = {"small": 12, "large": 36, "name": "x"}
        z = self.layer(x or self.width, dim=-1, device=x.device)
        return self.layer(x)[:count - 1] + self.layer(max(x, 2))


if __name__ == "__main__":
    Shape().part(3)
'''


@pytest.fixture(scope="module")
def tool():
    """tools/course_mutants.py"""
    sys.path.insert(0, str(ROOT / "tools"))
    import course_mutants

    yield course_mutants
    sys.path.remove(str(ROOT / "tools"))


def test_mistakes_are_small_and_of_every_kind(tool):
    found = tool.mutants("toy.py", TOY, {*range(1, 99)})
    pairs = {(mutant.kind, mutant.after) for mutant in found}
    assert {
        ("constant", "LIMIT = 4"),
        ("comparison", "if (x <= 0):"),
        ("constant", 'y = "ä" * 3'),
        ("forgotten", "pass"),
        ("half", "x = x / ((self.width))"),
        ("operator", "x = (x * (self.width + 1e-09))"),
        ("no call", "return self.layer(x)[:count - 1] + self"),
        ("default", "width: int = 640"),
        ("default", "tied: bool = False"),
        ("default", "def part(self, x: int, count: int = 20) -> int:"),
        ("condition", 'require((not (x in self.known)), "unknown")'),
        ("neighbour", "sizes = {'small': 36, 'large': 36, 'name': 'x'}"),
        ("neighbour", "left: Half = field(default_factory=Right)"),
        ("no keyword", "z = self.layer(x or self.width, device=x.device)"),
        ("one side", "z = self.layer((x), dim=-1, device=x.device)"),
        ("one side", "z = self.layer((self.width), dim=-1, device=x.device)"),
        ("off by one", "return self.layer(x)[:count - 1 + 1] + self.layer(max(x, 2))"),
    } <= pairs
    for mutant in found:
        lines = [*zip(TOY.splitlines(), mutant.text.splitlines())]
        assert [n for n, (a, b) in enumerate(lines, 1) if a != b] == [mutant.line]
        ast.parse(mutant.text)


def test_words_choices_and_what_makes_no_difference_are_left_alone(tool):
    found = tool.mutants("toy.py", TOY, {*range(1, 99)})
    changed = {mutant.before for mutant in found}
    lines = {line.strip() for line in TOY.splitlines()}
    alone = (
        "seed: int",
        "print",
        "if x == 7",
        "@data",
        '"""',
        "Shape()",
        "if __",
    )
    assert not {line for line in changed if line.startswith(alone)}
    assert changed <= lines
    whole = " ".join(mutant.after for mutant in found)
    assert "dim=-1)" not in whole  # where it is computed
    assert "2e-09" not in whole and "max(2, x)" not in whole
    assert "(self.layer(x)[:count - 1] - self.layer(max(x, 2)))" not in whole
    assert [m.after for m in found if m.before.startswith("raise")] == ["pass"]


def test_only_lines_of_typed_steps_are_changed_and_always_the_same(tool):
    lesson = SERIES.find("5")
    typed, tree = tool.typed(SERIES, lesson), SERIES.tree(SERIES.after(lesson))
    taken = {line for s in lesson.steps if s.kind != "type" for line in s.patch.added() if line}
    written = {line for s in lesson.steps if s.kind == "type" for line in s.patch.added()}
    for path, numbers in typed.items():
        assert all(tree[path].splitlines()[number - 1] in written for number in numbers)
    assert taken - written  # there was something to be left out
    one, same, other = (tool.chosen(SERIES, lesson, 10, seed) for seed in (0, 0, 1))
    assert (len(one), one == same, one == other) == (10, True, False)
    assert len({mutant.kind for mutant in one}) > 4
    assert all(mutant.line in typed[mutant.path] for mutant in one)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="checks run in forked copies")
def test_a_mistake_is_caught_and_none_is_not(tool, tmp_path, monkeypatch):
    lesson = SERIES.find("1")
    shop = tool.Workshop(SERIES, tmp_path)
    path, text = "gpt/tokenizer.py", SERIES.tree(SERIES.after(lesson))["gpt/tokenizer.py"]
    mistake = tool.mutants(path, text, tool.typed(SERIES, lesson)[path])[0]
    assert tool.catcher(shop, lesson, mistake)
    none = tool.Mutant(path, text + "\n# nothing else\n", 1, "none", "", "")
    assert tool.catcher(shop, lesson, none) == ""
    monkeypatch.setattr(tool, "CPU_SECONDS", 0.5)
    endless = tool.Mutant(path, text + "\nwhile True:\n    pass\n", 1, "endless", "", "")
    assert "no end" in tool.catcher(shop, lesson, endless)


def test_every_lesson_whose_lines_are_typed_has_mutants_and_the_others_are_skipped(tool, capsys):
    for lesson in SERIES.lessons:
        typed = any(step.kind == "type" for step in lesson.steps)
        assert len(tool.chosen(SERIES, lesson)) == (tool.COUNT if typed else 0), lesson.name
    assert tool.try_all(SERIES, ["30"])
    said = capsys.readouterr().out
    assert "lesson 30: skipped" in said and "there is no mutant to be caught" in said
    assert "%" not in said


def test_the_score_counts_what_is_caught_and_names_the_rest(tool, monkeypatch, capsys):
    alive = tool.chosen(SERIES, SERIES.find("1"), 5)[0]
    monkeypatch.setattr(tool, "catcher", lambda shop, lesson, m: "" if m == alive else "a check")
    assert not tool.try_all(SERIES, ["1"], 5)
    said = capsys.readouterr().out
    assert "lesson 1: 4 of 5 mutants caught" in said
    assert f"{alive.path}, line {alive.line} ({alive.kind})" in said
    assert f"- {alive.before}" in said and f"+ {alive.after}" in said
    assert tool.try_all(SERIES, ["1", "2"], 10)
