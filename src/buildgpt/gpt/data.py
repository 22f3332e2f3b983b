"""Ids to shards on disk, and from there to batches (x, y), by pure arithmetic from the step.

Shapes: B sequences, T tokens of context. The stream of a split is all its shards in name order,
as one sequence of tokens; sequence i is tokens [i*T, i*T + T], T inputs and their T targets, or
begins with a document.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from io import BufferedRandom
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .config import DataConfig, UserError, require, write_text
from .tokenizer import Tokenizer, build_tokenizer

# The layout of llm.c's and build-nanogpt's successors' public shards: 256 little-endian int32,
# of which three are used, then the tokens as little-endian uint16.
MAGIC, VERSION, HEADER_BYTES = 20240520, 1, 256 * 4
TOKEN = np.dtype("<u2")
LARGEST_VOCABULARY = 65536
SPLITS = ("train", "val")


def check_vocabulary(vocab_size: int) -> None:
    """Raise UsageError for a vocabulary whose ids do not fit into uint16."""
    require(
        vocab_size <= LARGEST_VOCABULARY,
        f"a vocabulary of {vocab_size:,} does not fit into shards, which hold ids below"
        f" {LARGEST_VOCABULARY:,}; choose a smaller one or another tokenizer",
    )


def header(tokens: int) -> bytes:
    """The first 1024 bytes of a shard."""
    return np.array([MAGIC, VERSION, tokens] + [0] * 253, dtype="<i4").tobytes()


def open_shard(path: Path) -> np.ndarray:
    """Map a shard's tokens, uint16, without reading them; UserError if it is foreign or cut."""
    try:
        first = np.fromfile(path, dtype="<i4", count=3)
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read the shard {path}: {error.strerror}") from None
    if size < HEADER_BYTES or first[0] != MAGIC or first[1] != VERSION:
        raise UserError(f"{path} is not a shard of tokens; make shards with: buildgpt prepare")
    tokens = int(first[2])
    promised = HEADER_BYTES + tokens * TOKEN.itemsize
    if size != promised:
        raise UserError(
            f"{path} promises {tokens:,} tokens in {promised:,} bytes but is {size:,} bytes long;"
            " make it again"
        )
    if tokens == 0:
        return np.empty(0, TOKEN)  # nothing to map
    return np.memmap(path, dtype=TOKEN, mode="r", offset=HEADER_BYTES, shape=(tokens,))


class ShardWriter:
    """Write the tokens of one split into shards of a given size; each appears whole or not at all.

    A shard grows in a hidden file beside, so that memory stays small whatever its size.
    `shards` lists what is finished, as the manifest wants it.
    """

    def __init__(self, folder: Path, split: str, shard_tokens: int = 100_000_000) -> None:
        self.folder, self.split, self.shard_tokens = folder, split, shard_tokens
        self.shards: list[dict[str, Any]] = []
        self.documents = 0
        self.growing: BufferedRandom | None = None
        self.tokens = 0  # in the shard that grows

    @property
    def paths(self) -> tuple[Path, Path]:
        """Of the shard that grows: its file once it is whole, and until then."""
        path = self.folder / f"{self.folder.name}_{self.split}_{len(self.shards):06d}.bin"
        return path, path.with_name(f".{path.name}.part")

    def add(self, ids: Sequence[int] | np.ndarray, documents: int = 1) -> None:
        """Append the ids of whole documents or of a part; they may cross into the next shard."""
        self.documents += documents
        tokens = np.asarray(ids, dtype=TOKEN)
        while self.tokens + len(tokens) >= self.shard_tokens:
            room = self.shard_tokens - self.tokens
            self.append(tokens[:room])
            tokens = tokens[room:]
            self.flush()
        if len(tokens):
            self.append(tokens)

    def append(self, tokens: np.ndarray) -> None:
        """Let the shard grow; its header is written when its number of tokens is known."""
        if self.growing is None:
            self.growing = self.paths[1].open("w+b")
            self.growing.seek(HEADER_BYTES)
        self.growing.write(tokens.tobytes())
        self.tokens += len(tokens)

    def flush(self) -> None:
        """Finish the shard that grows: its header, all of it onto the disk, its name."""
        self.append(np.empty(0, TOKEN))  # so that there is a file
        assert self.growing
        with self.growing as file:
            file.seek(0)
            file.write(header(self.tokens))
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        path, part = self.paths
        part.replace(path)
        self.shards.append({"file": path.name, "tokens": self.tokens, "sha256": digest})
        self.growing, self.tokens = None, 0

    def save(self) -> dict[str, Any]:
        """Put all that was added onto the disk; returns what `restore` needs to go on from here."""
        if self.growing:
            self.growing.flush()
            os.fsync(self.growing.fileno())
        return {"shards": [*self.shards], "documents": self.documents, "tokens": self.tokens}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `save` returned in a process that died; what came later is forgotten."""
        self.shards, self.documents = state["shards"], state["documents"]
        path, part = self.paths
        if path.exists():  # finished after the state was saved
            path.replace(part)
        if state["tokens"]:
            size = HEADER_BYTES + state["tokens"] * TOKEN.itemsize
            if not part.exists() or part.stat().st_size < size:
                raise UserError(f"{part} is damaged; delete {self.folder} and begin again")
            self.growing, self.tokens = part.open("r+b"), state["tokens"]
            self.growing.truncate(size)
            self.growing.seek(size)

    def close(self) -> dict[str, Any]:
        """Write the last shard; returns this split's part of the manifest."""
        if self.tokens or not self.shards:
            self.flush()
        total = sum(shard["tokens"] for shard in self.shards)
        return {"tokens": total, "documents": self.documents, "shards": self.shards}


