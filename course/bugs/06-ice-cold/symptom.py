import torch

from gpt.generate import Sampling, probabilities

logits = torch.tensor([[2.0, 3.0, 1.0]])
for temperature in (1.0, 0.5, 0.1, 0.0):
    chances = probabilities(logits, Sampling(temperature=temperature))
    print(f"temperature {temperature}: chances {[f'{c:.3f}' for c in chances[0].tolist()]}")
