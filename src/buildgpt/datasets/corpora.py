"""Public corpora by name, FineWeb and FineWeb-Edu: as shards of GPT-2's tokens, or raw."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from buildgpt.core import Core

from .download import fetch, sha256_of, size_of
from .encoding import Encoded, encode_all
from .progress import Progress, readable
from .reading import Draw, Rows, import_pyarrow, read_rows
from .text import summary, work_folder
from .verify import describe

STREAMS = 4  # files that are downloaded at a time: one connection seldom fills a line
SHARD_HEADER = 1024  # bytes before a shard's tokens of two bytes each
DEFAULT_TOKENS = 10_000_000_000
SAMPLE_TOKENS = 100_000_000
RAW_VAL_DOCUMENTS = 50_000  # some 50M tokens; a validation takes the first 10,485,760
RAW_BYTES_A_TOKEN = 3.0  # of a packed file, roughly: 28 GB hold 10B tokens
SAVE_EVERY = 10.0  # seconds of encoding that an interruption may cost


@dataclass(frozen=True)
class Corpus:
    """Where a corpus lies on the hub: its shards by split and number, and its raw files."""

    name: str
    repository: str
    shards: str
    raw_repository: str
    raw_files: str = r"sample/10BT/\d+_\d+\.parquet"


CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            "fineweb",
            "kjj0/fineweb10B-gpt2",
            r"fineweb_(train|val)_\d{6}\.bin",
            "HuggingFaceFW/fineweb",
        ),
        Corpus(
            "fineweb-edu",
            "karpathy/fineweb-edu-100B-gpt2-token-shards",
            r"edu_fineweb_(train|val)_\d{6}\.bin",
            "HuggingFaceFW/fineweb-edu",
        ),
    )
}


@dataclass(frozen=True)
class Remote:
    """A file on the hub, at one commit of its repository."""

    repository: str
    revision: str
    name: str
    size: int
    sha256: str  # "" where the hub does not give one
    url: str

    @property
    def tokens(self) -> int:
        """Of a shard."""
        return (self.size - SHARD_HEADER) // 2


def parse_tokens(core: Core, words: str) -> int:
    """'10B', '350M', '1e9' or '1,000,000' -> how many tokens."""
    found = re.fullmatch(r"([\d.]+(?:e\d+)?)([kmb]?)", words.strip().lower().replace(",", ""))
    try:
        scale = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9}[found[2] if found else "none"]
        count = round(float(found[1] if found else "") * scale)
    except (KeyError, ValueError, OverflowError):
        count = 0
    core.config.require(count > 0, f"--tokens {words}: write it as 10B, 350M or 1e9")
    return count


def prepare(
    core: Core,
    name: str,
    out: Path,
    tokens: int = 0,
    sample: bool = False,
    raw: bool = False,
    processes: int = 0,
) -> dict[str, Any]:
    """Provide a public corpus as a folder of shards; returns what it holds. Raises UserError.

    `tokens` to train on, at least; if 0, 10B, or of raw text all there is. What is there already
    is not downloaded again: a prepare that was interrupted goes on, and a folder of downloaded
    shards grows when more are asked for.
    """
    corpus = CORPORA[name]
    wanted = tokens or (SAMPLE_TOKENS if sample else 0 if raw else DEFAULT_TOKENS)
    repository = corpus.raw_repository if raw else corpus.repository
    splits = held(core, out, repository, raw, wanted)
    if splits is None:
        out.parent.mkdir(parents=True, exist_ok=True)
        splits = make(core, corpus, out, raw, wanted, processes)
    return summary(out, core.tokenizer.GPT2Tokenizer().vocab_size, splits)


def make(
    core: Core, corpus: Corpus, out: Path, raw: bool, wanted: int, processes: int
) -> dict[str, Any]:
    """Download, and encode if it is raw; a full disk is told in one sentence."""
    try:
        if raw:
            return encode_raw(core, corpus, out, wanted, processes)
        return download_shards(core, corpus, out, wanted)
    except OSError as error:
        raise core.config.UserError(
            f"cannot write {out}: {error.strerror or error}; what is done is kept: mend that and"
            " run the same command again"
        ) from None


def held(core: Core, out: Path, repository: str, raw: bool, wanted: int) -> dict[str, Any] | None:
    """The splits of a folder that already holds all that is wanted; None if something is missing.

    Raises UsageError if it holds something else.
    """
    if not out.exists():
        return None
    manifest = core.data.read_manifest(out) if out.is_dir() else None
    source = (manifest or {}).get("source", {})
    if not manifest or source.get("repository") != repository:
        raise core.config.UsageError(
            f"{out} exists and is not made from {repository}; choose another --out or delete it"
        )
    splits = manifest["splits"]
    enough = source.get("complete") or splits["train"]["tokens"] >= (wanted or float("inf"))
    if enough and all(map(is_whole(out), all_shards(splits))):
        return splits
    if raw:
        raise core.config.UsageError(
            f"{out} holds {readable(splits['train']['tokens'], 'tokens')} to train on, or lacks"
            " some of them, and raw text cannot be added to; choose another --out or delete it"
        )
    return None


def all_shards(splits: dict[str, Any]) -> list[dict[str, Any]]:
    """A manifest's entries of both splits."""
    return [shard for part in splits.values() for shard in part["shards"]]


