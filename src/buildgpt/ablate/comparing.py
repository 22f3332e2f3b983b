"""Whether a difference is more than noise: paired by seed, by Student's t."""

import math
import statistics
from typing import Any

# 97.5 % of Student's distribution with 1, 2, 3, ... degrees of freedom lie below.
STUDENT_T = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281]
STUDENT_T += [2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860]
MOST_SEEDS = len(STUDENT_T) + 1

CRITERION = (
    "A gain is how much lower the validation loss is with a change than without it, also in the"
    " row of what lacks it: the mean over seeds of the differences, paired by seed, with its 95 %"
    " interval by Student's t. If 0 lies in the interval, or the mean is below 0.0001, which the"
    " order of sums alone can bring, the difference is within noise. Each"
    " interval stands for itself: of twenty changes that do nothing, one is expected to lie"
    " outside by chance."
)


def compare(worse: dict[int, float], better: dict[int, float]) -> dict[str, Any]:
    """The gain of `better` over `worse`, both losses by seed.

    Returns differences by seed, mean, deviation and half_width (None with less than two), verdict.
    The interval is mean ± t * deviation / sqrt(n), t having n - 1 degrees of freedom.
    """
    differences = {seed: worse[seed] - better[seed] for seed in worse if seed in better}
    count, values = len(differences), list(differences.values())
    mean = statistics.fmean(values) if values else None
    deviation = statistics.stdev(values) if count > 1 else None
    half = None
    if deviation is not None:
        half = STUDENT_T[count - 2] * deviation / math.sqrt(count)
    return {
        "differences": differences,
        "mean": mean,
        "deviation": deviation,
        "half_width": half,
        "verdict": verdict(mean, half),
    }


ROUNDING = 1e-4  # a difference of losses so small comes from the order of sums


def verdict(mean: float | None, half: float | None) -> str:
    """In words, what a gain and its interval come to."""
    if mean is None:
        return "not measured"
    if half is None:
        return "one seed: noise unknown"
    if abs(mean) <= max(half, ROUNDING):
        return "within noise"
    return "helps" if mean > 0 else "hurts"


def spread(losses: list[float]) -> tuple[float | None, float | None]:
    """The mean and the standard deviation, as far as there are any."""
    mean = statistics.fmean(losses) if losses else None
    return mean, statistics.stdev(losses) if len(losses) > 1 else None
