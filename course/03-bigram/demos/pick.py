import torch

from gpt.generate import pick

logits = torch.tensor([[0.0, 1.0, 2.0]])
generator = torch.Generator().manual_seed(1337)
drawn = [pick(logits, generator).item() for _ in range(1000)]
for i, chance in enumerate(logits.softmax(dim=1)[0].tolist()):
    print(f"id {i}: chance {chance:.3f}, drawn {drawn.count(i)} times of 1,000")
