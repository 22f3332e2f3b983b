"""AdamW by hand."""

from torch import Tensor


def step(weight: Tensor, gradient: Tensor, state: dict, config) -> Tensor:
    """The weight after one update. `state` holds what is remembered between updates; it is empty
    before the first. `config` has lr, beta1, beta2 and weight_decay."""
    t = state["t"] = state.get("t", 0) + 1
    m = state["m"] = config.beta1 * state.get("m", 0.0) + (1 - config.beta1) * gradient
    v = state["v"] = config.beta2 * state.get("v", 0.0) + (1 - config.beta2) * gradient**2
    mean, size = m / (1 - config.beta1**t), (v / (1 - config.beta2**t)).sqrt()
    return weight * (1 - config.lr * config.weight_decay) - config.lr * mean / (size + 1e-8)
