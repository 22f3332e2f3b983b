import torch
from race import CUT, MODEL, windows

from gpt.model import GPT
from gpt.optim import orthogonalise

torch.manual_seed(1)
model = GPT(MODEL)
model(*windows(0, CUT, 16, torch.Generator().manual_seed(1))).backward()
gradient = model.blocks[0].mlp.up.weight.grad
matrix = orthogonalise(gradient[None], torch.float32)[0]
print("numbers 1, 8, 16, 24, 32, 40, 48, 56, 63 and 64 of the singular values")
for name, found in (("a gradient", gradient), ("orthogonalised", matrix)):
    values = torch.linalg.svdvals(found)
    print(f"{name}, {tuple(found.shape)}, the largest counted as 1")
    for value in (values / values[0])[[0, *range(7, 63, 8), 62, 63]].tolist():
        print(f"    {value:7.4f} " + "#" * round(40 * value))
shares = torch.linalg.svdvals(gradient).square().cumsum(0) / gradient.square().sum()
print(f"directions that make nine tenths of the gradient: {int((shares < 0.9).sum()) + 1} of 64")
values = torch.linalg.svdvals(matrix)
print(f"orthogonalised, 63 values are between {values[62]:.2f} and {values[0]:.2f}")
