import torch

from gpt.config import ModelConfig
from gpt.model import Attention, attend_by_hand

torch.manual_seed(1337)
q, k, v = torch.randn(3, 1, 4, 8, 16)
together = attend_by_hand(q, k, v)
for head in range(4):
    alone = attend_by_hand(*(part[:, head : head + 1] for part in (q, k, v)))
    off = (together[:, head] - alone[:, 0]).abs().max().item()
    print(f"head {head}, alone or beside others, differs by {off:.1g}")

print("four heads, each with a picture of its own:")
shares = attend_by_hand(q, k, torch.eye(8))[0]
for rows in zip(*shares.tolist()):
    print(
        *("|" + "".join(" .:-=+*%@"[round(8 * share)] * 2 for share in row) + "|" for row in rows)
    )

print("and Attention: a row for each of 8 tokens, a mark for each that it depends on:")
x = torch.randn(1, 8, 64, requires_grad=True)
out = Attention(ModelConfig(width=64, heads=4))(x)
for token in range(8):
    (gradient,) = torch.autograd.grad(out[0, token].sum(), x, retain_graph=True)
    print("|" + "".join("@@" if size else "  " for size in gradient[0].abs().sum(dim=1)) + "|")
