import time

import torch

from gpt.config import ModelConfig
from gpt.generate import Sampling, generate
from gpt.model import GPT

torch.manual_seed(1)
model = GPT(ModelConfig(vocab_size=257, context=256, width=128)).eval()
counted = []
model.blocks[0].register_forward_hook(lambda block, inputs, output: counted.append(output.size(1)))
for length in (50, 100, 200):
    counted.clear()
    began = time.perf_counter()
    ids = [int(i) for i in generate(model, [0], Sampling(max_tokens=length))]
    seconds = time.perf_counter() - began
    print(
        f"{length} tokens: {sum(counted):6,} positions evaluated, {length / seconds:4.0f} tokens/s"
    )
print(f"the last ones: {ids[-5:]}")
