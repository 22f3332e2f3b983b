"""What a solution must do; `solution` is the module under test."""

import torch


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    torch.manual_seed(1)
    for rows, columns in ((1, 1), (3, 3), (9, 4)):
        left = torch.linalg.qr(torch.randn(rows, rows, dtype=torch.float64))[0][:, :columns]
        right = torch.linalg.qr(torch.randn(columns, columns, dtype=torch.float64))[0]
        values = torch.linspace(1.0, 0.1, columns, dtype=torch.float64)
        for scale in (1.0, 50.0):
            found = solution.nearest(scale * (left * values) @ right, 40)
            off = (found - left @ right).abs().max().item()
            assert off < 1e-9, f"{rows} x {columns}: {off:.3g} off after 40 steps"
        by_hand = values / values.norm()
        for _ in range(2):
            by_hand = 1.5 * by_hand - 0.5 * by_hand**3
        found = torch.linalg.svdvals(solution.nearest((left * values) @ right, 2))
        off = (found - by_hand.sort(descending=True).values).abs().max().item()
        assert off < 1e-9, f"{rows} x {columns}: singular values {off:.3g} off after 2 steps"
