import torch

from gpt.model import attend_by_hand

torch.manual_seed(1)
q, k, v = torch.randn(3, 1, 1, 6, 4)  # (B, H, T, D) each
whole = attend_by_hand(q, k, v)
for last in (6, 2, 1):
    some = attend_by_hand(q[:, :, -last:], k, v)
    off = (some - whole[:, :, -last:]).abs().max()
    print(f"the last {last} of 6 tokens ask: {tuple(some.shape)}, off by {off:.1g} from the whole")
