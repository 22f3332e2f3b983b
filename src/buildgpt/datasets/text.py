"""Text files, folders of them and the bundled Shakespeare, turned into shards of tokens."""

import json
import lzma
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildgpt.core import Core

TEXT_SUFFIXES = (".txt", ".md")
KINDS = ("char", "byte", "bpe", "gpt2")
SHAKESPEARE = Path(__file__).parent / "shakespeare.jsonl.xz"


@dataclass(frozen=True)
class Document:
    """A text, or where to read it, and the split that it belongs to."""

    name: str
    split: str
    path: Path | None = None
    content: str = ""
    start: int = 0  # the part of the text that counts, in characters
    stop: int | None = None

    def text(self, core: Core) -> str:
        """The text itself, read from disk if need be."""
        whole = self.content if self.path is None else read_text(core, self.path)
        return whole[self.start : self.stop]


def shakespeare() -> list[Document]:
    """The bundled works; whole plays are held out for validation."""
    with lzma.open(SHAKESPEARE, "rt", encoding="utf-8") as lines:
        works = [json.loads(line) for line in lines]
    return [Document(work["title"], work["split"], content=work["text"]) for work in works]


def own_documents(core: Core, sources: list[Path], val_fraction: float) -> list[Document]:
    """One document a file, with a part held out: the last part of one, whole ones of many."""
    core.config.require(0 < val_fraction < 1, "--val-fraction must be above 0 and below 1")
    files = list(dict.fromkeys(f for source in sources for f in find_files(core, source)))
    if len(files) == 1:
        cut = int(len(read_text(core, files[0])) * (1 - val_fraction))
        if cut == 0:
            raise core.config.UserError(
                f"{files[0]} is too short to hold a part out; give more text"
            )
        parts = (("train", 0, cut), ("val", cut, None))
        return [
            Document(files[0].name, split, files[0], start=start, stop=stop)
            for split, start, stop in parts
        ]
    held_out = hold_out(files, val_fraction)
    return [Document(str(f), "val" if f in held_out else "train", f) for f in files]


def find_files(core: Core, source: Path) -> list[Path]:
    """The file itself, or all text files below a folder, in name order."""
    if source.is_dir():
        files = [
            p for p in sorted(source.rglob("*")) if is_text(p.relative_to(source)) and p.is_file()
        ]
        if files:
            return files
        raise core.config.UserError(f"{source} holds no .txt or .md file")
    if not source.is_file():
        raise core.config.UsageError(f"there is no file or folder {source}")
    return [source]


def is_text(path: Path) -> bool:
    """Whether a path below a folder ends like a text and is not hidden."""
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in TEXT_SUFFIXES and not hidden


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


def read_text(core: Core, path: Path) -> str:
    """A file's text; UserError if it is empty or no UTF-8 text."""
    try:
        text = path.read_text(encoding="utf-8-sig")  # without a byte order mark
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        raise core.config.UserError(f"cannot read {path}: {error.strerror}") from None
    if "\0" in text:
        raise core.config.UserError(f"{path} is not UTF-8 text; give a text file")
    if not text.strip():
        raise core.config.UserError(f"{path} is empty; give a file with text in it")
    return text


def choose_tokenizer(core: Core, kind: str, documents: list[Document], vocab_size: int) -> Any:
    """A tokenizer of the kind; characters are those of all documents, pairs come from train."""
    core.config.require_choice("--tokenizer", kind, KINDS)
    if kind == "char":
        return core.tokenizer.CharTokenizer({c for d in documents for c in set(d.text(core))})
    if kind == "bpe":
        core.data.check_vocabulary(vocab_size)
        text = "".join(d.text(core) for d in documents if d.split == "train")
        return core.tokenizer.BytePairTokenizer.train(text, vocab_size)
    return core.tokenizer.build_tokenizer({"kind": kind})


def write_shards(
    core: Core, documents: list[Document], tokenizer: Any, out: Path
) -> dict[str, Any]:
    """Encode every document into `out`, which appears whole or not at all; returns the manifest's
    splits. Each document is opened by an end of text, as in the public shards."""
    core.data.check_vocabulary(tokenizer.vocab_size)
    temporary = out.parent / f".{out.name}.tmp" / out.name
    shutil.rmtree(temporary.parent, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        writers = {split: core.data.ShardWriter(temporary, split) for split in core.data.SPLITS}
        for document in documents:
            ids = [tokenizer.end_of_text, *tokenizer.encode(document.text(core))]
            writers[document.split].add(ids)
        splits = {split: writer.close() for split, writer in writers.items()}
        core.data.write_manifest(temporary, tokenizer, splits)
        temporary.rename(out)
    except OSError as error:
        raise core.config.UserError(f"cannot write {out}: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary.parent, ignore_errors=True)
    return splits


def prepare(
    core: Core,
    sources: list[Path],
    out: Path,
    kind: str = "char",
    val_fraction: float = 0.1,
    vocab_size: int = 1024,
) -> dict[str, Any]:
    """Turn text files into a folder of shards; returns what it holds. Raises UserError.

    The source `shakespeare`, unless a file of that name exists, is the bundled corpus.
    """
    if out.exists():
        raise core.config.UsageError(f"{out} exists already; choose another --out or delete it")
    bundled = [str(s) for s in sources] == ["shakespeare"] and not sources[0].exists()
    documents = shakespeare() if bundled else own_documents(core, sources, val_fraction)
    tokenizer = choose_tokenizer(core, kind, documents, vocab_size)
    splits = write_shards(core, documents, tokenizer, out)
    tokens = {split: part["tokens"] for split, part in splits.items()}
    return {"out": str(out), "documents": len(documents), "vocab_size": tokenizer.vocab_size} | {
        f"{split}_tokens": count for split, count in tokens.items()
    }
