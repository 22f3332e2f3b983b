import torch

from gpt.model import attend_by_hand


def show(shares, labels):
    """A table of shares in shades of grey: a row for who asks, a column for who is asked."""
    for label, row in zip(labels, shares.tolist()):
        print(f"{label:>5} |" + "".join(" .:-=+*%@"[round(8 * share)] * 2 for share in row) + "|")


torch.manual_seed(1337)
q, k = torch.randn(2, 1, 8, 16, requires_grad=True)
show(attend_by_hand(q, k, torch.eye(8)[None])[0], range(8))

v = torch.randn(1, 8, 16, requires_grad=True)
attend_by_hand(q, k, v)[0, 3].sum().backward()
print("\nhow much token 3 depends on the value of each:")
print(*[f"{size:.3f}" for size in v.grad[0].abs().sum(dim=1).tolist()])
