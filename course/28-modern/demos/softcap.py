import torch

from gpt.config import ModelConfig, ModernConfig
from gpt.model import cap
from gpt.modern import Modern

torch.manual_seed(1)
config = ModelConfig(layers=1, heads=4, width=64, context=16, vocab_size=257, init_std=0.05)
for on in (False, True):
    model = Modern(config, ModernConfig(softcap=on))
    with torch.no_grad():
        model.token_embedding.weight.mul_(100)
        logits = model(torch.randint(256, (4, 16)))
    print(
        f"softcap = {on}, embeddings 100 times as large: |logit| at most {logits.abs().max():.1f}"
    )
x = torch.tensor([1.0, 10.0, 30.0, 100.0], requires_grad=True)
capped = cap(x, 30.0)
(slope,) = torch.autograd.grad(capped.sum(), x)
for row in zip(x.tolist(), capped.tolist(), slope.tolist()):
    print("a logit of {:5.1f} becomes {:4.1f}; of its gradient comes through {:.3f}".format(*row))
