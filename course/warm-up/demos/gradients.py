import torch

w = torch.tensor(2.0, requires_grad=True)
loss = (5 * w - 3) ** 2
loss.backward()
print(f"the loss is {loss.item():.0f}, its gradient {w.grad.item():.0f}")

nudged = (5 * (2.0 + 0.001) - 3) ** 2
print(f"w grows by 0.001: the loss grows by {(nudged - loss.item()):.3f}")

(5 * w - 3).backward()
print(f"a second backward, of something with the slope 5, adds to it: {w.grad.item():.0f}")
w.grad = None
(5 * w - 3).backward()
print(f"after it was set to None: {w.grad.item():.0f}")
