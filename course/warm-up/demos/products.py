import torch

row = torch.tensor([[1, 2]])
matrix = torch.tensor([[10, 20, 30], [1, 2, 3]])
print(row.tolist(), "@", matrix.tolist(), "=", (row @ matrix).tolist())

tokens, weight = torch.zeros(2, 3, 4), torch.zeros(4, 5)
print(tuple(tokens.shape), "@", tuple(weight.shape), "=", tuple((tokens @ weight).shape))
try:
    weight @ tokens
except RuntimeError as error:
    print("the other way round:", error)
