"""What a solution must do; `solution` is the module under test."""

import torch

from gpt.config import ModelConfig
from gpt.model import GPT


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    torch.manual_seed(1)
    config = ModelConfig(layers=1, heads=2, width=16, context=9, vocab_size=20, init_std=0.3)
    model = GPT(config).double()
    sizes = ((1, 9), (3, 2), (2, 5))
    parts = [tuple(torch.randint(20, (2, *size)).unbind()) for size in sizes]
    losses = [model(*part, reduction="none").flatten() for part in parts]
    mean = torch.cat(losses).mean()
    wanted = torch.autograd.grad(mean, list(model.parameters()))
    found = solution.accumulate(model, parts)
    assert abs(found - mean.item()) < 1e-9, "the mean over all targets"
    for parameter, gradient in zip(model.parameters(), wanted):
        assert torch.allclose(parameter.grad, gradient, atol=1e-9), "its gradient"
