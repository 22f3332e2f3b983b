"""What a learner should know of PyTorch before lesson 1, and five questions that decide whether to
read it: course/warm-up."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from . import prose
from .folder import wrong

FOLDER = "warm-up"


@dataclass(frozen=True)
class Question:
    """One question about a part; its answer is a number, or a shape's numbers in order."""

    part: str
    question: str
    answer: list[float]
    reasoning: str

    def is_right(self, said: str) -> bool:
        """Whether somebody's words hold the answer's numbers and no others."""
        return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", said)] == self.answer

    @property
    def shown(self) -> str:
        """The answer as one writes it."""
        numbers = ", ".join(f"{number:g}" for number in self.answer)
        return f"({numbers})" if len(self.answer) > 1 else numbers


def questions(course: Path) -> list[Question]:
    """All of them, in order."""
    text = (course / FOLDER / "questions.toml").read_text(encoding="utf-8")
    return [Question(**facts) for facts in tomllib.loads(text)["question"]]


def parts(course: Path) -> dict[str, str]:
    """The words of each part by its name; before the first, "", and after the last, "end"."""
    text = (course / FOLDER / "lesson.md").read_text(encoding="utf-8")
    found = re.split(r"^\{\{(part [^}]*|end)\}\}\n", text, flags=re.M)
    names = ["", *(name.removeprefix("part ") for name in found[1::2])]
    return dict(zip(names, found[0::2]))


def part(course: Path, name: str) -> list[prose.Block]:
    """One part, ready to be shown; UsageError if there is none of that name."""
    known = parts(course)
    if name not in known:
        raise wrong(f"the warm-up has no part {name!r}; it has: {', '.join(demos(course))}")
    output = prose.records(course)["outputs"].get(f"{FOLDER}/{name}", "")
    words, _, _ = known[name].partition("{{try}}")
    blocks = [prose.Block("words", words.strip())]
    if name in demos(course):
        code = demos(course)[name].read_text(encoding="utf-8")
        blocks += [prose.Block("try", code, output=output)]
    return blocks


def demos(course: Path) -> dict[str, Path]:
    """The script of each part, in order."""
    names = [name for name in parts(course) if name not in ("", "end")]
    return {name: course / FOLDER / "demos" / f"{name}.py" for name in names}
