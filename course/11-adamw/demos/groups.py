import torch

from gpt import optim
from gpt.config import ModelConfig, TrainConfig
from gpt.model import GPT

model = GPT(ModelConfig(vocab_size=257))
config = TrainConfig(lr=0.01, weight_decay=0.1)
optimizer = optim.build_optimizer(model, config)
for group in optimizer.param_groups:
    weights = sum(p.numel() for p in group["params"])
    print(f"{len(group['params']):3} tensors, {weights:,} weights, decay {group['weight_decay']}")
gain, matrix = model.norm.weight, model.blocks[0].mlp.up.weight
before = gain.norm().item(), matrix.norm().item()
for _ in range(300):
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
print("after 300 steps in which nothing is asked for, what is left")
print(f"    of the last norm's gains: {gain.norm().item() / before[0]:.2f}")
print(f"    of a matrix:              {matrix.norm().item() / before[1]:.2f}")
