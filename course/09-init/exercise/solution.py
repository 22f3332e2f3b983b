"""The parameters of a GPT-2, with pencil and paper."""

from gpt.config import ModelConfig


def count(config: ModelConfig) -> int:
    """As many as GPT(config) has, without making one."""
    width = config.width
    attention = width * 3 * width + 3 * width + width * width + width
    mlp = width * 4 * width + 4 * width + 4 * width * width + width
    norm = 2 * width
    tables = (config.vocab_size + config.context) * width
    return tables + config.layers * (attention + mlp + 2 * norm) + norm
