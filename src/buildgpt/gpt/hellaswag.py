"""HellaSwag (Zellers et al. 2019): does the model find the ending that was really written?

Completion style, as build-nanogpt measures it: each of four endings, a space before it, follows
the context, and its tokens alone are scored. Its lowest score is what the model chooses.
Shapes: N items, R rows (endings), T time, C channels, M scored tokens, V vocabulary.
"""

import json
import lzma
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from .config import UserError, require
from .model import GPT
from .runtime import Runtime
from .tokenizer import Tokenizer

GROUP = 32  # items whose contexts are computed together
# Endings that are: the fewer, the less filling up; but a GPU is not busy with few.
ROWS, ROWS_ON_CPU = 32, 8
SPREAD = 2  # tokens by which the contexts of a group may differ in length
SCORED = 128  # tokens whose logits are in memory at once: more are slower on a CPU


@dataclass(frozen=True)
class Item:
    """A context, four endings, and which of them is right."""

    context: str
    endings: tuple[str, ...]
    label: int


@dataclass(frozen=True)
class HellaSwag:
    """The shares of items answered right; NaN if the model's losses are."""

    acc: float  # by the smallest summed loss of an ending's tokens
    acc_norm: float  # by the smallest mean loss
    items: int
    cut: int  # items longer than the model's context

    def standard_error(self, share: float) -> float:
        """How far a share among so many items would scatter by chance: the binomial's."""
        return math.sqrt(share * (1 - share) / self.items)


@dataclass(frozen=True)
class Spelt:
    """An item in ids that fits the model's context."""

    context: list[int]
    endings: list[list[int]]
    cut: bool


@dataclass(frozen=True)
class Row:
    """An ending that goes on from what its group's contexts share.

    The last len(targets) of `ids` predict the targets. `place`: 4 * (item in the group) + ending.
    """

    place: int
    ids: list[int]
    targets: list[int]


def read_hellaswag(path: Path, limit: int = 0) -> list[Item]:
    """The items of hellaswag_val.jsonl, packed as .xz or not; with a limit only the first ones.

    Raises UserError where there is no such file, or for a line of it that is no item.
    """
    require(limit >= 0, f"limit = {limit} must not be negative; 0 takes all items")
    items: list[Item] = []
    try:
        with (lzma.open if path.suffix == ".xz" else open)(path, "rb") as file:
            items += (parse(line) for line in islice(file, limit or None))
    except OSError as error:
        raise UserError(f"cannot read HellaSwag's items from {path}: {error.strerror}") from None
    except (ValueError, EOFError, lzma.LZMAError):
        raise UserError(
            f"{path}, line {len(items) + 1} is no item of HellaSwag (ctx, four endings, label):"
            " the file is damaged or another one; get it again with: buildgpt prepare hellaswag"
        ) from None
    if not items:
        raise UserError(f"{path} is empty; get it again with: buildgpt prepare hellaswag")
    return items


def parse(line: bytes) -> Item:
    """A line of the file. Raises ValueError if it is no item."""
    match json.loads(line):
        case {"ctx": str(context), "endings": [str(), str(), str(), str()] as endings, **rest}:
            label = int(str(rest.get("label")))  # the hub's copy has it as a string
            if label in range(4):
                return Item(context, tuple(endings), label)
    raise ValueError


def hellaswag(
    model: GPT,
    tokenizer: Tokenizer,
    items: list[Item],
    runtime: Runtime,
    progress: Callable[[int, int], object] = lambda done, share: None,
) -> HellaSwag:
    """Let the model choose; all ranks share the work and get the same result, in every bit.

    The plain module is evaluated, never a compiled one. `progress` hears how many items of its
    share this rank has done. Raises UserError if the tokenizer cannot spell an item.
    """
    spelt = [spell(item, tokenizer, model.config.context) for item in items]
    sums = summed_losses(model, spelt, runtime, progress)
    lengths = torch.tensor([[len(ending) for ending in item.endings] for item in spelt])
    labels = torch.tensor([item.label for item in items])
    cut = sum(item.cut for item in spelt)
    return HellaSwag(share(sums, labels), share(sums / lengths, labels), len(items), cut)


def share(losses: Tensor, labels: Tensor) -> float:
    """How often (N, 4) losses are lowest at the label; of equals the first counts."""
    right = (losses.argmin(dim=1) == labels).double()
    return float(right.mean()) if losses.isfinite().all() else math.nan


