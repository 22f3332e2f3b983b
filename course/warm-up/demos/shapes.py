import torch

x = torch.arange(24).view(2, 3, 4)  # 2 sequences, 3 tokens each, 4 numbers a token
print("x            ", tuple(x.shape))
print("x[0]         ", tuple(x[0].shape), "the first sequence")
print("x[:, -1]     ", tuple(x[:, -1].shape), "the last token of each")
print("x[:, :2]     ", tuple(x[:, :2].shape), "the first two tokens of each")
print("x.sum(dim=2) ", tuple(x.sum(dim=2).shape), x.sum(dim=2).tolist())
