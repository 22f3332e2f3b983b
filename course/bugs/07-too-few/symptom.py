import torch

from gpt.generate import Sampling, probabilities

for chances in ([0.1, 0.2, 0.7], [0.5, 0.41, 0.09], [0.02, 0.95, 0.03]):
    found = probabilities(torch.tensor([chances]).log(), Sampling(temperature=1.0, top_p=0.8))
    left = [i for i, chance in enumerate(found[0].tolist()) if chance > 0]
    share = sum(chances[i] for i in left)
    print(f"chances {chances}, top_p 0.8: left are {left}, which make up {share:.2f}")
