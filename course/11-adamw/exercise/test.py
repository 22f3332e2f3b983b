"""What a solution must do; `solution` is the module under test."""

import torch

from gpt.config import TrainConfig
from gpt.optim import build_optimizer


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    config = TrainConfig(lr=0.1, beta1=0.8, beta2=0.9, weight_decay=0.3)
    torch.manual_seed(1)
    module = torch.nn.Linear(3, 2, bias=False).double()
    optimizer = build_optimizer(module, config)
    weight, state = module.weight.detach().clone(), {}
    for number in range(1, 5):
        gradient = torch.randn(2, 3, dtype=torch.float64) * 10.0 ** torch.randint(-3, 3, (2, 3))
        weight = solution.step(weight, gradient, state, config)
        module.weight.grad = gradient
        optimizer.step()
        assert torch.allclose(weight, module.weight, atol=1e-9), f"update {number}"
