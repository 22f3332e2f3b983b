from pathlib import Path

from gpt.tokenizer import BytePairTokenizer

text = Path("data/shakespeare.txt").read_text(encoding="utf-8")[:100_000]
tokenizer = BytePairTokenizer.train(text, 357)
pieces = [piece.decode() for piece in tokenizer.pieces[256:-1]]
print(f"{len(pieces)} merges; the first:", *map(repr, pieces[:12]))
print("the longest:", *map(repr, sorted(pieces, key=len)[-8:]))
