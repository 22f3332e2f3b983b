"""Text to ids and back: bytes, characters, byte-pair encoding, GPT-2's own.

A tokenizer is a list of pieces, byte strings indexed by id, and a way to cut a text into them.
The last piece always means "end of text"; no text encodes to it, not even its own spelling.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tiktoken

from .config import UsageError, UserError, write_text

END_OF_TEXT = "<|endoftext|>"


class Tokenizer:
    """What all tokenizers share. `pieces`: id -> bytes, `vocab_size`, `end_of_text` (an id)."""

    kind = ""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [*pieces, END_OF_TEXT.encode()]
        self.vocab_size = len(self.pieces)
        self.end_of_text = self.vocab_size - 1

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without any end of text."""
        raise NotImplementedError

    def encode_array(self, text: str) -> np.ndarray:
        """The same as uint16, for shards."""
        return np.array(self.encode(text), dtype=np.uint16)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that the ids stand for; an id outside the vocabulary is a UserError."""
        ids = list(ids)
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise UserError(f"the id {i} is outside the vocabulary of {self.vocab_size}")
        return b"".join([self.pieces[i] for i in ids])

    def decode(self, ids: Iterable[int]) -> str:
        """The text that the ids stand for; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def to_dict(self) -> dict[str, Any]:
        """What is needed to build the same tokenizer again, as JSON values."""
        return {"kind": self.kind}

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`."""
        write_text(path, json.dumps(self.to_dict(), ensure_ascii=False) + "\n")


class ByteTokenizer(Tokenizer):
    """256 ids, one a byte, and end of text. Round-trips every byte string."""

    kind = "byte"

    def __init__(self) -> None:
        super().__init__([bytes([i]) for i in range(256)])

    def encode(self, text: str) -> list[int]:
        return self.encode_bytes(text.encode("utf-8", errors="replace"))

    def encode_bytes(self, data: bytes) -> list[int]:
        """One id a byte."""
        return list(data)


class CharTokenizer(Tokenizer):
    """One id a character of a given text, in code point order. Does not handle any other."""

    kind = "char"

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = "".join(sorted(set(characters)))
        self.ids = {character: i for i, character in enumerate(self.characters)}
        super().__init__([c.encode("utf-8", errors="replace") for c in self.characters])

    def encode(self, text: str) -> list[int]:
        try:
            return [self.ids[character] for character in text]
        except KeyError as error:
            unknown = error.args[0]
            raise UserError(
                f"the tokenizer does not know the character {unknown!r} (U+{ord(unknown):04X});"
                f" it knows these {len(self.characters)}: {self.characters[:100]!r}"
            ) from None

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "characters": self.characters}


Pair = tuple[int, int]


class BytePairTokenizer(Tokenizer):
    """Byte-pair encoding (Sennrich et al. 2016, over bytes as in GPT-2), small and trainable.

    Id 256 + i is the i-th merge, a pair of earlier ids. Round-trips every byte string.
    Written to be understood: it trains on megabytes, not on gigabytes.
    """

    kind = "bpe"
    # A merge never crosses these borders: words, numbers, signs and white space stay apart.
    # Like GPT-2's pattern, with the letter classes that the standard library has.
    chunks = re.compile(r" ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")

    def __init__(self, merges: Iterable[Iterable[int]]) -> None:
        self.merges: list[Pair] = [(left, right) for left, right in merges]
        self.ranks = {pair: 256 + i for i, pair in enumerate(self.merges)}
        pieces = [bytes([i]) for i in range(256)]
        for left, right in self.merges:
            pieces.append(pieces[left] + pieces[right])
        super().__init__(pieces)
        self.encode_chunk = lru_cache(maxsize=1 << 16)(self.encode_bytes)

    @classmethod
    def train(cls, text: str, vocab_size: int) -> "BytePairTokenizer":
        """Merge the most frequent pair, again and again; of equals, the pair of lowest ids.

        Stops early when no pair is left, so the vocabulary may end up smaller than asked.
        """
        if vocab_size < 257:
            raise UsageError("a byte-pair vocabulary holds at least 257: 256 bytes and end of text")
        words = Counter(cls.chunks.findall(text))
        trainer = PairCounts([list(w.encode("utf-8", "replace")) for w in words], words.values())
        merges: list[Pair] = []
        while len(merges) < vocab_size - 257 and (pair := trainer.most_frequent()):
            trainer.merge(pair, 256 + len(merges))
            merges.append(pair)
        return cls(merges)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for chunk in self.chunks.findall(text):
            ids.extend(self.encode_chunk(chunk.encode("utf-8", errors="replace")))
        return ids

    def encode_bytes(self, data: bytes) -> list[int]:
        """Merge within one chunk: of all pairs in it, always the one that was learnt first."""
        ids = list(data)
        while len(ids) > 1:
            pair = min(pairwise(ids), key=lambda p: self.ranks.get(p, self.vocab_size))
            if pair not in self.ranks:
                break
            ids = join(ids, pair, self.ranks[pair])
        return ids

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "merges": self.merges}


class PairCounts:
    """How often each pair of ids occurs in some words, kept up to date merge by merge."""

    def __init__(self, words: list[list[int]], counts: Iterable[int]) -> None:
        self.words, self.counts = words, list(counts)
        self.pairs: Counter[Pair] = Counter()
        self.where: defaultdict[Pair, set[int]] = defaultdict(set)
        for index in range(len(words)):
            self.count(index, sign=1)

    def count(self, index: int, sign: int) -> None:
        """Add (sign 1) or take away (sign -1) the pairs of one word."""
        word = self.words[index]
        for pair in pairwise(word):
            self.pairs[pair] += sign * self.counts[index]
            if sign > 0:
                self.where[pair].add(index)

    def most_frequent(self) -> Pair | None:
        """The most frequent pair, the one of lowest ids among equals; None if there is none."""
        highest = max(self.pairs.values(), default=0)
        return min(p for p, n in self.pairs.items() if n == highest) if highest else None

    def merge(self, pair: Pair, new: int) -> None:
        """Replace the pair by the new id in every word that holds it."""
        for index in self.where.pop(pair):
            self.count(index, sign=-1)
            self.words[index] = join(self.words[index], pair, new)
            self.count(index, sign=1)
        del self.pairs[pair]


def join(ids: list[int], pair: Pair, new: int) -> list[int]:
    """Replace each occurrence of a pair, from the left: join([1, 2, 1], (1, 2), 9) -> [9, 1]."""
    joined, i = [], 0
    while i < len(ids):
        found = i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair
        joined.append(new if found else ids[i])
        i += 2 if found else 1
    return joined


class GPT2Tokenizer(Tokenizer):
    """GPT-2's 50,257 ids (Radford et al. 2019, section 2.2), encoded by tiktoken.

    The ranks are rebuilt from the merges in this package, so nothing is downloaded.
    """

    kind = "gpt2"
    # Contractions, words, numbers and signs with the space before them, white space.
    chunks = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

    def __init__(self) -> None:
        pieces = gpt2_pieces((Path(__file__).parent / "gpt2_merges.txt").read_text("utf-8"))
        super().__init__(pieces)
        self.encoding = tiktoken.Encoding(
            name="gpt2",
            pat_str=self.chunks,
            mergeable_ranks={piece: i for i, piece in enumerate(pieces)},
            special_tokens={END_OF_TEXT: self.end_of_text},
            explicit_n_vocab=self.vocab_size,
        )

    def encode(self, text: str) -> list[int]:
        return self.encoding.encode_ordinary(text)

    def encode_array(self, text: str) -> np.ndarray:
        """Without a list, which takes longer; only that takes half of a surrogate pair."""
        try:
            ids = self.encoding.encode_to_numpy(text, disallowed_special=())
        except UnicodeEncodeError:
            return super().encode_array(text)
        return ids.astype(np.uint16)

    def spelling(self) -> dict[str, int]:
        """Each piece as the merges file spells it, with its id: GPT-2's vocab.json."""
        spelt = {byte: character for character, byte in spelt_bytes().items()}
        words = ["".join(spelt[byte] for byte in piece) for piece in self.pieces[:-1]]
        return {word: i for i, word in enumerate([*words, END_OF_TEXT])}


def spelt_bytes() -> dict[str, int]:
    """How GPT-2's files spell bytes: each as one visible character.

    Those that print stand for themselves and come first, the other 68 move up to U+0100 and on.
    """
    visible = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), 256),
    ]
    hidden = [i for i in range(256) if i not in visible]
    return {chr(i): i for i in visible} | {chr(256 + n): i for n, i in enumerate(hidden)}


def gpt2_pieces(merges: str) -> list[bytes]:
    """The bytes of ids 0..50255 from GPT-2's merges file, a pair of spelt-out pieces a line."""
    byte_of = spelt_bytes()
    pieces = [bytes([i]) for i in byte_of.values()]
    for line in merges.splitlines()[1:]:  # the first line is a version
        pieces.append(bytes(byte_of[c] for c in line.replace(" ", "")))
    return pieces


def build_tokenizer(description: dict[str, Any], source: str = "this") -> Tokenizer:
    """The tokenizer that `to_dict` described; UserError, with its source, if it describes none."""
    try:
        match description:
            case {"kind": "byte"}:
                return ByteTokenizer()
            case {"kind": "char", "characters": str(characters)}:
                return CharTokenizer(characters)
            case {"kind": "bpe", "merges": list(merges)}:
                return BytePairTokenizer(merges)
            case {"kind": "gpt2"}:
                return GPT2Tokenizer()
    except (ValueError, TypeError, IndexError):  # merges that are no pairs of earlier ids
        pass
    raise UserError(f"{source} describes no tokenizer of this project: {str(description)[:80]}")


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a `tokenizer.json` that `Tokenizer.save` wrote."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the tokenizer {path}: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{path} is damaged: it is not a tokenizer of this project") from None
    return build_tokenizer(description, str(path))
