from pathlib import Path

import torch

from gpt.config import ModelConfig
from gpt.hellaswag import read_hellaswag, score, spell
from gpt.model import GPT
from gpt.runtime import Runtime
from gpt.tokenizer import ByteTokenizer

torch.manual_seed(1)
model = GPT(ModelConfig(layers=2, heads=4, width=64, context=128, vocab_size=257)).eval()
items = [spell(item, ByteTokenizer(), 128) for item in read_hellaswag(Path("endings.jsonl"))]
seen, hidden = [], model.hidden


def watched(ids, *words):
    """The model's own, which says how many positions it computes."""
    seen.append(ids.numel())
    return hidden(ids, *words)


model.hidden = watched
with torch.no_grad():
    for item in items:
        score(model, [item], Runtime(torch.device("cpu")))
alone = sum(4 * (len(item.context) + max(map(len, item.endings)) - 1) for item in items)
print(f"20 items, {alone:,} positions if each ending reads its context; computed: {sum(seen):,}")
print(f"that is one in {alone / sum(seen):.1f}")
