"""What a shard really holds, and whether a folder of shards holds what its manifest says."""

from pathlib import Path
from typing import Any

from buildgpt.core import Core

from .progress import Progress

CHUNK = 1 << 22  # tokens looked at at a time


def describe(core: Core, path: Path, vocab_size: int) -> dict[str, Any]:
    """A shard's entry in a manifest, found by reading all of it: file, tokens, documents, sha256.

    Documents are counted by the end of text that opens each. Raises UserError for a shard that is
    damaged or holds ids outside the vocabulary.
    """
    tokens = core.data.open_shard(path)
    documents = 0
    for start in range(0, len(tokens), CHUNK):
        part = tokens[start : start + CHUNK]
        documents += int((part == vocab_size - 1).sum())
        if part.max() >= vocab_size:
            raise core.config.UserError(
                f"{path} holds the id {part.max()}, outside the vocabulary of {vocab_size}; it was"
                " made with another tokenizer"
            )
    found = {"file": path.name, "tokens": len(tokens), "documents": documents}
    return found | {"sha256": core.config.sha256(path)}


def verify(core: Core, folder: Path) -> dict[str, Any]:
    """Read every shard of a folder; returns how many shards and tokens are as the manifest says.

    Raises UserError for the first that is not.
    """
    manifest = core.data.read_manifest(folder)
    if not manifest:
        raise core.config.UserError(
            f"{folder} has no manifest.json to verify it by; give a folder that prepare made"
        )
    tokenizer = core.tokenizer.build_tokenizer(manifest["tokenizer"], f"{folder}/manifest.json")
    shards = [shard for part in manifest["splits"].values() for shard in part["shards"]]
    with Progress(f"verifying {folder}", sum(s["tokens"] for s in shards), "tokens") as progress:
        for shard in shards:
            found = describe(core, folder / shard["file"], tokenizer.vocab_size)
            for key in ("tokens", "sha256", "documents"):
                if key in shard and found[key] != shard[key]:
                    raise core.config.UserError(
                        f"{folder / shard['file']} is not as manifest.json says: its {key} differ;"
                        " delete it and prepare the corpus again"
                    )
            progress.add(found["tokens"])
    return {"folder": str(folder), "shards": len(shards), "tokens": int(progress.done)}
