"""Parts of different lengths."""

from torch import Tensor


def accumulate(model, parts: list[tuple[Tensor, Tensor]]) -> float:
    """Add up the gradients of parts (ids, targets), each (B, T) of its own size, such that they are
    those of the mean over all targets together; returns that mean."""
    everything = sum(targets.numel() for _, targets in parts)
    total = 0.0
    for ids, targets in parts:
        loss = model(ids, targets) * (targets.numel() / everything)
        loss.backward()
        total += loss.item()
    return total
