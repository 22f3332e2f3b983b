import torch

from gpt.config import SIZES, ModelConfig
from gpt.model import GPT

for name, shape in SIZES.items():
    with torch.device("meta"):
        model = GPT(ModelConfig(**shape, context=1024, vocab_size=50257))
    count = model.parameter_count()
    print(f"{name:>5}: {count:13,} parameters, {4 * count / 1e9:.1f} GB if they were there")
