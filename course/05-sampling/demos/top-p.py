import torch

from gpt.generate import Sampling, probabilities

sampling = Sampling(temperature=1.0, top_p=0.9)
for name, logits in (("sure  ", [9.0, 1.0, 2.0, 0.0]), ("unsure", [1.0, 1.2, 0.9, 1.1])):
    chances = probabilities(torch.tensor([logits]), sampling)
    print(name, *[f"{chance:.3f}" for chance in chances[0].tolist()])
