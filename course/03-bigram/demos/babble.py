import torch

from gpt.data import Batches, Corpus
from gpt.generate import continue_text
from gpt.model import GPT
from gpt.train import train

torch.manual_seed(1337)
corpus = Corpus("data/shakespeare.txt")
model = GPT(corpus.tokenizer.vocab_size)
print("before:", repr(continue_text(model, corpus.tokenizer, "ROMEO:", max_tokens=40)))
train(model, Batches(corpus.train, context=64, seed=1337), steps=500, batch=32, lr=0.1)
print("\nROMEO:" + continue_text(model, corpus.tokenizer, "ROMEO:", max_tokens=300))
