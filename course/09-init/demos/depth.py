import torch

from gpt.config import ModelConfig
from gpt.model import GPT, Block

spreads = []


def measure(block, given, out):
    """The residual stream's spread after a block."""
    spreads.append(out.std().item())


for layers in (2, 8, 32):
    torch.manual_seed(1337)
    model = GPT(ModelConfig(layers=layers, vocab_size=257))
    spreads.clear()
    for part in model.modules():
        if isinstance(part, Block):
            part.register_forward_hook(measure)
    model(torch.randint(257, (4, 64)))
    shown = " ".join(f"{spread:.3f}" for spread in spreads[:: max(1, layers // 8)])
    print(f"{layers:2} layers, the stream's spread on its way: {shown}")
