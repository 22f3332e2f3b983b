"""Which of two is better, where they differ?"""

import math


def differ(one: list[bool], other: list[bool]) -> float:
    """How likely it is that fair coins fall at least as unevenly as two models' answers differ.

    An item that both have right, or both wrong, says nothing (McNemar 1947).
    """
    only_one = sum(a and not b for a, b in zip(one, other))
    count = sum(a != b for a, b in zip(one, other))
    least = min(only_one, count - only_one)
    tail = sum(math.comb(count, k) for k in range(least + 1)) / 2**count
    return min(1.0, 2 * tail)
