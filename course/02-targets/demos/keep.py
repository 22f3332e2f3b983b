import time

from gpt.data import Batches, Corpus

batches = Batches(Corpus("data/shakespeare.txt").train, context=64, seed=1337)
batches(0, 1)
began = time.perf_counter()
batches(1, 100)
print(f"100 sequences took {1000 * (time.perf_counter() - began):.0f} ms")
