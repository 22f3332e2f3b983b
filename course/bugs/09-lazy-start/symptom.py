import torch

from gpt import optim
from gpt.config import ModelConfig, TrainConfig
from gpt.model import GPT

torch.manual_seed(1)
config = TrainConfig(lr=1e-3, warmup_steps=4, optimizer="adamw")
model = GPT(ModelConfig(layers=1, heads=2, width=16, context=8, vocab_size=20))
optimizer = optim.build_optimizer(model, config)
ids = torch.arange(9)[None]
for step in range(3):
    before = [p.detach().clone() for p in model.parameters()]
    optim.set_rates(optimizer, optim.learning_rate(step, 100, config), 0.9)
    model(ids[:, :-1], ids[:, 1:]).backward()
    optimizer.step()
    optimizer.zero_grad()
    moved = sum((p != old).sum().item() for p, old in zip(model.parameters(), before))
    print(f"step {step + 1}: {moved:,} of {model.parameter_count():,} weights have moved")
