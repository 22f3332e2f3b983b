"""What every verb does, for the command line and for Python alike."""

import dataclasses
import difflib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .core import Core, load_core
from .datasets import download, text
from .datasets.download import local_folder
from .profiling import profiled

RECIPES = Path(__file__).parent / "recipes"
RUNS = Path("runs")


@dataclass(frozen=True)
class Loaded:
    """A trained model that can be asked: what `buildgpt.load` returns."""

    core: Core
    source: str
    model: Any
    tokenizer: Any
    recipe: Any
    step: int

    @cached_property
    def decoder(self) -> Any:
        """The model in the form that decodes fastest, in the dtype of training; a learner's own
        as it is, so that it is their code that runs."""
        from .decoding import for_decoding

        if not self.core.is_ours:
            return self.model.eval()
        runtime, device = self.core.runtime, self.model.token_embedding.weight.device
        dtype, _ = runtime.choose_dtype(self.recipe.runtime.dtype, device)
        return for_decoding(self.model, dtype)

    def decoder_for(self, sampling: Any) -> Any:
        """The decoder, ready for so many samples side by side."""
        from .decoding import FEW_ROWS, pack_for_few

        if self.core.is_ours and sampling.samples <= FEW_ROWS:
            pack_for_few(self.decoder)
        return self.decoder

    def sampling(self, **wishes: Any) -> Any:
        """max_tokens, temperature, top_k, top_p, seed, samples, checked."""
        return self.core.generate.Sampling(**wishes)

    def generate(self, prompt: str = "", **wishes: Any) -> str:
        """The prompt and its continuation."""
        return prompt + self.continuations(prompt, **wishes)[0]

    def continuations(self, prompt: str = "", **wishes: Any) -> list[str]:
        """Several continuations, `samples` of them."""
        sampling = self.sampling(**wishes)
        decoder = self.decoder_for(sampling)
        return self.core.generate.continue_text(decoder, self.tokenizer, prompt, sampling)

    def stream(self, prompt: str = "", **wishes: Any) -> Iterator[str]:
        """The continuation, piece by piece."""
        sampling = self.sampling(**wishes)
        decoder = self.decoder_for(sampling)
        return self.core.generate.stream_text(decoder, self.tokenizer, prompt, sampling)

    def evaluate(self, data: str | Path = "") -> Any:
        """The validation loss on a folder of shards, the run's own if none is given.

        Returns loss (nats a token), bits_per_byte, tokens. Raises UserError for another tokenizer.
        """
        core, config = self.core, self.recipe.data
        if data:
            config = core.config.DataConfig(path=str(data), tokenizer=self.tokenizer.kind)
        corpus = core.data.Corpus(config)
        if corpus.tokenizer.to_dict() != self.tokenizer.to_dict():
            raise core.config.UserError(
                f"{config.path} was made with another tokenizer than {self.source}; prepare the"
                " text again with the model's"
            )
        runtime = self.runtime()
        return core.evaluate.evaluate(self.model.to(runtime.device), corpus, runtime)

    def runtime(self) -> Any:
        """Where the model computes: on the device that it was trained on, if that is here."""
        device = str(device_for(self.core, self.recipe))
        config = dataclasses.replace(self.recipe.runtime, device=device)
        return self.core.runtime.start_runtime(config)

    def hellaswag(
        self,
        file: str | Path = "",
        limit: int = 0,
        progress: Callable[[int, int], object] = lambda done, items: None,
    ) -> Any:
        """HellaSwag on a file of items, or the recipe's, downloaded if it is not there.

        Returns acc, acc_norm, items, cut. Raises UserError for a tokenizer that cannot spell them.
        """
        core = self.core
        path = Path(file or self.recipe.data.hellaswag)
        if not file and not path.exists():
            path = download.provide_hellaswag(core)
        items, runtime = core.hellaswag.read_hellaswag(path, limit), self.runtime()
        # On a GPU the decoder is for single tokens.
        model = self.decoder if runtime.device.type == "cpu" else self.model
        return core.hellaswag.hellaswag(model, self.tokenizer, items, runtime, progress)


def load(
    source: str | Path, step: int | None = None, runs: Path = RUNS, core: Core | None = None
) -> Loaded:
    """A run, by folder or name, or a Hugging Face GPT-2 folder or hf:owner/name, ready for use.

    Raises UserError where there is none.
    """
    core = core or load_core()
    if str(source).startswith("hf:") or (Path(source) / "config.json").exists():
        model, tokenizer = core.hub.import_folder(local_folder(core, str(source)))
        recipe = imported_recipe(core, model)
        found = Loaded(core, str(source), model, tokenizer, recipe, 0)
    else:
        run = core.checkpoint.load_run(core.checkpoint.find_run(str(source), runs), step)
        found = Loaded(core, str(run.folder), run.model, run.tokenizer, run.recipe, run.step)
    found.model.to(device_for(core, found.recipe))
    return found


def device_for(core: Core, recipe: Any) -> Any:
    """The recipe's device, or the best one here: a model may be used where it was not trained."""
    try:
        return core.runtime.choose_device(recipe.runtime.device)
    except core.config.UsageError:
        return core.runtime.choose_device("auto")


def imported_recipe(core: Core, model: Any) -> Any:
    """A recipe for weights that came from elsewhere."""
    train = core.config.TrainConfig(tokens_per_step=model.config.context * 8)
    switches = core.modern.switches_of(model)
    return core.config.Recipe(model=model.config, modern=switches, train=train)


