"""Guessing ahead."""

import torch

from gpt.model import GPT, Cache


def accepted(model: GPT, cache: list[Cache], last: int, guesses: list[int]) -> list[int]:
    """What a greedy model goes on with, given some guesses at that: the guesses before the first
    wrong one, and the token that is right after them.

    `cache` holds the text but its `last` token. The model is asked once.
    """
    ids = torch.tensor([[last, *guesses]])
    best = model.logits(model.hidden(ids, cache))[0].argmax(dim=-1).tolist()
    found = []
    for guess, right in zip([*guesses, -1], best):
        found.append(right)
        if guess != right:
            break
    return found
