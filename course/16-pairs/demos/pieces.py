import json
import tempfile
from pathlib import Path

from gpt.tokenizer import BytePairTokenizer, load_tokenizer

with tempfile.TemporaryDirectory() as place:
    path = Path(place) / "tokenizer.json"
    merges = [[116, 104], [256, 101], [32, 257]]
    path.write_text(json.dumps({"kind": "bpe", "merges": merges}))
    tokenizer = load_tokenizer(path)
print(f"{tokenizer.vocab_size} ids; those after the bytes: {tokenizer.pieces[256:]}")
print(tokenizer.decode([79, 110, 258, 32, 104, 101, 97, 258]))
print(BytePairTokenizer.chunks.findall("O, 'tis  true: 14 lines!\n\nExit"))
