"""What a lesson's checks.py is written with.

    @check("text comes back from its ids", step="decode")
    def round_trip(mine):
        tokenizer = mine.ByteTokenizer()
        for text in ("", "a", "né"):  # the smallest first, so that the smallest failure is told
            ids = tokenizer.encode(text)
            equal(tokenizer.decode(ids), text, given=f"decode({ids})", causes=["..."])

A check is about behaviour: never about source text, inner names or the order of random draws.
`mine` finds the learner's entry points by name, or where learn.toml says they are.
"""

import ast
import dataclasses
import importlib.util
import io
import json
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from buildgpt.core import Core, load_core

LONGEST = 200  # characters of a value that are shown


class Failed(Exception):
    """A property does not hold: what was seen, what was expected, for what, and likely causes."""

    def __init__(
        self, seen: object, expected: object, given: str = "", causes: list[str] | None = None
    ) -> None:
        super().__init__(f"seen {seen}, expected {expected}")
        self.seen, self.expected, self.given = str(seen), str(expected), given
        self.causes = causes or []


class Missing(Exception):
    """The learner's package has no such entry point."""

    def __init__(self, name: str, where: str, own: str = "") -> None:
        """`own` is what learn.toml says that it is called, if it says so."""
        super().__init__(f"there is no {own or name} in {where}")
        self.name, self.where, self.own = name, where, own


@dataclass(frozen=True)
class Check:
    """A property, its test, and from which step to which lesson it applies."""

    says: str
    step: str  # a slug of its lesson
    until: str  # the lesson, by name, from whose beginning on it no longer applies; "": never
    function: Callable[[Any], None] = field(compare=False)

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__


def check(says: str, step: str, until: str = "") -> Callable[[Callable], Callable]:
    """Make a function a check: what it makes sure of, as a sentence, and when it applies."""

    def mark(function: Callable) -> Callable:
        function.check = Check(says, step, until, function)  # type: ignore[attr-defined]
        return function

    return mark


def load_checks(path: Path) -> list[Check]:
    """The checks of a file, in order."""
    if not path.exists():
        return []
    name = f"checks_of_{path.parent.name}".replace("-", "_")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [f.check for f in vars(module).values() if isinstance(getattr(f, "check", None), Check)]


def shown(value: object) -> str:
    """A value as a message shows it."""
    text = value if isinstance(value, str) and "\n" not in value else repr(value)
    text = repr(value) if isinstance(value, str | bytes) else text
    return text if len(text) <= LONGEST else text[: LONGEST - 4] + " ..."


def equal(seen: object, expected: object, given: str = "", causes: list[str] | None = None) -> None:
    """Fail unless both are the same."""
    if type(seen) is not type(expected) or seen != expected:
        same = shown(seen) == shown(expected)
        what = f"{shown(seen)} of type {type(seen).__name__}" if same else shown(seen)
        raise Failed(what, shown(expected), given, causes)


def near(
    seen: Any, expected: float, within: float, given: str = "", causes: list[str] | None = None
) -> None:
    """Fail unless a number is that near to another one."""
    try:
        number = float(seen.detach() if hasattr(seen, "detach") else seen)
    except (TypeError, ValueError, RuntimeError):
        raise Failed(shown(seen), f"a number near {expected:.4g}", given, causes) from None
    if not abs(number - expected) <= within:
        raise Failed(f"{number:.6g}", f"{expected:.6g} (within {within:.2g})", given, causes)


def expect(
    condition: object, seen: object, expected: str, given: str = "", causes: list[str] | None = None
) -> None:
    """Fail unless the condition holds; `expected` says it in words."""
    if not condition:
        raise Failed(shown(seen) if not isinstance(seen, str) else seen, expected, given, causes)


def of_the_size(settings: Any, **due: float) -> None:
    """Fail unless each of these numbers is within five times of what is due. Which one exactly is
    a choice; one with a zero too many or too few is a slip, and every run shows it."""
    for name, number in due.items():
        seen, given = getattr(settings, name, None), f"{type(settings).__name__}().{name}"
        good = isinstance(seen, int | float) and number / 5 <= seen <= number * 5
        causes = ["a zero too many or too few; for one run, --set or a recipe is the place"]
        expect(good, seen, f"a default of about {number:g}", given, causes)


@contextmanager
def refused(given: str, causes: list[str] | None = None, **holds: str) -> Iterator[None]:
    """Fail unless the block raises an error whose message holds each of these words."""
    try:
        yield
    except Exception as error:
        for what, word in holds.items():
            if word not in str(error):
                wish = f"a message with {what.replace('_', ' ')}, {word!r}"
                raise Failed(f"{type(error).__name__}: {error}", wish, given, causes) from None
        return
    raise Failed("no error at all", "an error that says what is wrong", given, causes)


@contextmanager
def works(given: str, causes: list[str] | None = None) -> Iterator[None]:
    """Say for what the block broke off, and of what that mostly comes, where it does."""
    try:
        yield
    except (Failed, Missing):
        raise
    except (Exception, SystemExit) as error:
        raise Failed(f"{type(error).__name__}: {error}", "no error", given, causes) from error


