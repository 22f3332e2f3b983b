import time

import torch
from race import CUT, MODEL, train, windows

from gpt import optim
from gpt.config import TrainConfig
from gpt.model import GPT

for optimizer, lr in (("adamw", 0.01), ("muon", 0.004)):
    torch.manual_seed(1)
    model = GPT(MODEL)
    own = optim.build_optimizer(model, TrainConfig(optimizer=optimizer, weight_decay=0.0))
    model(*windows(0, CUT, 16, torch.Generator().manual_seed(1))).backward()
    weight = model.blocks[0].mlp.out.weight
    before = weight.detach().clone()
    own.step()
    values = torch.linalg.svdvals(weight.detach() - before)
    ratio = values[0] / values[62]
    print(f"{optimizer}: of its first update, value 1 is {ratio:.1f} times as large as value 63")
    began, loss = time.process_time(), train(model, 100, optimizer=optimizer, lr=lr)
    print(f"    loss after 100 steps {loss:.3f}, {time.process_time() - began:.1f} s of computing")
