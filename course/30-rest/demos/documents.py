import torch

from gpt.config import ModelConfig
from gpt.modern import Modern, ModernConfig

config = ModelConfig(layers=2, heads=2, width=16, context=12, vocab_size=27)
model = Modern(config, ModernConfig())
words = "dog|bites|man"
ids = torch.tensor([[26 if c == "|" else ord(c) - 97 for c in words]])[:, :12]
mask = model.view(ids, 0).far
for letter, row in zip(words, mask[0, 0]):
    print(f"    {letter} sees  " + " ".join(o if v == 0 else "." for o, v in zip(words, row)))
