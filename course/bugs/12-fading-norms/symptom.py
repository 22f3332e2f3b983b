import torch

from gpt import optim
from gpt.config import ModelConfig, TrainConfig
from gpt.model import GPT

model = GPT(ModelConfig(layers=2, heads=2, width=16, context=8, vocab_size=20))
config = TrainConfig(lr=0.1, weight_decay=0.1, optimizer="adamw")
optimizer = optim.build_optimizer(model, config)
for step in range(101):
    if step % 50 == 0:
        gain, matrix = model.norm.weight.mean().item(), model.blocks[0].mlp.up.weight.norm().item()
        print(f"step {step:3}: gains of the last norm {gain:.3f}, size of a matrix {matrix:.3f}")
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