class Mine:
    """A learner's package: `mine.GPT` is their GPT, wherever in the package it is.

    `entries` are the names that checks ask for and the modules where they are due, `names` the
    learner's own names of them, `steps` the ids of the steps that are done.
    """

    def __init__(
        self, folder: Path, entries: dict[str, str], names: dict[str, str], steps: list[str]
    ) -> None:
        self.folder, self.entries, self.names, self.steps = folder, entries, names, steps
        self.core: Core = load_core(folder)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        module, attribute = self.place(name)
        try:
            return getattr(getattr(self.core, module), attribute)
        except (AttributeError, ModuleNotFoundError):
            own = attribute if name in self.names else ""
            raise Missing(name, f"{self.folder.name}/{module}.py", own) from None

    def done(self, step: str) -> bool:
        """Whether a step such as "04-recipe/trainer" is done, which changed how a thing is made."""
        return step in self.steps

    def place(self, name: str) -> tuple[str, str]:
        """In which module an entry point is, and under which name."""
        if name in self.names:
            module, _, attribute = self.names[name].rpartition(".")
            return module or self.entries.get(name, name), attribute
        due = self.entries.get(name, "")
        paths = sorted(self.folder.glob("*.py"), key=lambda p: (p.stem != due, p.stem))
        for path in paths:
            if name in top_level(path):
                return path.stem, name
        for path in paths:  # it may be in one that is no Python yet: then that is the news
            compile(path.read_bytes(), str(path), "exec")
        raise Missing(name, f"{self.folder.name}/{due}.py" if due else self.folder.name)


def stand_in(scores: Callable[[Any], Any], context: int = 100) -> Any:
    """A stand-in for a model, for what makes text: its logits for ids (B, T) are scores(ids).

    It lies on the CPU, and can be asked with a cache, too, which here keeps the ids.
    """
    import torch

    class StandIn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = SimpleNamespace(context=context)
            self.token_embedding = torch.nn.Embedding(1, 1)

        def forward(self, ids: Any) -> Any:
            return scores(ids)

        def new_cache(self) -> list:
            return [SimpleNamespace(length=0, ids=None)]

        def hidden(self, ids: Any, cache: Any = None) -> Any:
            if cache:
                own, new = cache[0], ids
                ids = new if own.ids is None else torch.cat([own.ids, new], dim=1)
                own.ids, own.length = ids, ids.size(1)
                return scores(ids)[:, -new.size(1) :]
            return scores(ids)

        def logits(self, hidden: Any) -> Any:
            return hidden

    return StandIn()


def continuation(mine: Mine, model: Any, tokenizer: Any, prompt: str, sampling: Any) -> str:
    """How their model goes on; from lesson 22 on, the first of several samples."""
    found = mine.continue_text(model, tokenizer, prompt, sampling)
    return found[0] if isinstance(found, list) else found


def lively(module: Any, spread: float = 0.4) -> Any:
    """A module in float64, with weights that are large enough for everything to have an effect."""
    import torch

    torch.manual_seed(3)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, spread)
    return module


def tokens(*shape: int) -> Any:
    """Random numbers in float64 that may have gradients, for vectors of tokens."""
    import torch

    torch.manual_seed(sum(shape))
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def on_cpu(mine: Mine) -> tuple[Any, ...]:
    """What is handed to those who compute: from lesson 20 on their Runtime of this CPU."""
    if not mine.done("20-device/runtime"):
        return ()
    import torch

    return (mine.Runtime(torch.device("cpu")),)


def toy(mine: Mine, **wishes: Any) -> Any:
    """Their ModelConfig of a small model, the one of which lessons 4 to 26 say nothing; from lesson
    27 on, GPT-2's sizes are what is meant without a word."""
    known = mine.ModelConfig()
    sizes = {"layers": 4, "heads": 4, "width": 64, "context": 64}
    return mine.ModelConfig(**({k: v for k, v in sizes.items() if hasattr(known, k)} | wishes))


def trainer(mine: Mine, recipe: Any, folder: Path | None = None, runtime: Any = None) -> Any:
    """Their Trainer of a recipe, from lesson 14 on in a folder, one that goes when it goes if none
    is given, and from lesson 20 on with a Runtime, that of this CPU if none is given; from lesson
    27 on it is told when the process began."""
    if not mine.done("14-resume/restore"):
        return mine.Trainer(recipe)
    given = (runtime,) if runtime else on_cpu(mine)
    if mine.done("27-run/begin"):
        given += (time.monotonic(), recipe.train.init_from)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        return mine.Trainer(folder, recipe, *given)
    place = tempfile.TemporaryDirectory()
    run = Path(place.name) / "run"
    run.mkdir()
    made = mine.Trainer(run, recipe, *given)
    weakref.finalize(made, place.cleanup)
    return made


def stream(mine: Mine, ids: Any) -> Any:
    """Tokens as their Batches and evaluate take them: an array of uint16, from lesson 19 on a
    Stream of one shard, whose vocabulary has all ids that there can be."""
    import numpy as np

    tokens = np.asarray(ids, dtype=np.uint16)
    if not mine.done("19-shards/corpus"):
        return tokens
    place = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # Windows keeps what is mapped
    made = mine.Stream([write_shard(Path(place.name) / "x_train_000000.bin", tokens)], 65536)
    weakref.finalize(made, place.cleanup)
    return made