def is_whole(folder: Path) -> Any:
    """A function that tells whether a shard of the manifest is there, in its full size."""

    def check(shard: dict[str, Any]) -> bool:
        path = folder / shard["file"]
        return path.exists() and path.stat().st_size == SHARD_HEADER + 2 * shard["tokens"]

    return check


# The hub.


def list_files(core: Core, repository: str, pattern: str, offline: str) -> list[Remote]:
    """The files of a dataset whose names match, in name order, at its newest commit."""
    try:
        from huggingface_hub import HfApi, hf_hub_url
    except ImportError:
        raise core.config.UserError(
            "downloading needs huggingface_hub: pip install 'buildgpt[reproduce]'"
        ) from None
    try:
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
        revision = str(api.dataset_info(repository).sha)
        folder = pattern.rpartition("/")[0] or None
        tree = api.list_repo_tree(repository, folder, revision=revision, repo_type="dataset")
        files: list[Any] = [f for f in tree if re.fullmatch(pattern, f.path)]
    except Exception as problem:  # the library's errors for no network, no such name, no access
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise core.config.UserError(
            f"cannot reach {repository} on the hub: {reason}; without a network, {offline}"
        ) from None
    where = {"revision": revision, "repo_type": "dataset", "endpoint": api.endpoint}
    return [
        Remote(
            repository,
            revision,
            file.path,
            file.size,
            file.lfs.sha256 if file.lfs else "",
            hf_hub_url(repository, file.path, **where),
        )
        for file in sorted(files, key=lambda file: file.path)
    ]


def authorization() -> dict[str, str]:
    """The header that shows who asks, if the user is logged in to the hub."""
    from huggingface_hub import get_token

    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


def require_space(core: Core, what: str, folder: Path, needed: float) -> None:
    """Raise UserError if the disk that the folder is on has less free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise core.config.UserError(
            f"{what} needs {readable(needed, 'B')} in {folder}, where {readable(free, 'B')} are"
            " free; free some, ask for fewer --tokens, or choose another disk with --out"
        )


# Shards of tokens.


def download_shards(core: Core, corpus: Corpus, out: Path, wanted: int) -> dict[str, Any]:
    """Download the validation shard and as many training shards as are wanted; returns the
    manifest's splits. The manifest is written last."""
    offline = f"copy its {corpus.shards} files into {out} by hand; a recipe reads them as they are"
    offline = offline.replace(r"(train|val)_\d{6}\.bin", "*.bin")
    shards = choose_shards(core, corpus, wanted, offline)
    grows = (out / "manifest.json").exists()
    folder = out if grows else work_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    entries = fetch_shards(core, corpus, shards, folder, offline)
    splits = {
        split: gather([entries[s.name] for s in shards if f"_{split}_" in s.name])
        for split in core.data.SPLITS
    }
    source = {"repository": corpus.repository, "revision": shards[0].revision}
    core.data.write_manifest(folder, core.tokenizer.GPT2Tokenizer(), splits, source=source)
    if not grows:
        folder.rename(out)
        shutil.rmtree(folder.parent, ignore_errors=True)
    return splits


def choose_shards(core: Core, corpus: Corpus, wanted: int, offline: str) -> list[Remote]:
    """The first validation shard and the first training shards that hold as much as is wanted."""
    files = list_files(core, corpus.repository, corpus.shards, offline)
    train = [file for file in files if "_train_" in file.name]
    val = [file for file in files if "_val_" in file.name]
    total = sum(file.tokens for file in train)
    if not val or not train:
        raise core.config.UserError(
            f"{corpus.repository} has no files {corpus.shards} any more; try --raw"
        )
    core.config.require(
        wanted <= total,
        f"{corpus.name} has {readable(total, 'tokens')} to train on, fewer than"
        f" {readable(wanted, 'tokens')}; ask for fewer --tokens",
    )
    chosen: list[Remote] = []
    while sum(file.tokens for file in chosen) < wanted:
        chosen.append(train[len(chosen)])
    return [val[0], *chosen]


