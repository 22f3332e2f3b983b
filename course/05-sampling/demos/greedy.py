import torch

from gpt.generate import Sampling, probabilities

logits = torch.tensor([[1.0, 3.0, 2.0]])
for temperature in (2.0, 1.0, 0.5, 0.1, 0.0, -1.0):
    try:
        chances = probabilities(logits, Sampling(temperature=temperature))
        print(temperature, *[f"{chance:.3f}" for chance in chances[0].tolist()])
    except Exception as error:
        print(type(error).__name__, error)
