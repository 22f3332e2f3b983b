"""A text into shards, with your own code: python prepare.py data/shakespeare.txt data/shakespeare

The last tenth is held out. An end of text opens each part, as in the public corpora.
"""

import sys
from pathlib import Path

from gpt.data import ShardWriter, write_manifest
from gpt.tokenizer import ByteTokenizer

SHARD_TOKENS = 2_000_000


def prepare(path: Path, folder: Path) -> None:
    """Write the shards of both splits, and the manifest last."""
    text, tokenizer, splits = path.read_text(encoding="utf-8"), ByteTokenizer(), {}
    folder.mkdir(parents=True)
    cut = len(text) - len(text) // 10
    for split, part in (("train", text[:cut]), ("val", text[cut:])):
        writer = ShardWriter(folder, split, SHARD_TOKENS)
        writer.add([tokenizer.end_of_text, *tokenizer.encode(part)])
        splits[split] = writer.close()
    write_manifest(folder, tokenizer, splits)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
