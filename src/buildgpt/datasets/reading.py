"""Files to bounded tasks of text: what is a document, which split it belongs to, where to cut.

A task is what one process of the pool turns into ids at a time: some documents, or a part of one.
The main process only moves bytes; what costs time, such as parsing JSON, happens in the pool.
"""

import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from buildgpt.core import Core

TEXT_SUFFIXES = (".txt", ".md")
RECORD_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
SUFFIXES = TEXT_SUFFIXES + RECORD_SUFFIXES
BLOCK = 1 << 20  # characters or bytes of a task, more or less
ROWS = 128  # of a parquet file in a task: web pages have some 5 kB each
NO_PYARROW = "reading {} needs pyarrow: pip install 'buildgpt[reproduce]'"

Part = tuple[str, bool, str]  # a split, whether a document begins here, and text


@dataclass(frozen=True)
class Draw:
    """Which documents are held out: the first `first` ones, and of the others a share.

    Whether one of the others is depends on its text alone, so copies stay together. The one after
    the first is never held out: neither split is empty.
    """

    first: int = 1
    share: float = 0.1

    def split(self, number: int, text: str) -> str:
        """The split of the corpus's document `number`."""
        if number <= self.first:
            return "val" if number < self.first else "train"
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        return "val" if int.from_bytes(digest) < self.share * 2**64 else "train"


@dataclass(frozen=True)
class Task:
    """Some text. `position` counts the input's bytes up to its end, to show progress."""

    position: int

    def parts(self, core: Core) -> Iterator[Part]:
        """Its documents, or its part of one."""
        raise NotImplementedError


@dataclass(frozen=True)
class Text(Task):
    """A part of one document."""

    split: str
    begins: bool
    text: str

    def parts(self, core: Core) -> Iterator[Part]:
        yield self.split, self.begins, self.text


@dataclass(frozen=True)
class Records(Task):
    """Several documents in a row, of which `number` is the first one's in the corpus."""

    path: Path
    column: str
    draw: Draw
    number: int
    data: bytes

    def parts(self, core: Core) -> Iterator[Part]:
        for number, text in enumerate(self.texts(core), start=self.number):
            if text is not None and not isinstance(text, str):
                kind = type(text).__name__
                self.refuse(core, f"holds {kind} where {self.column!r} should be text")
            yield self.draw.split(number, text or ""), True, text or ""

    def texts(self, core: Core) -> Iterator[Any]:
        """Each record's text, None where there is none."""
        raise NotImplementedError

    def refuse(self, core: Core, reason: str) -> None:
        """Raise UserError for what this file holds."""
        raise core.config.UserError(f"{self.path} {reason}")


@dataclass(frozen=True)
class Lines(Records):
    """Lines of a .jsonl file, one JSON object each."""

    line: int  # of the file, which comes first

    def texts(self, core: Core) -> Iterator[Any]:
        for line, text in enumerate(self.data.split(b"\n"), start=self.line):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
                yield record[self.column]
            except ValueError:
                self.refuse(core, f"is damaged: line {line} is no JSON")
            except (KeyError, TypeError):
                names = ", ".join(record) if isinstance(record, dict) else "none"
                self.refuse(
                    core,
                    f"has no field {self.column!r} in line {line}; name another with --column,"
                    f" of: {names}",
                )


@dataclass(frozen=True)
class Rows(Records):
    """Rows of a parquet file, their text column alone, as Arrow writes it to a stream."""

    done: int  # rows of the file up to the end of these

    def texts(self, core: Core) -> Iterator[Any]:
        import pyarrow as pa

        with pa.ipc.open_stream(self.data) as stream:
            for batch in stream:
                yield from batch.column(0).to_pylist()


def read_blocks(core: Core, path: Path) -> Iterator[tuple[str, int]]:
    """A text file's characters, with the bytes read so far; UserError if it is empty or no text."""
    empty = True
    try:
        # Without a byte order mark, and with all line ends made "\n".
        with path.open("rb") as file, io.TextIOWrapper(file, encoding="utf-8-sig") as characters:
            while text := characters.read(BLOCK):
                if "\0" in text:
                    raise UnicodeDecodeError("utf-8", b"\0", 0, 1, "no text")
                empty = empty and not text.strip()
                yield text, file.tell()
    except UnicodeDecodeError:
        raise core.config.UserError(f"{path} is not UTF-8 text; give a text file") from None
    except OSError as error:
        raise core.config.UserError(f"cannot read {path}: {error.strerror}") from None
    if empty:
        raise core.config.UserError(f"{path} is empty; give a file with text in it")


