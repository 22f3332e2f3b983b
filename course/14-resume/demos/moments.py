import torch

from gpt import optim
from gpt.config import ModelConfig, TrainConfig
from gpt.model import GPT

model = GPT(ModelConfig(vocab_size=257))
optimizer = optim.build_optimizer(model, TrainConfig())
model(torch.arange(64)[None], torch.arange(64)[None] + 1).backward()
optimizer.step()
tensors = optim.optimizer_tensors(model, optimizer)
for name in [name for name in tensors if name.startswith("norm.")]:
    print(name, tuple(tensors[name].shape))
numbers = sum(tensor.numel() for tensor in tensors.values())
print(f"{numbers / model.parameter_count():.2f} numbers are remembered for each weight")
