import math

import torch
from race import CUT, MODEL, windows

from gpt.config import ModernConfig
from gpt.modern import Modern

ids, targets = windows(0, CUT, 16, torch.Generator().manual_seed(1))
for on in (False, True):
    torch.manual_seed(1)
    model = Modern(MODEL, ModernConfig(zero_init=on, untied_head=on))
    x = torch.randn(1, 8, MODEL.width)
    added = (model.blocks[0].mlp(x).norm() / x.norm()).item()
    loss = model(ids, targets)
    loss.backward()
    print(f"zero_init = untied_head = {on}: {model.parameter_count():,} parameters")
    print(f"    an MLP adds {added:.3f} times what it reads, the first loss is {loss:.4f}")
    for name in ("blocks.1.mlp.up.weight", "blocks.1.mlp.out.weight", "head.weight"):
        weight = dict(model.named_parameters()).get(name)
        if weight is not None:
            print(f"    gradient of {name}: {'some' if weight.grad.any() else 'none yet'}")
print(f"the logarithm of {MODEL.vocab_size} is {math.log(MODEL.vocab_size):.4f}")
