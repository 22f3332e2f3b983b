"""A bigram model by counting."""

import numpy as np


def count_bigrams(stream: np.ndarray, vocab_size: int) -> tuple[np.ndarray, float]:
    """(V, V) of how often the column's id follows the row's, and the loss of guessing by it."""
    counts = np.zeros((vocab_size, vocab_size))
    np.add.at(counts, (stream[:-1], stream[1:]), 1)
    chances = counts / counts.sum(axis=1, keepdims=True).clip(1)
    seen = counts > 0
    return counts, float(-(counts[seen] * np.log(chances[seen])).sum() / counts.sum())
