"""A learner's own package in the real tools: `buildgpt train RECIPE --code my-gpt`.

What a verb takes from a core is listed here, so that a package that has not come that far is told
so in one sentence, before anything begins.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from buildgpt.core import Core, load_core

from .folder import read_learn
from .patches import Tree
from .runner import place_of
from .series import Series, Step

LOADS = (
    "config.Recipe config.TrainConfig modern.switches_of hub.import_folder checkpoint.find_run"
    " checkpoint.load_run runtime.choose_device"
)
READS = (
    "config.sha256 data.SPLITS data.ShardWriter data.open_shard data.read_manifest"
    " data.write_manifest"
)
# What each verb asks of a core, beside its errors.
NEEDS = {
    "train": "config.load_recipe config.check_run_name config.write_text runtime.choose_device"
    " runlog.locked runlog.read_state train.main",
    "sample": f"{LOADS} generate.Sampling generate.continue_text generate.stream_text",
    "play": f"{LOADS} generate.Sampling generate.stream_text generate.probabilities"
    " generate.next_logits",
    "eval": f"{LOADS} config.DataConfig data.Corpus evaluate.evaluate runtime.start_runtime"
    " runlog.known hellaswag.hellaswag hellaswag.read_hellaswag",
    "report": "config.load_recipe config.require config.Recipe config.write_text"
    " checkpoint.find_run"
    " runlog.read_state data.read_manifest tokenizer.build_tokenizer",
    "import": f"{LOADS} config.check_run_name config.to_toml config.write_text"
    " checkpoint.save_checkpoint",
    "export": f"{LOADS} hub.export_folder",
    "prepare": f"{READS} config.require config.require_choice config.write_text"
    " data.check_vocabulary tokenizer.build_tokenizer tokenizer.BytePairTokenizer"
    " tokenizer.CharTokenizer tokenizer.GPT2Tokenizer",
}
ERRORS = "config.UserError config.UsageError"
MOST_NAMED = 3  # of what is missing


@contextmanager
def core_for(verb: str, code: Path | None) -> Iterator[Core]:
    """This project's core or, of a folder `code`, the package in there, ready for a verb.

    Whatever goes wrong in that package becomes a UserError of ours, which names the place.
    """
    if code is None:
        yield load_core()
        return
    package = find_package(code)
    renamed = own_names(code)
    if missing := lacks(package, verb, renamed):
        raise mistake(told(package, missing, verb))
    try:
        core = load_core(package)
        for name, (module, place) in renamed.items():
            theirs, _, attribute = place.rpartition(".")
            setattr(getattr(core, module), name, getattr(getattr(core, theirs), attribute))
        yield core
    except Exception as error:
        raise translated(error, package, verb) from error


def explainer(verb: str, code: Path | None) -> Callable[[Exception], Exception]:
    """What makes a sentence, as `core_for` does, of an error in the package of a folder."""
    if code is None:
        return lambda error: error
    package = find_package(code)
    return lambda error: translated(error, package, verb)


def train_early(code: Path | None, words: list[str], beside: list[str]) -> int | None:
    """Train by the command of a package that has one, of lesson 4, and not yet all that the real
    tool needs; returns its exit status, None where that is not so.

    `beside` are words of the real tool alone: UsageError if there are any.
    """
    if code is None or not lacks(
        package := find_package(code), "train", renamed := own_names(code)
    ):
        return None
    main = renamed.get("main", ("train", "train.main"))[1]
    if lacking(package, [main]) or lacking(package, ["config.load_recipe"]):
        return None
    if beside:
        raise mistake(
            f"{package} still trains by its own command, which has no {', '.join(beside)}"
        )
    print(f"{package} trains by its own command; from lesson 27 on by ours", file=sys.stderr)
    module, _, function = f"{package.name}.{main}".rpartition(".")
    run = f"import sys; from {module} import {function} as main; sys.exit(main(sys.argv[1:]))"
    place = os.pathsep.join([str(package.resolve().parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", run, *words], env=os.environ | {"PYTHONPATH": place}
    ).returncode


def lacks(package: Path, verb: str, renamed: dict[str, tuple[str, str]]) -> list[str]:
    """What a verb needs and the package does not define, under no name of its own either."""
    needs = f"{ERRORS} {NEEDS[verb]}".split()
    return lacking(package, [need for need in needs if need.partition(".")[2] not in renamed])


def mistake(sentence: str, status: int = 2) -> Exception:
    """A user's mistake, in one sentence, with its exit status."""
    config = load_core().config
    error: Exception = (config.UsageError if status == 2 else config.UserError)(sentence)
    return error