def spell(item: Item, tokenizer: Tokenizer, context: int) -> Spelt:
    """An item in ids. One that is too long loses the beginning of what stands before its endings.

    The last token of an ending is never read, so that T + 1 tokens fit a context of T. At least
    one token stays before the endings; of an ending longer than T the first T count.
    """
    try:
        before = tokenizer.encode(item.context) or [tokenizer.end_of_text]
        endings = [tokenizer.encode(" " + ending) for ending in item.endings]
    except UserError as error:
        raise UserError(f"this model cannot read HellaSwag: {error}") from None
    room = max(1, context + 1 - max(map(len, endings)))
    fits = len(before) <= room and max(map(len, endings)) <= context
    return Spelt(before[-room:], [ending[:context] for ending in endings], not fits)


@torch.no_grad()
def summed_losses(
    model: GPT, items: list[Spelt], runtime: Runtime, progress: Callable[[int, int], object]
) -> Tensor:
    """The summed loss of each ending, (N, 4) float64 on the CPU, on every rank.

    Which items are computed together does not depend on the ranks, and each has one rank.
    """
    sums = torch.zeros(len(items), 4, dtype=torch.float64)
    mine = groups(items)[runtime.rank :: runtime.world_size]
    done, was_training = 0, model.training
    model.eval()
    with runtime.autocast():  # once around all: it casts each weight once
        for group in mine:
            sums[group] = score(model, [items[i] for i in group], runtime)
            done += len(group)
            progress(done, sum(map(len, mine)))
    model.train(was_training)
    return runtime.sum(sums)


def groups(items: list[Spelt]) -> list[list[int]]:
    """Indices of items to compute together, contexts of about the same length, the longest first.

    So that what does not fit into memory fails at once, and the time left is not underestimated.
    """
    found: list[list[int]] = []
    lengths = [len(item.context) for item in items]
    for i in sorted(range(len(items)), key=lengths.__getitem__, reverse=True):
        if not found or len(found[-1]) == GROUP or lengths[i] < lengths[found[-1][0]] - SPREAD:
            found.append([])
        found[-1].append(i)
    return found


def score(model: GPT, group: list[Spelt], runtime: Runtime) -> Tensor:
    """The summed loss of each ending of a group, (N, 4) float64 on the CPU.

    What stands before the endings is computed once: up to the last token of the shortest context,
    so that no padding comes between. The rest goes before each ending. Endings of like length
    are computed together; what fills the shorter ones up stands after them, where no token looks.
    """
    shared = min(len(item.context) for item in group) - 1
    cache = model.new_cache(shared)
    if shared:
        (ids,) = runtime.send(torch.tensor([item.context[:shared] for item in group]))
        model.hidden(ids, cache)
    rows = [
        Row(4 * i + j, item.context[shared:] + ending[:-1], ending)
        for i, item in enumerate(group)
        for j, ending in enumerate(item.endings)
    ]
    rows.sort(key=lambda row: len(row.ids))
    sums = torch.zeros(len(rows), dtype=torch.float64)
    at_once = ROWS_ON_CPU if runtime.device.type == "cpu" else ROWS
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        sums[[row.place for row in some]] = ending_losses(model, some, cache, runtime)
    return sums.view(len(group), 4)


def ending_losses(model: GPT, rows: list[Row], cache: list, runtime: Runtime) -> Tensor:
    """The summed loss of each row, (R,) float64 on the CPU."""
    longest = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in rows])  # (R, T)
    scored = torch.tensor(
        [
            i * longest + t
            for i, row in enumerate(rows)
            for t in range(len(row.ids) - len(row.targets), len(row.ids))
        ]
    )
    targets = torch.tensor([target for row in rows for target in row.targets])
    items = torch.tensor([row.place // 4 for row in rows])
    ids, scored, targets, items = runtime.send(ids, scored, targets, items)
    hidden = model.hidden(ids, [part.select(items, longest) for part in cache])
    losses = token_losses(model, hidden.flatten(0, 1)[scored], targets)
    return torch.stack([part.sum() for part in losses.split([len(row.targets) for row in rows])])


def token_losses(model: GPT, hidden: Tensor, targets: Tensor) -> Tensor:
    """(M, C) and (M,) -> the cross-entropy of each target in nats, (M,) float64 on the CPU."""
    parts = [
        F.cross_entropy(model.logits(some), wanted, reduction="none")
        for some, wanted in zip(hidden.split(SCORED), targets.split(SCORED))
    ]
    return torch.cat(parts).cpu().double()
