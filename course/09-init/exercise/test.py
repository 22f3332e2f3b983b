"""What a solution must do; `solution` is the module under test."""

import torch

from gpt.config import SIZES, ModelConfig
from gpt.model import GPT


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    for shape in (*SIZES.values(), {"layers": 1, "heads": 1, "width": 6}):
        config = ModelConfig(**shape, context=10, vocab_size=100)
        with torch.device("meta"):
            wanted = GPT(config).parameter_count()
        assert solution.count(config) == wanted, f"{shape}: {wanted}"
