import time

import torch

from gpt.config import ModelConfig
from gpt.generate import Sampling, generate
from gpt.model import GPT

torch.manual_seed(1)
model = GPT(ModelConfig(vocab_size=257, context=256, width=128)).eval()
counted = []
model.blocks[0].register_forward_hook(lambda block, inputs, output: counted.append(output.size(1)))


def anew(length):
    """Sampling that computes everything anew for each token."""
    ids = torch.zeros(1, 1, dtype=torch.int64)
    for _ in range(length):
        with torch.inference_mode():
            ids = torch.cat([ids, model(ids)[:, -1:].argmax(dim=2)], dim=1)
    return ids[0, 1:].tolist()


def kept(length):
    """Sampling by `generate`."""
    return [int(i) for i in generate(model, [0], Sampling(length, temperature=0))]


for length in (50, 200):
    texts = []
    for way in (anew, kept):
        counted.clear()
        began = time.perf_counter()
        texts.append(way(length))
        rate = length / (time.perf_counter() - began)
        print(
            f"{length:3} tokens, {way.__name__}: {sum(counted):6,} positions, {rate:.0f} tokens/s"
        )
    print(f"    the same text: {texts[0] == texts[1]}")
