"""What a solution must do; `solution` is the module under test."""

import torch

from gpt.config import ModelConfig
from gpt.model import GPT


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    torch.manual_seed(1)
    model = GPT(ModelConfig(layers=3, heads=2, width=8, context=8, vocab_size=257, init_std=0.5))
    ids = torch.arange(8)[None]
    for layers in (1, 2, 3):
        smaller = solution.first_layers(model, layers)
        assert smaller.config.layers == layers, f"the config says {smaller.config.layers}"
        blocks = [*model.blocks][:layers]
        x = model.token_embedding(ids) + model.position_embedding(torch.arange(8))
        for block in blocks:
            x = block(x)
        wanted = model.logits(model.norm(x))
        assert torch.allclose(smaller(ids), wanted, atol=1e-6), f"other logits, {layers} layers"
    assert len(model.blocks) == 3, "the model itself has changed"
