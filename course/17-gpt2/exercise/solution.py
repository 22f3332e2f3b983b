"""Words that are there twice."""

from gpt.tokenizer import Tokenizer


def twins(tokenizer: Tokenizer) -> int:
    """How many pieces are also there with a blank before them."""
    pieces = set(tokenizer.pieces[: tokenizer.end_of_text])
    return sum(b" " + piece in pieces for piece in pieces)
