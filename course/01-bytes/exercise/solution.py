"""One id a character of a given text, in code point order. It stands beside ByteTokenizer."""

from collections.abc import Iterable

from gpt.tokenizer import END_OF_TEXT


class CharTokenizer:
    """Does not handle any character that the text does not have."""

    def __init__(self, text: str) -> None:
        self.characters = sorted(set(text))
        self.ids = {character: i for i, character in enumerate(self.characters)}
        self.pieces = [*self.characters, END_OF_TEXT]
        self.vocab_size = len(self.pieces)
        self.end_of_text = self.vocab_size - 1

    def encode(self, text: str) -> list[int]:
        """The ids of a text; ValueError for a character that is not known."""
        for character in text:
            if character not in self.ids:
                raise ValueError(f"the tokenizer does not know the character {character!r}")
        return [self.ids[character] for character in text]

    def decode(self, ids: Iterable[int]) -> str:
        """The text that the ids stand for."""
        return "".join([self.pieces[i] for i in ids])
