import dataclasses

import torch
from race import MODEL

from gpt.config import ModernConfig
from gpt.model import GPT
from gpt.modern import Modern

torch.manual_seed(1)
names = [field.name for field in dataclasses.fields(ModernConfig)]
theirs, ours = GPT(MODEL), Modern(MODEL, ModernConfig(**dict.fromkeys(names, False)))
ours.load_state_dict(theirs.state_dict())
ids = torch.randint(256, (2, 64))
off = (ours(ids) - theirs(ids)).abs().max()
print(f"all switches off: {off:.1g} off GPT-2 with its weights, name for name")
one = Modern(dataclasses.replace(MODEL, layers=1), ModernConfig())
for text in ("dog bites man", "man bites dog", "bites dog man"):
    ids = torch.tensor([[*f"{text}.".encode()]])
    print(f"one layer, no positions, after {text!r} and a full stop: {one(ids)[0, -1, 65]:.5f}")
