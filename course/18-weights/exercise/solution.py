"""A model of fewer layers, without training."""

import dataclasses

from gpt.model import GPT


def first_layers(model: GPT, layers: int) -> GPT:
    """A model of the first so many layers, with the same weights as far as it has them."""
    smaller = GPT(dataclasses.replace(model.config, layers=layers))
    kept = smaller.state_dict().keys()
    smaller.load_state_dict({k: v for k, v in model.state_dict().items() if k in kept})
    return smaller.train(model.training)
