import tempfile
from pathlib import Path

from gpt import tokenizer

for kind in [value for value in vars(tokenizer).values() if isinstance(value, type)]:
    if kind.__module__ == "gpt.tokenizer":
        print(f"{kind.__name__} is a {kind.__mro__[1].__name__}")
with tempfile.TemporaryDirectory() as place:
    path = Path(place) / "tokenizer.json"
    tokenizer.ByteTokenizer().save(path)
    print(f"{path.name}: {path.read_text().strip()}")
