"""Shards that changed since they were written."""

import hashlib
from pathlib import Path

from gpt.data import read_manifest


def damaged(folder: Path) -> list[str]:
    """The names of a folder's shards that are not as its manifest says, in its order."""
    manifest = read_manifest(folder)
    shards = [shard for split in manifest["splits"].values() for shard in split["shards"]]
    return [shard["file"] for shard in shards if digest(folder / shard["file"]) != shard["sha256"]]


def digest(path: Path) -> str:
    """A file's SHA-256; "" where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
