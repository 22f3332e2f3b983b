import torch

from gpt.config import ModelConfig
from gpt.model import GPT

torch.manual_seed(1)
for size in (257, 50257):
    model = GPT(ModelConfig(layers=1, vocab_size=size))
    ids = torch.arange(64)[None]
    loss = model(ids, ids + 1)
    loss.backward()
    rows = len(model.token_embedding.weight)
    unused = model.token_embedding.weight.grad[size:].abs().sum().item()
    print(
        f"V = {size:6,}: {rows:6,} rows, logits {tuple(model(ids).shape)}, loss {loss:.2f},",
        end=" ",
    )
    print(f"gradient of the {rows - size} others {unused:.0f}")
