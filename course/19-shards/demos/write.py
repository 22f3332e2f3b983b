import tempfile
from pathlib import Path

from gpt.data import ShardWriter, open_shard
from gpt.tokenizer import GPT2Tokenizer

tokenizer = GPT2Tokenizer()
sonnet = Path("sonnet.txt").read_text(encoding="utf-8")
with tempfile.TemporaryDirectory() as place:
    writer = ShardWriter(Path(place), "train", shard_tokens=100)
    for _ in range(3):
        writer.add([tokenizer.end_of_text, *tokenizer.encode(sonnet)])
    print("in between:", sorted(path.name[-18:] for path in Path(place).iterdir()))
    writer.flush()
    for path in sorted(Path(place).iterdir()):
        tokens = open_shard(path)
        begins = tokenizer.decode(tokens[:6].tolist())
        print(f"..{path.name[-17:]}: {len(tokens)} tokens, {begins!r} ...")
