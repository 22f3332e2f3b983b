import torch

from gpt.data import Batches, Corpus
from gpt.model import GPT
from gpt.train import train

torch.manual_seed(1337)
corpus = Corpus("data/shakespeare.txt")
batches = Batches(corpus.train, context=64, seed=1337)
train(GPT(corpus.tokenizer.vocab_size), batches, steps=500, batch=32, lr=0.1)