def write_manifest(folder: Path, tokenizer: Tokenizer, splits: dict[str, Any], **more: Any) -> None:
    """Written last: a folder of shards without a manifest of ours was not finished."""
    described = {"tokenizer": tokenizer.to_dict(), "vocab_size": tokenizer.vocab_size}
    write_text(folder / "manifest.json", json.dumps(described | {"splits": splits} | more) + "\n")


class Stream:
    """The shards of one split, in name order, as one sequence of tokens."""

    def __init__(self, paths: Sequence[Path], vocab_size: int) -> None:
        self.paths, self.vocab_size = list(paths), vocab_size
        self.shards = [open_shard(path) for path in paths]
        self.ends = np.cumsum([len(shard) for shard in self.shards], dtype=np.int64)

    def __len__(self) -> int:
        """How many tokens there are."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop), uint16, across ends of shards; UserError if one is too large."""
        parts = []
        while start < stop:
            index = int(np.searchsorted(self.ends, start, side="right"))
            base = int(self.ends[index]) - len(self.shards[index])
            end = min(stop, int(self.ends[index]))
            parts.append(self.shards[index][start - base : end - base])
            self.check(parts[-1], self.paths[index])
            start = end
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, TOKEN), *parts])

    def check(self, tokens: np.ndarray, path: Path) -> None:
        """Refuse ids that the tokenizer does not have: these shards were made with another one."""
        if tokens.max() >= self.vocab_size:
            raise UserError(
                f"{path} holds the id {tokens.max()}, outside the vocabulary of {self.vocab_size};"
                " it was made with another tokenizer"
            )


def starts_of_documents(stream: Stream, opening: int, context: int) -> np.ndarray:
    """Where sequences begin that each begin with a document: with its opening id.

    The first document's start, then again and again the first one after the sequence so far; what
    is left of the document that was cut there is not read. Two billion tokens are gone through in a
    second, so no index of documents has to be kept beside the shards.
    """
    ends = zip(stream.shards, stream.ends)
    found = [np.flatnonzero(shard == opening) + end - len(shard) for shard, end in ends]
    documents = np.concatenate([np.empty(0, np.int64), *found])
    following = np.searchsorted(documents, documents + context)
    chosen, document, last = [], 0, len(stream) - context - 1
    while document < len(documents) and documents[document] <= last:
        chosen.append(document)
        document = following[document]
    if not chosen:
        raise UserError(
            f"no document of the training split begins {context + 1:,} tokens or more before its"
            ' end; set data.align = "none"'
        )
    return documents[chosen]


