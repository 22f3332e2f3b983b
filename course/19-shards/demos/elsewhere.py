from gpt.config import DataConfig
from gpt.data import Batches, Corpus

corpus = Corpus(DataConfig(val_tokens=1000))
for shifts in (False, True):
    batches = Batches(corpus.train, 64, 1, None, shifts)
    starts = [sorted(batches.start(e * batches.sequences + i) for i in range(1000)) for e in (0, 1)]
    print(f"shifts {shifts}: the two epochs' starts are", *(s[0] % 64 for s in starts), "mod 64")
noisy = Batches(corpus.train, 64, 1, None, False, 0.2)
x, y = noisy(0, 1)
print(repr(corpus.tokenizer.decode(x[0].tolist())))
print(repr(corpus.tokenizer.decode(y[0].tolist())))
