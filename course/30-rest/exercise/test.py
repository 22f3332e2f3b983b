"""What a solution must do; `solution` is the module under test."""

import torch

from gpt.config import ModelConfig, ModernConfig
from gpt.modern import Modern, mask


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    model = Modern(
        ModelConfig(layers=2, heads=2, width=16, context=9, vocab_size=5), ModernConfig()
    )
    for ids in ([0], [4], [1, 2, 3], [4, 1, 2, 4, 0, 1], [0, 1, 4, 4, 2, 3, 1, 0, 2]):
        known = torch.tensor([ids])
        for window in (1, 2, 4, 9):
            table = mask(known, 0, window, model.documents(known))
            wanted = (table[0, 0] == 0).sum(dim=1).tolist()
            found = solution.seen(ids, 4, window)
            assert found == wanted, f"{ids}, a window of {window}: {wanted}, not {found}"