class Batches:
    """(x, y) for any stretch of the endless order: epoch after epoch, each one reshuffled.

    What a position of the order holds depends on these arguments alone. So every
    rank and every restart finds its sequences by arithmetic, and each is read once an epoch.
    The tokens after the last whole sequence are never read, nor those between sequences that all
    begin with a document, which is with the id `opening`; `dropped` counts them. If it `shifts`,
    the sequences of each epoch after the first begin some tokens later, fewer than T: a small
    text that is read often is cut at other places each time, and less of it is learnt by heart.
    A share `noise` of what is read is replaced by other tokens of the stream; the targets are not.
    """

    def __init__(
        self,
        stream: Stream,
        context: int,
        seed: int,
        opening: int | None = None,
        shifts: bool = False,
        noise: float = 0.0,
    ) -> None:
        self.stream, self.context, self.seed, self.noise = stream, context, seed, noise
        self.starts: Sequence[int] | np.ndarray = range(0, len(stream) - context, context)
        self.orders: dict[int, np.ndarray] = {}
        self.chance = np.random.RandomState(0)  # seeding one is far faster than making one
        if not self.starts:
            raise UserError(
                f"the training split holds {len(stream):,} tokens, fewer than the {context + 1:,}"
                " of one sequence; give more text or a smaller model.context"
            )
        if opening is not None:
            self.starts = starts_of_documents(stream, opening, context)
        if shifts:  # as many as fit wherever they begin
            self.starts = self.starts[: max(1, len(stream) // context - 1)]
        self.sequences = len(self.starts)
        room = len(stream) - self.sequences * context
        self.shifts = min(context, room) if shifts else 1
        self.dropped = len(stream) - 1 - self.sequences * context

    def order(self, epoch: int) -> np.ndarray:
        """A permutation of the sequences, by the generator that numpy promises never to change."""
        if epoch not in self.orders:
            shuffled = np.random.RandomState([self.seed, epoch]).permutation(self.sequences)
            self.orders = {epoch: shuffled}
        return self.orders[epoch]

    def sequence(self, position: int) -> int:
        """Which sequence stands at a position of the endless order."""
        epoch, index = divmod(position, self.sequences)
        return int(self.order(epoch)[index])

    def start(self, position: int) -> int:
        """Which token of the stream is the first one at a position of the endless order."""
        return int(self.starts[self.sequence(position)]) + self.shift(position // self.sequences)

    def shift(self, epoch: int) -> int:
        """How many tokens later the sequences of an epoch begin."""
        if epoch == 0 or self.shifts == 1:
            return 0
        return int(np.random.RandomState([self.seed, epoch, 1]).randint(self.shifts))

    def __call__(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """Positions [first, first + count): inputs and targets, both (count, T) int64."""
        starts = [self.start(p) for p in range(first, first + count)]
        tokens = np.stack([self.stream.read(s, s + self.context + 1) for s in starts])
        both = torch.from_numpy(tokens.astype(np.int64))
        x, y = both[:, :-1], both[:, 1:]  # the target of each token is the token after it
        if self.noise:
            x = torch.stack([self.replace(ids, first + row) for row, ids in enumerate(x)])
        return x, y

    def replace(self, ids: Tensor, position: int) -> Tensor:
        """Some of a position's ids (T,), by chance, give way to those of any place of the stream.

        So a model cannot rely on any single token before it, and what it learns is smoothed as
        n-gram counts are (unigram noising; Xie et al. 2017).
        """
        self.chance.seed([self.seed, position, 2])
        start = self.chance.randint(len(self.stream) - self.context)
        others = self.stream.read(start, start + self.context).astype(np.int64)
        hit = torch.from_numpy(self.chance.random_sample(self.context) < self.noise)
        return torch.where(hit, torch.from_numpy(others), ids)


class Corpus:
    """A folder of shards: the tokenizer that made them and a stream for each split."""

    def __init__(self, config: DataConfig) -> None:
        self.folder = Path(config.path)
        require(config.path != "", "data.path is empty; make shards with: buildgpt prepare FILES")
        require(
            self.folder.is_dir(),
            f"data.path = {config.path!r} is no folder; make one with: buildgpt prepare FILES"
            f" --out {config.path}",
        )
        self.manifest = read_manifest(self.folder)
        self.tokenizer = self.find_tokenizer(config)
        # With which id every sequence begins, if they do.
        self.opening = self.tokenizer.end_of_text if config.align == "documents" else None
        self.shifts = config.align == "shifted"
        self.train, self.val = (self.stream(split) for split in SPLITS)
        self.val_tokens = min(config.val_tokens or len(self.val), len(self.val))
        if self.val_tokens < 2:
            raise UserError(
                f"the validation split of {self.folder} has {self.val_tokens} tokens to score, but"
                " a target needs a token before it; give more text or a larger data.val_tokens"
            )

    def find_tokenizer(self, config: DataConfig) -> Tokenizer:
        """The manifest's; for public shards, which have none, the one that the recipe names."""
        if self.manifest:
            source = f"{self.folder}/manifest.json"
            return build_tokenizer(self.manifest["tokenizer"], source)
        require(
            config.tokenizer in ("byte", "gpt2"),
            f"{self.folder} has no manifest.json to name its tokenizer;"
            ' set data.tokenizer = "gpt2" for shards made with GPT-2\'s',
        )
        return build_tokenizer({"kind": config.tokenizer})

    def stream(self, split: str) -> Stream:
        """The split's shards, which must be those of the manifest where there is one."""
        paths = [p for p in sorted(self.folder.glob("*.bin")) if split in p.stem.split("_")]
        if self.manifest:
            listed = self.manifest["splits"][split]["shards"]
            paths = [self.folder / shard["file"] for shard in listed]
        if not paths:
            raise UserError(
                f"{self.folder} holds no shard of the split {split!r},"
                f" such as NAME_{split}_000000.bin"
            )
        stream = Stream(paths, self.tokenizer.vocab_size)
        if self.manifest and [len(s) for s in stream.shards] != [s["tokens"] for s in listed]:
            raise UserError(
                f"{self.folder}/manifest.json disagrees with its shards; make them again"
            )
        return stream


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The folder's manifest.json, None if it has none; UserError if it is damaged."""
    path = folder / "manifest.json"
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for split in SPLITS:
            shards = manifest["splits"][split]["shards"]
            _ = [(folder / shard["file"], shard["tokens"]) for shard in shards]
        _ = manifest["tokenizer"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged; make the shards again") from None
    return manifest
