"""Save, find, load, resume. A checkpoint is whole or does not exist, and holds no pickle.

runs/NAME/checkpoints/step_000500/
    model.safetensors       weights under the plain module's names
    optimizer.safetensors   "parameter/exp_avg" and so on; not there for imported weights
    state.json              step, tokens, elapsed seconds, fp16's loss scale, versions
    complete.json           sizes and SHA-256 of the others; written last

Why a resumed run ends in the same bits: what a step reads and draws follows from its number
(data.Batches, Trainer.reseed), all else that it depends on is in here (weights, AdamW's moments,
loss scale), and ranks add up their gradients in one fixed layout (runtime.Replica.settle).
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .config import Recipe, UserError, load_recipe, sha256, write_text
from .model import GPT
from .modern import build
from .tokenizer import Tokenizer, load_tokenizer

COMPLETE = "complete.json"


def save_checkpoint(
    run: Path,
    step: int,
    model: dict[str, Tensor],
    optimizer: dict[str, Tensor],
    state: dict[str, Any],
    keep: int = 0,
) -> Path:
    """Write checkpoints/step_N: into a temporary folder, onto the disk, then renamed.

    Afterwards all but the `keep` newest are deleted (0 keeps every one). Raises OSError when the
    disk is full, leaving the earlier checkpoints as they were.
    """
    folder = run / "checkpoints" / f"step_{step:06d}"
    with appearing(folder) as temporary:
        save_tensors(temporary / "model.safetensors", model)
        if optimizer:
            save_tensors(temporary / "optimizer.safetensors", optimizer)
        write_text(temporary / "state.json", json.dumps({"step": step} | state) + "\n")
        seal(temporary)
    for old in find_checkpoints(run)[:-keep] if keep else []:
        remove_checkpoint(old)
    return folder


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A temporary folder to be filled, which then gets this name, or nothing if that fails."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a process that was killed
    try:
        temporary.mkdir(parents=True)
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)  # only ever an incomplete checkpoint
        temporary.replace(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def save_tensors(
    path: Path, tensors: dict[str, Tensor], note: dict[str, str] | None = None
) -> None:
    """A safetensors file, on the disk when this returns; `note` goes into its header."""
    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path, note)
    except SafetensorError as error:  # the library's word for any failure to write
        raise OSError(f"cannot write {path}: {error}") from None
    sync(path)


def seal(folder: Path) -> None:
    """Write complete.json, the promise that the other files are whole."""
    files = sorted(folder.iterdir())
    promised = {f.name: {"bytes": f.stat().st_size, "sha256": sha256(f)} for f in files}
    write_text(folder / COMPLETE, json.dumps(promised) + "\n")
    sync(folder)


def sync(path: Path) -> None:
    """Wait until a file or a folder's entries are on the disk (Windows cannot, for folders)."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_checkpoint(folder: Path) -> None:
    """Delete a checkpoint; the promise first, so that a half-deleted one is no checkpoint."""
    (folder / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def sweep(run: Path) -> None:
    """Delete what a save, a copy or a deletion has left half done when it was cut off."""
    for folder in [*(run / "checkpoints").glob("step_*"), *(run / "checkpoints").glob(".step_*")]:
        if (folder.is_dir() and not (folder / COMPLETE).exists()) or folder.suffix == ".tmp":
            shutil.rmtree(folder, ignore_errors=True)


def find_checkpoints(run: Path) -> list[Path]:
    """The run's complete checkpoints, oldest first; one with a file missing or cut is none."""
    folders = (run / "checkpoints").glob("step_*")
    whole = [f for f in folders if re.fullmatch(r"step_\d+", f.name) and is_complete(f)]
    return sorted(whole, key=step_of)


def step_of(folder: Path) -> int:
    """The step in a checkpoint's name."""
    return int(folder.name.removeprefix("step_"))


def read_promise(folder: Path) -> dict[str, Any]:
    """What complete.json promises: the files' sizes and SHA-256."""
    return json.loads((folder / COMPLETE).read_text(encoding="utf-8"))


def is_complete(folder: Path) -> bool:
    """Whether complete.json is there and every file has the size that it promises."""
    try:
        promised = read_promise(folder)
        right = [(folder / n).stat().st_size == p["bytes"] for n, p in promised.items()]
        return all(right) and "model.safetensors" in promised
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def choose_checkpoint(run: Path, step: int | None = None) -> Path:
    """The newest complete checkpoint, or that of a step; UserError if there is none."""
    there = find_checkpoints(run)
    found = [folder for folder in there if step in (None, step_of(folder))]
    if not found:
        which = "complete checkpoint" if step is None else f"complete checkpoint of step {step}"
        others = ", ".join(str(step_of(folder)) for folder in there)
        hint = f"; it has those of: {others}" if others else ""
        raise UserError(f"{run} has no {which}{hint}")
    return found[-1]


def is_promised(folder: Path, name: str) -> bool:
    """Whether a checkpoint has this file; UserError if its SHA-256 is not the promised one."""
    promised = read_promise(folder)
    if name in promised and sha256(folder / name) != promised[name]["sha256"]:
        raise UserError(
            f"{folder / name} was changed or damaged since it was saved; delete {folder.name}"
            " to use the checkpoint before it"
        )
    return name in promised


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """A checkpoint's tensors; none if it has no such file."""
    return load_file(folder / name) if is_promised(folder, name) else {}


def read_state(folder: Path) -> dict[str, Any]:
    """A checkpoint's state.json."""
    if not is_promised(folder, "state.json"):
        raise UserError(f"{folder} has no state.json; delete it to use the checkpoint before it")
    return json.loads((folder / "state.json").read_text(encoding="utf-8"))


def find_run(name: str, runs: Path) -> Path:
    """A run's folder: the path if there is one, else runs/NAME; UserError if neither exists."""
    for folder in (Path(name), runs / name):
        if (folder / "recipe.toml").is_file():
            return folder
    known = sorted(path.parent.name for path in runs.glob("*/recipe.toml"))
    hint = f"{runs} has: {', '.join(known)}" if known else "train one with: buildgpt demo"
    raise UserError(f"there is no run {name!r}; {hint}")


@dataclass(frozen=True)
class Run:
    """A trained model, ready to be used, and where it comes from."""

    folder: Path
    recipe: Recipe
    tokenizer: Tokenizer
    model: GPT
    step: int


def load_run(folder: Path, step: int | None = None, device: str | torch.device = "cpu") -> Run:
    """Load a run's newest checkpoint, or that of a step, for evaluation and sampling."""
    recipe = load_recipe(folder / "recipe.toml")
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    if tokenizer.vocab_size != recipe.model.vocab_size:
        raise UserError(
            f"{folder}/tokenizer.json has {tokenizer.vocab_size} ids, the model"
            f" {recipe.model.vocab_size}: it is not this run's tokenizer"
        )
    checkpoint = choose_checkpoint(folder, step)
    model = build(recipe.model, recipe.modern)
    load_weights(model, read_tensors(checkpoint, "model.safetensors"), str(checkpoint))
    return Run(folder, recipe, tokenizer, model.to(device).eval(), step_of(checkpoint))


def load_weights(model: GPT, tensors: dict[str, Tensor], source: str) -> None:
    """Copy weights by name; UserError names the first that is missing, foreign or misshapen."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in sorted(shapes.keys() | wanted.keys()):
        if shapes.get(name) != wanted.get(name):
            found, needed = (table.get(name, "nothing") for table in (shapes, wanted))
            raise UserError(f"{source} does not fit the model: {name} is {found}, not {needed}")
    model.load_state_dict(tensors)
