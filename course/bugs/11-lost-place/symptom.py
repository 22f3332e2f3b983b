import torch

from gpt.config import ModelConfig
from gpt.model import GPT

torch.manual_seed(1)
model = GPT(ModelConfig(layers=2, heads=2, width=32, context=16, vocab_size=50)).eval()
torch.nn.init.normal_(model.position_embedding.weight, std=0.2)
ids = torch.arange(8)[None] * 5
with torch.no_grad():
    whole = model(ids)
    for piece in (8, 4, 2, 1):
        cache = model.new_cache()
        parts = [model.logits(model.hidden(part, cache)) for part in ids.split(piece, dim=1)]
        off = (torch.cat(parts, dim=1) - whole).abs().max().item()
        print(f"read {piece} at a time, with a cache: logits are off by {off:.6f}")
