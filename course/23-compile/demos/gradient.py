import torch

from gpt.model import loss_and_gradient

torch.manual_seed(1)
logits, targets = torch.randn(3, 5, requires_grad=True), torch.tensor([0, 4, 2])
wanted = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
wanted.backward()
loss, gradient = loss_and_gradient(logits.detach().clone(), targets[:, None], 5)
print(f"loss {loss:.6f}, by autograd {wanted:.6f}")
for ours, theirs in zip(gradient.tolist(), logits.grad.tolist()):
    print(
        "  ".join(f"{x:7.4f}" for x in ours), "  autograd ", "  ".join(f"{x:7.4f}" for x in theirs)
    )
