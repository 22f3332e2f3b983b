"""What a solution must do; `solution` is the module under test."""

import torch


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    torch.manual_seed(1)
    ties = 1 + torch.arange(16) / 256  # every other one lies in the middle of two
    several = [torch.tensor([0.0, 1.0, -1.0, 3.14159265]), ties, -ties, torch.randn(1000)]
    several += [torch.randn(1000) * 1e-30, torch.randn(1000) * 1e30]
    for x in several:
        found, wanted = solution.to_bf16(x), x.bfloat16().float()
        assert found.dtype == torch.float32, f"it is of {found.dtype}"
        for given, one, other in zip(x.tolist(), found.tolist(), wanted.tolist()):
            assert one == other, f"{given!r} is {other!r} in bf16, not {one!r}"
