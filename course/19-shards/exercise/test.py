"""What a solution must do; `solution` is the module under test."""

import tempfile
from pathlib import Path

from gpt.data import ShardWriter, write_manifest
from gpt.tokenizer import ByteTokenizer


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    with tempfile.TemporaryDirectory() as place:
        folder, splits = Path(place), {}
        for split in ("train", "val"):
            writer = ShardWriter(folder, split, 100)
            writer.add(range(250))
            splits[split] = writer.close()
        write_manifest(folder, ByteTokenizer(), splits)
        names = [shard["file"] for part in splits.values() for shard in part["shards"]]
        assert [*solution.damaged(folder)] == [], "nothing is damaged yet"
        path = folder / names[1]
        content = bytearray(path.read_bytes())
        content[1100] ^= 1  # one bit of one token
        path.write_bytes(content)
        assert [*solution.damaged(folder)] == names[1:2], "one bit was changed"
        (folder / names[5]).unlink()
        assert [*solution.damaged(folder)] == [names[1], names[5]], "and one file is gone"