def fetch_shards(
    core: Core, corpus: Corpus, shards: list[Remote], folder: Path, offline: str
) -> dict[str, dict[str, Any]]:
    """Download what is missing, some at a time; returns the manifest's entry of each shard."""
    known = known_entries(core, folder)
    missing = [s for s in shards if not (folder / s.name).exists()]
    require_space(core, corpus.name, folder, sum(s.size for s in missing))
    vocab_size = core.tokenizer.GPT2Tokenizer().vocab_size
    headers = authorization()
    with Progress(corpus.name, sum(s.size for s in shards), "B") as progress:

        def provide(shard: Remote) -> dict[str, Any]:
            path, entry = folder / shard.name, known.get(shard.name)
            if entry and entry["sha256"] == shard.sha256:
                progress.add(shard.size, skipped=True)
                return entry
            if size_of(path) == shard.size and sha256_of(path) == shard.sha256:
                progress.add(shard.size, skipped=True)
                return describe(core, path, vocab_size)
            fetch(shard.url, path, shard.sha256, core, shard.size, headers, progress.add, offline)
            return describe(core, path, vocab_size)

        return dict(zip([s.name for s in shards], in_threads(provide, shards, progress)))


def known_entries(core: Core, folder: Path) -> dict[str, dict[str, Any]]:
    """What a manifest says of the shards that are there in full size."""
    manifest = core.data.read_manifest(folder)
    entries = all_shards(manifest["splits"]) if manifest else []
    return {shard["file"]: shard for shard in filter(is_whole(folder), entries)}


def in_threads(provide: Any, shards: list[Remote], progress: Progress) -> list[Any]:
    """Call `provide` for each shard, some at a time. An error or Ctrl-C stops all of them."""
    with ThreadPoolExecutor(STREAMS) as pool:
        futures = [pool.submit(provide, shard) for shard in shards]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            progress.stopped = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def gather(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """A split's part of the manifest."""
    totals = {key: sum(entry[key] for entry in entries) for key in ("tokens", "documents")}
    return totals | {"shards": entries}


# Raw text.


def encode_raw(
    core: Core, corpus: Corpus, out: Path, wanted: int, processes: int
) -> dict[str, Any]:
    """Download raw files one after another and encode them; returns the manifest's splits.

    The first 50,000 documents are the validation split, whatever else is asked for. A journal says
    what is done: after an interruption the work goes on there and ends in the same bytes.
    """
    folder = work_folder(out, ".raw")
    folder.mkdir(parents=True, exist_ok=True)
    import_pyarrow(core, folder)
    offline = f"prepare parquet files that you have: buildgpt prepare FILES --out {out}"
    files = list_files(core, corpus.raw_repository, corpus.raw_files, offline)
    if not files:
        raise core.config.UserError(f"{corpus.raw_repository} has no {corpus.raw_files} any more")
    journal = Journal(core, folder, files[0].revision)
    most = sum(file.size for file in files) / RAW_BYTES_A_TOKEN
    wanted = wanted or round(10 * most)  # more than there is: all
    packed = 2 * max(file.size for file in files)  # one that is encoded, one that comes
    needed = packed + 2 * min(wanted, most) - journal.bytes_done()
    require_space(core, f"{corpus.name} --raw", folder, needed)
    with closing(RawFiles(core, files, folder, offline)) as raw:
        encode_files(core, raw, journal, wanted, min(wanted, most), processes)
    splits = {split: writer.close() for split, writer in journal.writers.items()}
    source = {"repository": corpus.raw_repository, "revision": files[0].revision}
    complete = {"complete": journal.file == len(files)}
    more = {"source": source | complete, "empty_documents": journal.empty}
    core.data.write_manifest(folder, core.tokenizer.GPT2Tokenizer(), splits, **more)
    listed = {shard["file"] for shard in all_shards(splits)}
    for path in set(folder.glob("*.bin*")) - {folder / name for name in listed}:
        path.unlink()  # begun by a process that was killed before the journal said so
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
            missing = (wanted - tokens_of(train)) * RAW_BYTES_A_TOKEN
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
    number = journal.rows + (RAW_VAL_DOCUMENTS + 1 if journal.file else 0)
    draw = Draw(RAW_VAL_DOCUMENTS, 0.0)
    return read_rows(core, path, "text", draw, number, done=journal.rows)
