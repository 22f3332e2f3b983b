import torch

from gpt.config import UserError
from gpt.generate import Sampling, pick

generator = torch.Generator().manual_seed(1)
logits = torch.tensor([[0.0, 1.0, 2.0]]).repeat(10000, 1)
drawn = pick(logits, Sampling(temperature=1.0), generator)
chances = logits[0].softmax(0)
for token in range(3):
    share = (drawn == token).double().mean()
    print(f"id {token}: a chance of {chances[token]:.3f}, drawn {share:.3f} of the time")
try:
    pick(torch.tensor([[0.0, float("nan"), 1.0]]), Sampling(), generator)
    print("a score that is no number: drawn all the same")
except (UserError, RuntimeError) as error:
    print(f"{type(error).__name__}: {error}")
