import torch

from gpt.config import ModelConfig
from gpt.model import GPT

torch.manual_seed(1)
model, ids = GPT(ModelConfig(vocab_size=257)).eval(), torch.randint(257, (1, 48))
with torch.no_grad():
    whole = model(ids)[0, -1]
    for sizes in ((48,), (47, 1), (16, 16, 16), (1,) * 48):
        cache = model.new_cache()
        for part in ids.split(sizes, dim=1):
            logits = model.logits(model.hidden(part, cache))[0, -1]
        off = (logits - whole).abs().max()
        print(f"in {len(sizes):2} parts: {cache[0].length} tokens seen, logits off by {off:.1g}")
