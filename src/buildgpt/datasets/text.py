"""Your own text, in files and folders, or the bundled Shakespeare, turned into shards."""

import json
import lzma
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildgpt.core import Core

from .progress import Progress
from .reading import (
    SUFFIXES,
    TEXT_SUFFIXES,
    Draw,
    Task,
    between,
    cut_text,
    read_blocks,
    read_records,
    suffix,
)

KINDS = ("char", "byte", "bpe", "gpt2")
SHAKESPEARE = Path(__file__).parent / "shakespeare.jsonl.xz"
PAIRS_FROM = 10_000_000  # characters of the training split: byte pairs are learnt in memory


@dataclass(frozen=True)
class Document:
    """A text, or where to read it, and the split that it belongs to."""

    name: str
    split: str
    path: Path | None = None
    content: str = ""
    start: int = 0  # the part of the text that counts, in characters
    stop: int | None = None

    def tasks(self, core: Core, base: int) -> Iterator[Task]:
        """The text in parts; `base` counts the bytes of the documents before."""
        blocks = read_blocks(core, self.path) if self.path else iter([(self.content, 0)])
        return cut_text(between(blocks, self.start, self.stop), self.split, base)

    def size(self) -> int:
        """Bytes on the disk; those of a file in two parts count once, with its last part."""
        return self.path.stat().st_size if self.path and self.stop is None else 0


@dataclass(frozen=True)
class RecordFile:
    """A file of many documents: .jsonl, packed or not, or .parquet."""

    path: Path
    column: str
    draw: Draw

    def tasks(self, core: Core, base: int, number: int) -> Iterator[Any]:
        """Its documents, the corpus's from `number` on."""
        return read_records(core, self.path, self.column, self.draw, number, base)

    def size(self) -> int:
        """Bytes on the disk."""
        return self.path.stat().st_size


Source = Document | RecordFile


def shakespeare() -> list[Document]:
    """The bundled works; whole plays are held out for validation."""
    with lzma.open(SHAKESPEARE, "rt", encoding="utf-8") as lines:
        works = [json.loads(line) for line in lines]
    return [Document(work["title"], work["split"], content=work["text"]) for work in works]


def own_documents(
    core: Core, sources: list[Path], val_fraction: float, column: str = "text"
) -> list[Source]:
    """What the files hold, with a part held out: the last part of a single text, else whole
    documents. Raises UserError for what cannot be read or held out."""
    core.config.require(0 < val_fraction < 1, "--val-fraction must be above 0 and below 1")
    files = list(dict.fromkeys(f for source in sources for f in find_files(core, source)))
    records = [f for f in files if suffix(f) not in ("", *TEXT_SUFFIXES)]
    texts = [f for f in files if f not in set(records)]
    if len(files) == 1 and texts:
        return divide_text(core, texts[0], val_fraction)
    held_out = hold_out(texts, val_fraction) if len(texts) > 1 else set()
    documents = [Document(str(f), "val" if f in held_out else "train", f) for f in texts]
    draw = Draw(0 if held_out else 1, val_fraction)
    return [*documents, *(RecordFile(f, column, draw) for f in records)]


def divide_text(core: Core, path: Path, val_fraction: float) -> list[Source]:
    """The two parts of a single text, the last one held out."""
    characters = sum(len(text) for text, _ in read_blocks(core, path))
    cut = int(characters * (1 - val_fraction))
    if cut == 0:
        raise core.config.UserError(f"{path} is too short to hold a part out; give more text")
    parts = (("train", 0, cut), ("val", cut, None))
    return [Document(path.name, s, path, start=start, stop=stop) for s, start, stop in parts]


def find_files(core: Core, source: Path) -> list[Path]:
    """The file itself, or all files below a folder that may hold text, in name order."""
    if source.is_dir():
        files = [
            p for p in sorted(source.rglob("*")) if is_text(p.relative_to(source)) and p.is_file()
        ]
        if files:
            return files
        raise core.config.UserError(
            f"{source} holds no {', '.join(SUFFIXES[:-1])} or .parquet file"
        )
    if not source.is_file():
        raise core.config.UsageError(f"there is no file or folder {source}")
    return [source]


def is_text(path: Path) -> bool:
    """Whether a path below a folder ends like a text and is not hidden."""
    return suffix(path) != "" and not any(part.startswith(".") for part in path.parts)


def hold_out(files: list[Path], val_fraction: float) -> set[Path]:
    """Whole files, drawn with a fixed seed, that make up about the fraction of all bytes."""
    sizes = {file: file.stat().st_size for file in files}
    wanted = val_fraction * sum(sizes.values())
    held: set[Path] = set()
    for file in random.Random(1337).sample(files, len(files) - 1):  # one is left for training
        if sizes[file] / 2 <= wanted:  # nearer to the fraction with it than without
            held.add(file)
            wanted -= sizes[file]
    return held or {min(files, key=sizes.__getitem__)}


