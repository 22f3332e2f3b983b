"""Public corpora by name, FineWeb and FineWeb-Edu: as shards of GPT-2's tokens, or raw."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildgpt.core import Core

from .download import fetch, size_of
from .hub import SHARD_HEADER, Remote, authorization, list_files, require_space
from .progress import Progress, readable
from .raw import encode_raw
from .text import summary, work_folder
from .verify import describe

STREAMS = 4  # files that are downloaded at a time: one connection seldom fills a line
DEFAULT_TOKENS = 10_000_000_000
SAMPLE_TOKENS = 100_000_000


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
            files = corpus.raw_repository, corpus.raw_files
            return encode_raw(core, corpus.name, *files, out, wanted, processes)
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
            if size_of(path) == shard.size and core.config.sha256(path) == shard.sha256:
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
