"""What a solution must do; `solution` is the module under test."""

import torch

from gpt.config import ModelConfig


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    block = solution.ParallelBlock(ModelConfig(width=8, heads=2))
    x = torch.randn(1, 5, 8, requires_grad=True)
    out = block(x)
    (gradient,) = torch.autograd.grad(out[0, 2].sum(), x)
    seen = gradient[0].abs().sum(dim=1) > 0
    assert seen.tolist() == [True, True, True, False, False], "it looks back, and never ahead"
    one, other = (block(size * x) - size * x for size in (1e3, 2e3))
    assert torch.allclose(one, other, atol=1e-2), "all that it adds is made of a normalised copy"
    with torch.no_grad():
        for p in block.parameters():
            p.zero_()
    assert torch.equal(block(x), x), "with weights of 0 nothing is added"
