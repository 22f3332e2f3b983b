"""A run that has begun: by which recipe it goes on, and what must be as it was."""

import dataclasses
from pathlib import Path
from typing import Any

from .config import Recipe, UserError, load_recipe, require, to_toml, write_text
from .data import Corpus
from .runlog import finished_summary, read_metrics, read_state, write_state
from .tokenizer import Tokenizer, load_tokenizer

# A resumed run must stay the same run, so these may not change.
FIXED_KEYS = (
    *("model.", "modern.", "data.tokenizer", "data.align", "data.noise", "train.seed"),
    *("train.tokens_per_step", "train.double_at", "train.optimizer", "train.normuon"),
    "train.init_from",
)


def find_recipe(folder: Path, path: Path, overrides: list[str] | None) -> Recipe:
    """The run's own recipe, if it has begun, else that of the path; with the overrides.

    Raises UsageError if one of those would make it another run.
    """
    own = folder / "recipe.toml"
    if not own.exists():
        return load_recipe(path, overrides)
    recipe = load_recipe(own, overrides)
    before = dataclasses.asdict(load_recipe(own))
    for section, values in dataclasses.asdict(recipe).items():
        for key, value in values.items():
            fixed = f"{section}.{key}".startswith(FIXED_KEYS)
            require(
                not fixed or value == before[section][key],
                f"{section}.{key} cannot change in a run; start another with --name",
            )
    return recipe


def summary_of_finished(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """The summary of a run that is done, if the recipe asks for no more than it did then."""
    trained = (folder / "metrics.jsonl").exists()  # not so where weights were imported
    done = trained and read_state(folder) == "DONE"
    return (
        finished_summary(folder) if done and recipe == load_recipe(folder / "recipe.toml") else {}
    )


def earlier_threads(folder: Path, ranks: int) -> int:
    """How many threads the run's latest attempt on a CPU and so many ranks had; 0 if none."""
    for line in reversed(read_metrics(folder)):
        if (line.get("device"), line.get("ranks")) == ("cpu", ranks):
            return line["threads"]
    return 0


def check_tokenizer(folder: Path, corpus: Corpus) -> None:
    """Refuse data of another tokenizer than the run began with."""
    stored = folder / "tokenizer.json"
    if stored.exists() and load_tokenizer(stored).to_dict() != corpus.tokenizer.to_dict():
        raise UserError(f"{corpus.folder} was made with another tokenizer than {folder}")


def check_state(state: dict[str, Any], recipe: Recipe, corpus: Corpus, folder: Path) -> None:
    """Refuse a checkpoint that a run cannot go on from: imported, done, of another corpus."""
    require(
        "imported_from" not in state,
        f"{folder.name} holds imported weights: train with train.init_from={folder.name}",
    )
    require(
        state["step"] <= recipe.train.steps,
        f"train.steps = {recipe.train.steps:,}, but {folder} has done {state['step']:,} already;"
        " give more, or another --name",
    )
    if len(corpus.train) != state["corpus_tokens"]:
        raise UserError(
            f"{corpus.folder} holds {len(corpus.train):,} tokens, but this run was trained on"
            f" {state['corpus_tokens']:,}; give data.path the same corpus"
        )


def open_folder(folder: Path, recipe: Recipe, tokenizer: Tokenizer) -> None:
    """Write the run's tokenizer, state and recipe; the recipe, which makes it a run, last."""
    tokenizer.save(folder / "tokenizer.json")
    write_state(folder, "RUNNING")
    write_text(folder / "recipe.toml", to_toml(recipe))
