"""Characters that break."""

from gpt.tokenizer import BytePairTokenizer


def broken(tokenizer: BytePairTokenizer, text: str) -> int:
    """How many tokens of a text are no text by themselves."""
    pieces = [tokenizer.pieces[i] for i in tokenizer.encode(text)]
    return sum("\ufffd" in piece.decode("utf-8", errors="replace") for piece in pieces)
