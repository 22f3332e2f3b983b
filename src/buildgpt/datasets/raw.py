"""A public corpus's raw text, in parquet files, encoded here; an interruption costs seconds."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

from buildgpt.core import Core

from .download import fetch
from .encoding import Encoded, encode_all
from .hub import Remote, authorization, list_files, require_space
from .progress import Progress
from .reading import Draw, Rows, import_pyarrow, read_rows
from .text import work_folder

VAL_DOCUMENTS = 50_000  # some 50M tokens; a validation takes the first 10,485,760
BYTES_A_TOKEN = 3.0  # of a packed file, roughly: 28 GB hold 10B tokens
SAVE_EVERY = 10.0  # seconds of encoding that an interruption may cost


def encode_raw(
    core: Core, name: str, repository: str, pattern: str, out: Path, wanted: int, processes: int
) -> dict[str, Any]:
    """Download raw files one after another and encode them; returns the manifest's splits.

    The first 50,000 documents are the validation split, whatever else is asked for. A journal says
    what is done: after an interruption the work goes on there and ends in the same bytes.
    """
    folder = work_folder(out, ".raw")
    import_pyarrow(core, Path(repository))
    offline = f"prepare parquet files that you have: buildgpt prepare FILES --out {out}"
    files = list_files(core, repository, pattern, offline)
    if not files:
        raise core.config.UserError(f"{repository} has no {pattern} any more")
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(core, folder, files[0].revision)
    most = sum(file.size for file in files) / BYTES_A_TOKEN
    wanted = wanted or round(10 * most)  # more than there is: all
    packed = 2 * max(file.size for file in files)  # one that is encoded, one that comes
    needed = packed + 2 * min(wanted, most) - journal.bytes_done()
    require_space(core, f"{name} --raw", folder, needed)
    with closing(RawFiles(core, files, folder, offline)) as raw:
        encode_files(core, raw, journal, wanted, min(wanted, most), processes)
    splits = {split: writer.close() for split, writer in journal.writers.items()}
    source = {"repository": repository, "revision": files[0].revision}
    complete = {"complete": journal.file == len(files)}
    more = {"source": source | complete, "empty_documents": journal.empty}
    core.data.write_manifest(folder, core.tokenizer.GPT2Tokenizer(), splits, **more)
    kept = {shard["file"] for part in splits.values() for shard in part["shards"]}
    kept |= {"manifest.json", journal.path.name}
    for path in set(folder.iterdir()) - {folder / name for name in kept}:
        path.unlink()  # left by a process that was killed: a shard, or half of a journal
    folder.rename(out)
    (out / journal.path.name).unlink(missing_ok=True)
    shutil.rmtree(folder.parent, ignore_errors=True)
    return splits


class Journal:
    """How far the encoding is: rows done of which file, and the shards that they came to.

    It is written only after all that it speaks of is on the disk. What a killed process wrote
    after it is cut off again.
    """

    def __init__(self, core: Core, folder: Path, revision: str) -> None:
        self.core, self.path, self.revision = core, folder / "journal.json", revision
        self.writers = {split: core.data.ShardWriter(folder, split) for split in core.data.SPLITS}
        self.file = self.rows = self.empty = 0
        self.saved = monotonic()
        if self.path.exists():
            self.restore(json.loads(self.path.read_text(encoding="utf-8")))

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another process stopped."""
        if state["revision"] != self.revision:
            raise self.core.config.UserError(
                f"the corpus has changed since {self.path.parent} was begun; delete"
                f" {self.path.parent.parent} and begin again"
            )
        self.file, self.rows, self.empty = state["file"], state["rows"], state["empty"]
        for split, writer in self.writers.items():
            for shard in state[split]["shards"]:
                self.core.data.open_shard(self.path.parent / shard["file"])
            writer.restore(state[split])

    def bytes_done(self) -> int:
        """What the shards already take on the disk."""
        return sum(2 * tokens_of(writer) for writer in self.writers.values())

    def save(self) -> None:
        """Put everything onto the disk, then say so."""
        state = {"revision": self.revision, "file": self.file, "rows": self.rows}
        state |= {"empty": self.empty}
        state |= {split: writer.save() for split, writer in self.writers.items()}
        self.core.config.write_text(self.path, json.dumps(state) + "\n")
        self.saved = monotonic()

    def add(self, task: Any, done: Encoded) -> None:
        """Take in what some rows came to; saved now and then."""
        for split, ids in done.ids.items():
            self.writers[split].add(ids, done.documents[split])
        self.rows, self.empty = task.done, self.empty + done.empty
        if monotonic() - self.saved >= SAVE_EVERY:
            self.save()

    def next_file(self) -> None:
        """The file is done."""
        self.file, self.rows = self.file + 1, 0
        self.save()