def last_border(text: str, start: int) -> int:
    """The last place after `start` where white space follows something else; 0 if there is none.

    No tokenizer of this project has a piece across it. In all their patterns white space stands
    at a chunk's beginning or fills it: there a chunk ends whatever follows, and the next one
    starts with the same characters as in the whole text.
    """
    for place in range(len(text) - 1, start, -1):
        if text[place] in " \n" and not text[place - 1].isspace():
            return place
    return 0


def cut_text(blocks: Iterator[tuple[str, int]], split: str, base: int = 0) -> Iterator[Text]:
    """One document, in parts whose ids, joined, are those of the whole text.

    A text without white space stays in one piece, whatever its size.
    """
    held, begins, position = "", True, base
    for text, read in blocks:
        known, held, position = len(held), held + text, base + read
        if place := last_border(held, max(known - 1, 0)):
            yield Text(position, split, begins, held[:place])
            held, begins = held[place:], False
    yield Text(position, split, begins, held)


def between(
    blocks: Iterator[tuple[str, int]], start: int, stop: int | None
) -> Iterator[tuple[str, int]]:
    """The characters [start, stop) of what the blocks hold together."""
    at = 0
    for text, read in blocks:
        part = text[max(start - at, 0) : None if stop is None else max(stop - at, 0)]
        at += len(text)
        if part:
            yield part, read
        if stop is not None and at >= stop:
            return


def suffix(path: Path) -> str:
    """The one of SUFFIXES that a file's name ends with; "" for any other."""
    name = path.name.lower()
    return next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s)), "")


def read_records(
    core: Core, path: Path, column: str, draw: Draw, number: int, base: int = 0
) -> Iterator[Records]:
    """The tasks of a file of records, the corpus's documents from `number` on."""
    if suffix(path) == ".parquet":
        return read_rows(core, path, column, draw, number, base)
    return read_lines(core, path, column, draw, number, base)


def read_lines(
    core: Core, path: Path, column: str, draw: Draw, number: int, base: int = 0
) -> Iterator[Lines]:
    """Whole lines of a .jsonl file, packed or not."""
    held, line = b"", 1
    try:
        with path.open("rb") as file:
            unpacked = unpack(core, path, file)
            while data := unpacked.read(BLOCK):
                whole, newline, rest = data.rpartition(b"\n")
                if not newline:
                    held += data
                    continue
                lines = held + whole
                yield Lines(base + file.tell(), path, column, draw, number, lines, line)
                line += lines.count(b"\n") + 1
                number += sum(1 for text in lines.split(b"\n") if text.strip())
                held = rest
            yield Lines(base + file.tell(), path, column, draw, number, held, line)
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise core.config.UserError(f"cannot read {path}: {reason}") from None


def unpack(core: Core, path: Path, file: BinaryIO) -> Any:
    """The file's bytes as they were before they were packed, by the name's suffix."""
    if suffix(path) == ".jsonl.gz":
        return gzip.GzipFile(fileobj=file)
    if suffix(path) == ".jsonl.zst":
        return import_pyarrow(core, path).CompressedInputStream(file, "zstd")
    return file


def import_pyarrow(core: Core, path: Path) -> Any:
    """pyarrow; UserError with the command that installs it where there is none."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise core.config.UserError(NO_PYARROW.format(path)) from None
    return pyarrow


def read_rows(
    core: Core, path: Path, column: str, draw: Draw, number: int, base: int = 0, done: int = 0
) -> Iterator[Rows]:
    """A parquet file's text column from row `done` on, few rows at a time."""
    pa = import_pyarrow(core, path)
    try:
        with pa.parquet.ParquetFile(path, buffer_size=BLOCK) as file:
            if column not in file.schema_arrow.names:
                names = ", ".join(file.schema_arrow.names)
                raise core.config.UserError(
                    f"{path} has no column {column!r}; name another with --column, of: {names}"
                )
            size, first, rows = path.stat().st_size, number - done, file.metadata.num_rows
            at = 0
            for group in range(file.num_row_groups):
                in_group = file.metadata.row_group(group).num_rows
                if at + in_group <= done:  # skipped without a look
                    at += in_group
                    continue
                for batch in file.iter_batches(ROWS, [group], [column], use_threads=False):
                    at += len(batch)
                    if at > done:
                        yield Rows(
                            base + size * at // rows,
                            path,
                            column,
                            draw,
                            first + at - len(batch),
                            to_stream(pa, batch),
                            at,
                        )
    except (OSError, pa.ArrowException) as error:
        raise core.config.UserError(f"cannot read {path}: {str(error).splitlines()[0]}") from None


def to_stream(pa: Any, batch: Any) -> bytes:
    """A batch of rows as bytes."""
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue()