def write_shard(path: Path, ids: Any) -> Path:
    """A shard of tokens as llm.c lays it out, whatever a learner's code can do."""
    import numpy as np

    numbers = np.array([20240520, 1, len(ids)] + [0] * 253, dtype="<i4")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(numbers.tobytes() + np.asarray(ids, dtype="<u2").tobytes())
    return path


def text_data(mine: Mine, folder: Path, text: bytes, **wishes: Any) -> Any:
    """A DataConfig of a text in bytes whose last tenth is held out: of a file below the folder,
    from lesson 19 on of a folder of shards."""
    if not mine.done("19-shards/corpus"):
        path = folder / "text.txt"
        path.write_bytes(text)
        return mine.DataConfig(path=str(path), **wishes)
    place, ids, cut = folder / "text", list(text), len(text) - len(text) // 10
    splits = {}
    for split, part in (("train", ids[:cut]), ("val", ids[cut:])):
        path = write_shard(place / f"text_{split}_000000.bin", part)
        splits[split] = {"shards": [{"file": path.name, "tokens": len(part)}]}
    manifest = json.dumps({"tokenizer": {"kind": "byte"}, "vocab_size": 257, "splits": splits})
    (place / "manifest.json").write_text(manifest, encoding="utf-8")
    return mine.DataConfig(path=str(place), **wishes)


def evaluation(mine: Mine, model: Any, corpus: Any) -> Any:
    """What their evaluate finds on this CPU."""
    return mine.evaluate(model, corpus, *on_cpu(mine))


@contextmanager
def small_trainer(
    mine: Mine, text: bytes, model: dict[str, Any], train: dict[str, Any], runtime: Any = None
) -> Iterator[Any]:
    """Their Trainer of a small model on a text, by the values of the two sections."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        recipe = mine.Recipe(
            model=mine.ModelConfig(**model),
            data=text_data(mine, Path(folder), text),
            train=mine.TrainConfig(**train),
        )
        yield trainer(mine, recipe, runtime=runtime)


def acting(runtime: Any, methods: dict[str, Callable[..., Any]], **places: Any) -> Any:
    """Their Runtime with some methods and fields replaced."""
    kind = type("Acting", (type(runtime),), methods)
    fields = {field.name: getattr(runtime, field.name) for field in dataclasses.fields(runtime)}
    return kind(**(fields | places))


@contextmanager
def recipe_folder(
    mine: Mine, text: bytes, model: dict[str, Any], train: dict[str, Any]
) -> Iterator[Path]:
    """A folder with a text and its recipe, tiny.toml, for the commands of lessons 25 and later."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data = text_data(mine, place, text)
        lines = ["[model]", *(f"{key} = {value}" for key, value in model.items())]
        lines += ["[train]", *(f"{key} = {value}" for key, value in train.items())]
        lines += ["[data]", f"path = '{Path(data.path).as_posix()}'"]
        lines += [f"tokenizer = '{data.tokenizer}'"]
        lines += ["[runtime]", "device = 'cpu'", "dtype = 'fp32'"]
        (place / "tiny.toml").write_text("\n".join(lines), encoding="utf-8")
        yield place


def run_recipe(mine: Mine, place: Path, *words: str) -> tuple[int, str]:
    """Train the recipe of such a folder into its runs/, by their command with these words; returns
    its exit status and all that it said."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        start = [str(place / "tiny.toml"), "--runs", str(place / "runs")]
        return mine.main([*start, *words]), said.getvalue()


def command(mine: Mine, text: bytes, *settings: str) -> tuple[int, str, str]:
    """Run their command once, on a text and a small model, with these words after --set; returns
    its exit status and what it said on stdout and stderr."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        place, known = Path(name), mine.ModelConfig()
        recipe = place / "small.toml"
        recipe.write_text("", encoding="utf-8")
        sizes = {"context": 8, "layers": 1, "heads": 2, "width": 16}
        wishes = [f"model.{key}={size}" for key, size in sizes.items() if hasattr(known, key)]
        wishes += [f"data.path={Path(text_data(mine, place, text).path).as_posix()}"]
        wishes += ["train.tokens_per_step=64", *settings]
        words = [str(recipe), *(word for wish in wishes for word in ("--set", wish))]
        if mine.done("14-resume/restore"):
            words += ["--runs", str(place / "runs")]
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = mine.main(words)
    said = out.getvalue().replace("    | ", "")  # samples are marked so from lesson 26 on
    return status or 0, said, err.getvalue()


def top_level(path: Path) -> set[str]:
    """The classes and functions that a file defines; none where it is no Python."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError):
        return set()
    kinds = (ast.ClassDef, ast.FunctionDef)
    found = {node.name for node in body if isinstance(node, kinds)}
    for node in body:
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        # What comes from a folder below; a file beside is looked through itself.
        elif isinstance(node, ast.ImportFrom) and node.level and "." in (node.module or ""):
            found |= {name.asname or name.name for name in node.names}
    return found
