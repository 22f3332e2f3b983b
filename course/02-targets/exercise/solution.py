"""How many tokens an epoch never reads."""


def dropped(tokens: int, context: int) -> int:
    """Those after the last whole sequence; the last target of it is read."""
    sequences = (tokens - 1) // context
    return tokens - 1 - sequences * context


def worst(tokens: int, below: int) -> int:
    """The context that wastes the most."""
    return max(range(1, below), key=lambda context: dropped(tokens, context))
