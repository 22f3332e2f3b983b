"""What a solution must do; `solution` is the module under test."""

from unittest import mock

import torch

from gpt.config import ModelConfig
from gpt.model import GPT


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    torch.manual_seed(1)
    config = ModelConfig(layers=2, heads=2, width=16, context=32, vocab_size=257, init_std=0.4)
    model, text = GPT(config).double().eval(), [1, 2, 3]
    with torch.no_grad():
        while len(text) < 9:
            text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
        right = text[3:]
        wrong = [(i + 1) % 257 for i in right]
        for guesses, wanted in (
            ([], right[:1]),
            (right[:1], right[:2]),
            (right[:5], right[:6]),
            (wrong[:2], right[:1]),
            ([*right[:2], wrong[2], right[3]], right[:3]),
        ):
            cache = model.new_cache()
            model.hidden(torch.tensor([text[:2]]), cache)
            with mock.patch.object(model, "hidden", wraps=model.hidden) as asked:
                found = solution.accepted(model, cache, text[2], guesses)
            assert found == wanted, f"guesses {guesses}: {found}, not {wanted}"
            assert asked.call_count == 1, f"the model was asked {asked.call_count} times, not once"
