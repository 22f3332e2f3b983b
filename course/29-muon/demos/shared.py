import torch
from race import CUT, MODEL, windows

from gpt import optim
from gpt.config import TrainConfig
from gpt.model import GPT

torch.manual_seed(1)
model = GPT(MODEL)
optimizer = optim.build_optimizer(model, TrainConfig(optimizer="muon"))
names = {parameter: name for name, parameter in model.named_parameters()}
before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
model(*windows(0, CUT, 16, torch.Generator().manual_seed(1))).backward()
optimizer.step()
for group in optimizer.param_groups:
    whose = "Muon's " if "parts" in group else "AdamW's"
    print(f"{whose} {sum(p.numel() for p in group['params']):7,} weights, such as")
    for parameter in group["params"][:2]:
        name = names[parameter]
        moved = (parameter.detach() - before[name]).norm()
        print(f"    {name} {tuple(parameter.shape)}: one step has moved it by {moved:.3g}")
