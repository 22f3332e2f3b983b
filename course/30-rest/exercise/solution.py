"""How much of the past a token has."""


def seen(ids: list[int], end_of_text: int, window: int) -> list[int]:
    """Of each token, how many tokens it sees, itself among them: those of its own document, and of
    those the last `window` ones. An end of text opens the document of what comes after it."""
    found, length = [], 0
    for i in ids:
        length = 1 if i == end_of_text else length + 1
        found.append(min(length, window))
    return found
