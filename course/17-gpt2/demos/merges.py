from itertools import pairwise
from pathlib import Path

from gpt.tokenizer import gpt2_pieces

text = Path("gpt/gpt2_merges.txt").read_text(encoding="utf-8")
print(text.splitlines()[:4], "...", text.splitlines()[-1])
pieces = gpt2_pieces(text)
print(len(pieces), "pieces:", *pieces[256:262], "...", pieces[-1])

ranks = {piece: i for i, piece in enumerate(pieces)}
parts = [bytes([byte]) for byte in b" language"]
while True:
    print(parts)
    pairs = [(ranks.get(a + b, len(ranks)), i) for i, (a, b) in enumerate(pairwise(parts))]
    rank, i = min(pairs, default=(len(ranks), 0))
    if rank == len(ranks):
        break
    parts[i : i + 2] = [parts[i] + parts[i + 1]]
print("its id is", ranks[parts[0]])