def tokens_of(writer: Any) -> int:
    """All that a ShardWriter has been given so far."""
    return writer.tokens + sum(shard["tokens"] for shard in writer.shards)


class RawFiles:
    """The raw files, downloaded when they are wanted; the next one comes while one is encoded."""

    def __init__(self, core: Core, files: list[Remote], folder: Path, offline: str) -> None:
        self.core, self.files, self.folder, self.offline = core, files, folder, offline
        self.pool = ThreadPoolExecutor(1)
        self.coming: dict[int, Future[Path]] = {}
        self.stopped = False

    def path(self, index: int) -> Path:
        """Where a file lies while it is needed."""
        return self.folder.parent / "raw" / Path(self.files[index].name).name

    def order(self, index: int) -> None:
        """See to it that a file comes."""
        if index < len(self.files) and index not in self.coming:
            self.coming[index] = self.pool.submit(self.download, index)

    def download(self, index: int) -> Path:
        """Download a file unless it is there."""
        file, path = self.files[index], self.path(index)
        if path.exists():
            return path
        with Progress(file.name, file.size, "B") as progress:
            self.progress = progress
            headers, advance = authorization(), self.advance
            return fetch(
                file.url, path, file.sha256, self.core, file.size, headers, advance, self.offline
            )

    def advance(self, count: int) -> None:
        """Some more has come; ends the download if nobody waits for it any more."""
        self.progress.stopped = self.stopped
        self.progress.add(count)

    def get(self, index: int, more: bool) -> Path:
        """A file, once it is here; `more` if the next one will be wanted, too."""
        self.order(index)
        path = self.coming[index].result()
        if more:
            self.order(index + 1)
        return path

    def close(self) -> None:
        """Stop what is still coming; what came so far is kept for the next time."""
        self.stopped = True
        self.pool.shutdown(cancel_futures=True)


def encode_files(
    core: Core, raw: RawFiles, journal: Journal, wanted: int, likely: float, processes: int
) -> None:
    """Encode file after file until as many tokens are there as are wanted, or all there are."""
    tokenizer, train = core.tokenizer.GPT2Tokenizer(), journal.writers["train"]
    with Progress("encoding", likely, "tokens") as progress:
        progress.add(tokens_of(train), skipped=True)
        while tokens_of(train) < wanted and journal.file < len(raw.files):
            missing = (wanted - tokens_of(train)) * BYTES_A_TOKEN
            path = raw.get(journal.file, more=missing > raw.files[journal.file].size)
            encoded = encode_all(core, rows_of(core, path, journal), tokenizer, processes)
            with closing(encoded):
                for task, done in encoded:
                    journal.add(task, done)
                    progress.to(tokens_of(train))
                    if tokens_of(train) >= wanted:
                        return
            journal.next_file()
            path.unlink()


def rows_of(core: Core, path: Path, journal: Journal) -> Iterator[Rows]:
    """A file's documents that are not done yet; those of later files are all to train on."""
    number = journal.rows + (VAL_DOCUMENTS + 1 if journal.file else 0)
    draw = Draw(VAL_DOCUMENTS, 0.0)
    return read_rows(core, path, "text", draw, number, done=journal.rows)
