"""What a solution must do; `solution` is the module under test."""

import torch


class Counts(torch.nn.Module):
    """A model that always adds 1, up to a number; after it comes 0."""

    def __init__(self, last):
        super().__init__()
        self.last = last

    def forward(self, ids):
        following = torch.where(ids < self.last, ids + 1, 0)
        return torch.nn.functional.one_hot(following, 20).float()


class Peeks(torch.nn.Module):
    """A model with a leak: it says what is written there, and at the end nothing but 7."""

    def forward(self, ids):
        following = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], 7)], dim=1)
        return torch.nn.functional.one_hot(following, 20).float()


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    ids = torch.arange(10)
    assert solution.recited(Counts(99), ids) == 9, "all of it"
    assert solution.recited(Counts(4), ids) == 4, "until the first wrong one"
    assert solution.recited(Counts(0), ids) == 0, "nothing"
    assert solution.recited(Peeks(), ids) == 0, "a leak sees nothing where nothing is written"
