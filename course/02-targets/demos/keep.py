import time

from gpt.data import Batches, Corpus

stream = Corpus("data/shakespeare.txt").train
batches = Batches(stream, 64, 1337)
batches(0, 1)
began = time.perf_counter()
for position in range(1, 101):
    batches(position, 1)
one = time.perf_counter() - began
for _ in range(100):
    Batches(stream, 64, 1337)(0, 1)
each = time.perf_counter() - began - one
print(f"100 sequences, asked of one Batches:    {1000 * one:6.1f} ms")
print(f"100 sequences, a new Batches for each: {1000 * each:7.1f} ms")
