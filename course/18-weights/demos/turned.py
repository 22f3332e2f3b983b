import torch

from gpt.config import ModelConfig
from gpt.hub import is_transposed, our_names, turn_or_widen
from gpt.model import GPT

model = GPT(ModelConfig(layers=1, width=8, heads=2, context=16, vocab_size=257))
for ours, theirs in our_names(model).items():
    shape = tuple(model.state_dict()[ours].shape)
    stored = shape[::-1] if is_transposed(ours) else shape
    turned = turn_or_widen(ours, torch.zeros(stored), model)
    print(f"{theirs:22} {stored!s:10} becomes {tuple(turned.shape)}")
