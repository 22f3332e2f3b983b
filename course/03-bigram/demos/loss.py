import math

import torch

from gpt.data import Batches, Corpus
from gpt.model import GPT

torch.manual_seed(1337)
corpus = Corpus("data/shakespeare.txt")
x, y = Batches(corpus.train, context=64, seed=1337)(0, 32)
vocab_size = corpus.tokenizer.vocab_size
print(f"loss {GPT(vocab_size)(x, y).item():.3f}")
print(f"of even guesses {math.log(vocab_size):.3f}")
