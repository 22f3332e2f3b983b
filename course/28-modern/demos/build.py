import dataclasses

import torch
from race import MODEL

from gpt.modern import ModernConfig, build

for architecture in ("gpt2", "modern"):
    torch.manual_seed(1)
    model = build(dataclasses.replace(MODEL, architecture=architecture))
    print(f"{architecture}: a {type(model).__name__}, {model.parameter_count():,} parameters")
    print(f"    a logit of an A after an A: {model(torch.tensor([[65]]))[0, 0, 65]:.6f}")
for name, value in dataclasses.asdict(ModernConfig()).items():
    print(f"modern.{name} = {value}, which nothing heeds yet")
