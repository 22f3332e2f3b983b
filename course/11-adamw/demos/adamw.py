from pathlib import Path

import torch
from torch import nn

from gpt import optim
from gpt.config import TrainConfig, load_recipe
from gpt.train import Trainer

config = TrainConfig(lr=0.01, weight_decay=0.0)
for name, signs in (("always up", [1, 1, 1, 1]), ("to and fro", [1, -1, 1, -1])):
    for size in (0.001, 1000):
        layer = nn.Linear(1, 1, bias=False)
        optimizer, start = optim.build_optimizer(layer, config), layer.weight.item()
        for sign in signs:
            layer.weight.grad = torch.full((1, 1), float(sign * size))
            optimizer.step()
        moved = layer.weight.item() - start
        print(f"4 gradients of size {size}, {name}: the weight has moved by {moved:+.4f}")

sgd = Trainer(load_recipe(Path("sonnet.toml"), ["train.steps=60"]))
sgd.optimizer = torch.optim.SGD(sgd.model.parameters(), lr=0.3)
for trainer in (sgd, Trainer(load_recipe(Path("sonnet.toml"), ["train.steps=60"]))):
    print(type(trainer.optimizer).__name__)
    trainer.run()
