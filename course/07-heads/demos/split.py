import torch

from gpt.model import attend_by_hand

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