def own_names(code: Path) -> dict[str, tuple[str, str]]:
    """A learner's entry points with other names: ours -> (our module, their "module.name")."""
    names = {name: str(place) for name, place in read_learn(code).get("names", {}).items()}
    entries = Series().entries() if names else {}
    return {name: (entries[name], place) for name, place in names.items() if name in entries}


def find_package(code: Path) -> Path:
    """The package in a learner's folder, named as learn.toml says; or the folder, if it is one."""
    package = code / str(read_learn(code).get("package", "gpt"))
    found = package if package.is_dir() else code
    if not list(found.glob("*.py")):
        raise mistake(
            f"{package} is no folder with Python files; --code takes the folder that holds your"
            " package, such as one made by: buildgpt course start my-gpt"
        )
    if not found.resolve().name.isidentifier():
        raise mistake(f"{found} cannot be imported: a package's name has no blanks and no dashes")
    return found


def lacking(package: Path, needs: list[str]) -> list[str]:
    """Which of the names "module.name" the package does not define."""
    tree = {f"gpt/{path.name}": path.read_text("utf-8", "replace") for path in package.glob("*.py")}
    found = {module: names(tree, module) for module in {need.partition(".")[0] for need in needs}}
    for module, known in found.items():
        if known is None and f"gpt/{module}.py" in tree:
            raise mistake(f"{package / module}.py is no Python yet; mend it first", 1)
    parts = [need.partition(".") for need in needs]
    return [f"{module}.{name}" for module, _, name in parts if name not in (found[module] or ())]


def names(tree: Tree, module: str) -> set[str] | None:
    """What a module of a tree defines or imports; None where there is none, or no Python."""
    try:
        body = ast.parse(tree[f"gpt/{module}.py"]).body
    except (KeyError, SyntaxError, ValueError):
        return None
    found = {alias.asname or alias.name for node in body for alias in getattr(node, "names", [])}
    found |= {name for node in body if (name := getattr(node, "name", None))}
    targets = [t for node in body for t in (getattr(node, "targets", None) or [node])]
    targets = [getattr(target, "target", target) for target in targets]
    return found | {target.id for target in targets if isinstance(target, ast.Name)}


def told(package: Path, missing: list[str], verb: str) -> str:
    """What is missing, and which lesson brings the last of it."""
    modules = dict.fromkeys(
        need if (package / f"{need.partition('.')[0]}.py").exists() else f"{need.split('.')[0]}.py"
        for need in missing
    )
    listed = ", ".join([*modules][:MOST_NAMED]) + (", ..." if len(modules) > MOST_NAMED else "")
    series = Series()
    steps = [bringing(series, need) for need in missing]
    last = max(steps, key=lambda step: step.index if step else len(series.steps))
    carved = last is not None and last.lesson in series.lessons
    where = "the last of it comes with" if len(missing) > 1 else "it comes with"
    lesson = f"lesson {last.lesson.number}, {last.lesson.title}" if last and carved else ""
    lesson = lesson or "a later lesson, which is not written yet"
    return (
        f"{package} has no {listed} yet, which buildgpt {verb} needs; {where} {lesson}"
        + meanwhile(package, verb)
    )


def bringing(series: Series, need: str) -> Step | None:
    """The step after which the reference has a name; None if it never does."""
    module, _, name = need.partition(".")
    for step in series.steps:
        touches = f"gpt/{module}.py" in step.patch.files
        if touches and name in (names(series.tree(step.index + 1), module) or ()):
            return step
    return None


def meanwhile(package: Path, verb: str) -> str:
    """What lets it talk until then."""
    own = package / "train.py"
    if verb == "sample" and own.exists() and "main" in own.read_text("utf-8", "replace"):
        return f"; until then it talks at the end of: buildgpt train RECIPE --code {package.parent}"
    return ""


def translated(error: Exception, package: Path, verb: str) -> Exception:
    """An error that came through a learner's package, as one sentence; others as they are."""
    if (status := getattr(error, "exit_status", None)) is not None:
        return mistake(str(error), status)
    module = error.obj if isinstance(error, AttributeError) else None
    if isinstance(module, ModuleType) and module.__name__.startswith(f"{package.name}."):
        missing = f"{module.__name__.rpartition('.')[2]}.{error.name}"  # type: ignore[attr-defined]
        return mistake(told(package, [missing], verb))
    place = place_of(error, package)
    if not place or isinstance(error, OSError | MemoryError):
        return error
    words = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}").strip()
    return mistake(f"{words}; in {place}", 1)
