"""What a solution must do; `solution` is the module under test."""

from gpt.config import TrainConfig
from gpt.optim import learning_rate


def test(solution) -> None:
    """Raise AssertionError unless it does."""
    for warmup in (0, 3, 24):
        config = TrainConfig(lr=0.5, warmup_steps=warmup)
        rates = [solution.inverse_root(step, config) for step in range(16 * (warmup + 1))]
        for step in range(warmup + 1):
            wanted = learning_rate(step, 10**6, config)
            assert abs(rates[step] - wanted) < 1e-6, f"step {step} of {warmup} of warm-up"
        assert max(rates) == rates[warmup], "the highest at the end of the warm-up"
        assert all(a > b for a, b in zip(rates[warmup:], rates[warmup + 1 :])), "then it falls"
        assert abs(rates[-1] - 0.5 / 4) < 1e-9, "16 times the steps, a fourth of the rate"
