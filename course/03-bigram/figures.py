"""The figures that lesson 3 quotes: name -> (value, how it is shown, tolerance)."""

import math
import time

import numpy as np
import torch

from gpt.data import Batches, Corpus
from gpt.model import GPT
from gpt.train import train

torch.manual_seed(1337)
corpus = Corpus("data/shakespeare.txt")
vocab_size = corpus.tokenizer.vocab_size
batches = Batches(corpus.train, 64, 1337)
model = GPT(vocab_size)
start = model(*batches(0, 32)).item()
began = time.perf_counter()
train(model, batches, steps=500, batch=32, lr=0.1)
seconds = time.perf_counter() - began
with torch.no_grad():
    end = model(*batches(20000, 4000)).item()

counts = np.zeros((vocab_size, vocab_size))
np.add.at(counts, (corpus.train[:-1], corpus.train[1:]), 1)
chances = counts / counts.sum(1, keepdims=True).clip(1)
seen = counts > 0
counted = -(counts[seen] * np.log(chances[seen])).sum() / counts.sum()

FIGURES = {
    "loss of even guesses": (math.log(vocab_size), "{:.2f}", 0.001),
    "loss at the start": (start, "{:.2f}", 0.01),
    "loss of the bigram": (end, "{:.1f}", 0.03),
    "loss of counting": (counted, "{:.2f}", 0.001),
    "seconds of training": (seconds, "about {:.0f} s", 5.0),
}
