import torch

from gpt.generate import Sampling, probabilities

logits = torch.tensor([[1.0, 4.0, 3.0, 0.0, 2.0]])
for k in (0, 1, 2, 4):
    chances = probabilities(logits, Sampling(temperature=1.0, top_k=k))
    print("top_k", k, *[f"{chance:.3f}" for chance in chances[0].tolist()])
