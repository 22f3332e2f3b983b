import torch

x = torch.arange(12).view(2, 6)  # 2 tokens with 6 numbers each
print("x                            ", x.tolist())
print("x.view(2, 3, 2)              ", x.view(2, 3, 2).tolist())
print("... .transpose(0, 1)         ", x.view(2, 3, 2).transpose(0, 1).tolist())
print("x.view(3, 2, 2), no transpose", x.view(3, 2, 2).tolist())