def import_run(source: str, name: str, runs: Path = RUNS, core: Core | None = None) -> Path:
    """Make a run of a Hugging Face GPT-2 folder or hf:owner/name. Returns the run's folder."""
    core = core or load_core()
    core.config.check_run_name(name)
    folder = runs / name
    if folder.exists():
        raise core.config.UsageError(f"{folder} exists; choose another name")
    model, tokenizer = core.hub.import_folder(local_folder(core, source))
    folder.mkdir(parents=True)
    try:
        fill_run(core, folder, source, model, tokenizer)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def fill_run(core: Core, folder: Path, source: str, model: Any, tokenizer: Any) -> None:
    """Write what a run of imported weights consists of."""
    tokenizer.save(folder / "tokenizer.json")
    state = {"tokens": 0, "seconds": 0.0, "imported_from": source}
    core.checkpoint.save_checkpoint(folder, 0, model.state_dict(), {}, state)
    core.config.write_text(folder / "state", "DONE\n")
    # Last, as this file makes the folder a run.
    recipe = imported_recipe(core, model)
    core.config.write_text(folder / "recipe.toml", core.config.to_toml(recipe))


def export_run(
    source: str,
    folder: Path,
    step: int | None = None,
    runs: Path = RUNS,
    core: Core | None = None,
) -> Path:
    """Write a run as a Hugging Face GPT-2 folder that `transformers` opens; a modern model's in a
    format of our own (core.hub). Returns the folder."""
    found = load(source, step, runs, core)
    found.core.hub.export_folder(found.model, found.tokenizer, folder)
    return folder


def find_recipe(core: Core, name: str | Path) -> Path:
    """A TOML file if there is one of that path, else the bundled recipe of that name."""
    if Path(name).is_file():
        return Path(name)
    bundled = {path.stem: path for path in sorted(RECIPES.glob("*.toml"))}
    if str(name) in bundled:
        return bundled[str(name)]
    # The first of equally near ones, which of GPT-2's sizes is the smallest.
    nearest = max(bundled, key=lambda b: difflib.SequenceMatcher(None, b, str(name)).ratio())
    raise core.config.UsageError(
        f"there is no recipe {str(name)!r}; the nearest is {nearest!r}, of: {', '.join(bundled)}"
    )


def provide_data(core: Core, recipe: Any) -> None:
    """Make the bundled Shakespeare's shards where the recipe wants them and they are not there;
    name the command that gets a public corpus."""
    path = Path(recipe.data.path)
    if path.name == "shakespeare" and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        text.prepare(core, [Path("shakespeare")], path)
    if path.name in ("fineweb-edu", "fineweb") and not path.exists():
        where = "" if path == Path("data") / path.name else f" --out {path}"
        raise core.config.UsageError(
            f"{path} is not there yet; get it with: buildgpt prepare {path.name}{where}"
        )


def train(
    recipe: str | Path,
    name: str = "",
    runs: Path = RUNS,
    settings: list[str] | None = None,
    resume: bool = False,
    core: Core | None = None,
    profile: int = 0,
) -> dict[str, Any]:
    """Train a bundled recipe or a TOML file in this process; returns the summary.

    `settings` are words such as "train.steps=20". With `profile`, so many steps are profiled, into
    runs/NAME/profile. Raises UserError.
    """
    core, started = core or load_core(), time.monotonic()
    path, settings, _ = ready(core, recipe, settings or [], Path(runs), name, resume)
    with profiled(core, profile):
        return core.train.train(path, name, Path(runs), settings, resume, started)


def ready(
    core: Core,
    recipe: str | Path,
    settings: list[str],
    runs: Path,
    name: str,
    resume: bool,
    ranks: int = 1,
) -> tuple[Path, list[str], Any]:
    """The recipe's file, the settings and what they come to (for a run that is resumed: with its
    own recipe), once all that the run needs from outside is here."""
    path = find_recipe(core, recipe)
    name = name or path.stem
    core.config.check_run_name(name)
    stored = runs / name / "recipe.toml"
    own = resume and stored.exists()
    wished = core.config.load_recipe(stored if own else path, settings)
    check_device(core, wished, ranks)
    provide_data(core, wished)
    if wished.train.hellaswag_every and wished.data.hellaswag == str(download.HELLASWAG):
        download.provide_hellaswag(core)
    source = wished.train.init_from
    if source.startswith("hf:"):
        settings = [*settings, f"train.init_from={local_folder(core, source)}"]
    return path, settings, wished


def check_device(core: Core, recipe: Any, ranks: int) -> None:
    """UsageError, before anything is fetched for it, where the recipe's GPUs are not here."""
    if recipe.runtime.device in ("auto", "cpu"):
        return
    if core.runtime.choose_device(recipe.runtime.device).type == "cuda":
        core.runtime.require_gpus(ranks)


def prepare(
    sources: list[str | Path],
    out: str | Path,
    tokenizer: str = "char",
    val_fraction: float = 0.1,
    vocab_size: int = 1024,
    column: str = "text",
    core: Core | None = None,
) -> dict[str, Any]:
    """Turn text files and folders into a folder of shards; returns what it holds."""
    paths = [Path(source) for source in sources]
    core = core or load_core()
    return text.prepare(core, paths, Path(out), tokenizer, val_fraction, vocab_size, column)


def prepare_corpus(
    name: str,
    out: str | Path = "",
    tokens: str = "",
    sample: bool = False,
    raw: bool = False,
    core: Core | None = None,
) -> dict[str, Any]:
    """Provide "fineweb-edu" or "fineweb" in `out`, data/NAME otherwise; returns what it holds.

    `tokens` is how many to train on, such as "10B"; `sample` takes 100M for a try. `raw` encodes
    the corpus's text here instead of downloading tokens.
    """
    from .datasets import corpora

    core = core or load_core()
    wanted = corpora.parse_tokens(core, tokens) if tokens else 0
    return corpora.prepare(core, name, Path(out or f"data/{name}"), wanted, sample, raw)
