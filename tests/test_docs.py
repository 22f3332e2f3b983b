"""Whatever a document tells people to type can be typed: verbs, options, files, targets."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from buildgpt import api
from buildgpt.cli import app
from buildgpt.gpt import train
from buildgpt.gpt.config import UserError, load_recipe

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
DOCUMENTS += sorted(ROOT.glob("course/*/lesson.md"))
PROGRAMS = {"buildgpt", ".venv/bin/buildgpt", r".venv\Scripts\buildgpt"}


def blocks(text: str) -> list[str]:
    """What stands in fences of a shell, or of no language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    return [body for language, body in found if language in ("", "sh", "bash", "bat", "console")]


def inline(text: str) -> list[str]:
    """What stands between single backticks outside of fences."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", outside)]


def commands(text: str) -> list[list[str]]:
    """Each command's words, without comments, prompts, continued lines and variables before it."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"\s(?:&&|;|\|)\s", line.strip().removeprefix("$ ")):
            try:
                words = shlex.split(part, comments=True, posix="\\" not in part)
            except ValueError:
                continue  # an apostrophe: prose, or output
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                found.append(words)
    return found


def check(words: list[str], complete: bool = True) -> None:
    """Raise where the words cannot be typed; `complete` says that no argument may be missing."""
    program, *rest = words
    if program in PROGRAMS:
        check_verb(rest, complete)
    elif program == "cloud/run.sh" and rest:
        check_verb(["train", *rest], complete)
    elif program == "sbatch":
        place = rest.index("cloud/slurm.sbatch") + 1
        check_training([f"{api.RECIPES}/{rest[place]}.toml", *rest[place + 1 :]])
    elif program in ("torchrun", "python", "python3") and "buildgpt.gpt.train" in rest:
        check_training(rest[rest.index("buildgpt.gpt.train") + 1 :])
    elif program == "make":
        check_targets([word for word in rest if "=" not in word])
    for word in words:
        if re.fullmatch(r"(cloud|tools|benchmarks|docs)/[\w.-]+\.\w+", word):
            assert (ROOT / word).is_file(), f"there is no {word}"


def check_verb(words: list[str], complete: bool, group: Any = None) -> None:
    """The command line's own parser takes them; the recipe's keys in --set exist."""
    group = group or typer.main.get_command(app)
    if not words or words[0].startswith("-"):
        return
    verb = group.commands.get(words[0])
    assert verb is not None, f"there is no verb {words[0]}"
    if hasattr(verb, "commands"):
        check_verb(words[1:], complete, verb)
        return
    try:
        context = verb.make_context(words[0], words[1:])
    except Exception as error:
        missing = type(error).__name__ == "MissingParameter"
        assert hasattr(error, "format_message"), error
        assert missing and not complete, error.format_message()
        return
    check_settings(context.params.get("recipe"), context.params.get("settings") or [])


def check_training(words: list[str]) -> None:
    """The core's own parser takes them."""
    found = train.parse_arguments(words)
    assert (ROOT / found.recipe).is_file()
    check_settings(found.recipe, found.set)


def check_settings(recipe: object, settings: list[str]) -> None:
    """They fit the recipe; one that a reader is to write fits as any does."""
    bundled = {path.stem: path for path in api.RECIPES.glob("*.toml")}
    path = bundled.get(str(recipe), api.RECIPES / "gpt2-124m.toml")
    load_recipe(path, [s for s in settings if "$" not in s])


def check_targets(targets: list[str]) -> None:
    """The Makefile knows them."""
    known = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(targets) <= set(known)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_documents_tell_to_type_can_be_typed(path):
    text = path.read_text(encoding="utf-8")
    for words in (words for block in blocks(text) for words in commands(block)):
        check(words)
    for words in (words for code in inline(text) for words in commands(code)):
        check(words, complete=False)


def test_what_the_cloud_task_types_can_be_typed():
    task = yaml.safe_load((ROOT / "cloud" / "skypilot.yaml").read_text())
    text = (task["setup"] + task["run"]).replace('"$SKYPILOT_NUM_GPUS_PER_NODE"', "8")
    for name, value in task["envs"].items():
        text = text.replace(f'"${name}"', value)
    found = commands(text)
    assert {"doctor", "prepare", "eval", "report"} <= {w[1] for w in found if w[0] == "buildgpt"}
    for words in found:
        check(words)


@pytest.mark.parametrize(
    "line",
    [
        "buildgpt evaluate demo",
        "buildgpt eval demo --hela",
        "buildgpt eval",
        "buildgpt train shakespeare --set train.step=3",
        "RESTART_PAUSE=1 cloud/run.sh shakespeare --nam x",
        "torchrun -m buildgpt.gpt.train src/buildgpt/recipes/none.toml",
        "make coffee",
        "cat docs/none.md",
    ],
)
def test_what_cannot_be_typed_is_found(line):
    (words,) = commands(f"$ {line}  # it's wrong")
    with pytest.raises((AssertionError, UserError)):
        check(words)


def test_what_is_read_from_a_document():
    text = "See `buildgpt doctor`:\n```sh\nbuildgpt eval demo \\\n  --json && ls # a\n```\n"
    assert [commands(code) for code in inline(text)] == [[["buildgpt", "doctor"]]]
    (block,) = blocks(text)
    assert commands(block) == [["buildgpt", "eval", "demo", "--json"], ["ls"]]