def all_tasks(core: Core, sources: list[Source]) -> Iterator[Task]:
    """Everything, in order, in tasks of bounded size."""
    base = number = 0
    for source in sources:
        if isinstance(source, Document):
            yield from source.tasks(core, base)
        else:
            yield from source.tasks(core, base, number)
            number = source.draw.first + 1  # in later files none is among the first
        base += source.size()


def all_texts(core: Core, sources: list[Source], split: str = "") -> Iterator[str]:
    """The texts alone, of one split or of both."""
    for task in all_tasks(core, sources):
        for of, _, text in task.parts(core):
            if split in ("", of):
                yield text


def choose_tokenizer(core: Core, kind: str, sources: list[Source], vocab_size: int) -> Any:
    """A tokenizer of the kind; characters are those of all documents, pairs come from the first
    10 million characters of train."""
    core.config.require_choice("--tokenizer", kind, KINDS)
    if kind == "char":
        characters: set[str] = set()
        for text in all_texts(core, sources):
            characters.update(text)
        return core.tokenizer.CharTokenizer(characters)
    if kind == "bpe":
        core.data.check_vocabulary(vocab_size)
        text = first_characters(all_texts(core, sources, "train"), PAIRS_FROM)
        return core.tokenizer.BytePairTokenizer.train(text, vocab_size)
    return core.tokenizer.build_tokenizer({"kind": kind})


def first_characters(texts: Iterator[str], count: int) -> str:
    """The texts joined, no more than so many characters of them."""
    parts: list[str] = []
    for text in texts:
        parts.append(text[:count])
        count -= len(parts[-1])
        if not count:
            break
    return "".join(parts)


def write_shards(
    core: Core, sources: list[Source], tokenizer: Any, out: Path, processes: int = 0
) -> dict[str, Any]:
    """Encode everything into `out`, which appears whole or not at all; returns the manifest's
    splits. Each document is opened by an end of text, as in the public shards."""
    core.data.check_vocabulary(tokenizer.vocab_size)
    temporary = work_folder(out)
    shutil.rmtree(temporary.parent, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        splits, empty = fill(core, sources, tokenizer, temporary, processes)
        core.data.write_manifest(temporary, tokenizer, splits, empty_documents=empty)
        temporary.rename(out)
    except OSError as error:
        raise core.config.UserError(f"cannot write {out}: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary.parent, ignore_errors=True)
    return splits


def work_folder(out: Path, kind: str = "") -> Path:
    """Where `out` is made, under the same name, as its shards are named after it."""
    return out.parent / f".{out.name}{kind}.tmp" / out.name


def fill(
    core: Core, sources: list[Source], tokenizer: Any, folder: Path, processes: int
) -> tuple[dict[str, Any], int]:
    """Write the shards of both splits; returns the manifest's splits and the empty documents."""
    from .encoding import encode_all

    writers = {split: core.data.ShardWriter(folder, split) for split in core.data.SPLITS}
    empty, size = 0, sum(source.size() for source in sources)
    encoded = encode_all(core, all_tasks(core, sources), tokenizer, processes)
    with closing(encoded), Progress("encoding", size, "B") as progress:
        for task, done in encoded:
            for split, ids in done.ids.items():
                writers[split].add(ids, done.documents[split])
            empty += done.empty
            progress.to(task.position)
    splits = {split: writer.close() for split, writer in writers.items()}
    for split, part in splits.items():
        if not part["tokens"]:
            raise core.config.UserError(
                f"the {split} split came out empty; give more documents, or another --val-fraction"
            )
    return splits, empty


def prepare(
    core: Core,
    sources: list[Path],
    out: Path,
    kind: str = "char",
    val_fraction: float = 0.1,
    vocab_size: int = 1024,
    column: str = "text",
    processes: int = 0,
) -> dict[str, Any]:
    """Turn files of text into a folder of shards; returns what it holds. Raises UserError.

    The source `shakespeare`, unless a file of that name exists, is the bundled corpus. What comes
    out does not depend on the number of processes (0: one a core, none for little text).
    """
    if out.exists():
        raise core.config.UsageError(f"{out} exists already; choose another --out or delete it")
    bundled = [str(s) for s in sources] == ["shakespeare"] and not sources[0].exists()
    parts: list[Source]
    parts = [*shakespeare()] if bundled else own_documents(core, sources, val_fraction, column)
    tokenizer = choose_tokenizer(core, kind, parts, vocab_size)
    splits = write_shards(core, parts, tokenizer, out, processes)
    return summary(out, tokenizer.vocab_size, splits)


def summary(out: Path, vocab_size: int, splits: dict[str, Any]) -> dict[str, Any]:
    """What a folder of shards holds, for who asked for it."""
    documents = sum(part["documents"] for part in splits.values())
    tokens = {f"{split}_tokens": part["tokens"] for split, part in splits.items()}
    return {"out": str(out), "documents": documents, "vocab_size": vocab_size} | tokens
