"""The schedule of the first transformers."""

import math


def inverse_root(step: int, config) -> float:
    """The rate of the update that follows `step` updates: warm-up to config.lr in
    config.warmup_steps, then down with the root of the number of the update, from 1 on."""
    number, warm = step + 1, config.warmup_steps + 1
    return config.lr * min(number / warm, math.sqrt(warm / number))
