import json
from pathlib import Path

from prepare import prepare

from gpt.data import Stream, read_manifest
from gpt.tokenizer import ByteTokenizer

folder = Path("data/shakespeare")
if not folder.exists():
    prepare(Path("data/shakespeare.txt"), folder)
manifest = read_manifest(folder)
print(json.dumps(manifest["splits"]["train"]["shards"][0])[:90], "...")
paths = sorted(folder.glob("*_train_*.bin"))
stream = Stream(paths, 257)
print(f"{len(stream):,} tokens in {[len(shard) for shard in stream.shards]}")
end = len(stream.shards[0])
print("across the first end:", repr(ByteTokenizer().decode(stream.read(end - 20, end + 20))))
