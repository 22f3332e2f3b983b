"""What GPT-2's tokenizer must do: give the ids that GPT-2 was trained with."""

from pathlib import Path

import numpy as np

from buildgpt.course.checking import check, equal, expect, refused

# What the files that OpenAI published with GPT-2 give.
GOLDEN = {
    "": [],
    "!": [0],
    " ": [220],
    "\n\n": [628],
    "Hello world": [15496, 995],
    "Hello, I'm a language model,": [15496, 11, 314, 1101, 257, 3303, 2746, 11],
}
TEXTS = (
    "",
    "To be, or not to be",
    "né 日本 🎭",
    "a  b \t\n\n c\r\n",
    "\x00\u00a0'LL 12345",
    "x" * 99,
)
MERGES = "#version: 0.2\nĠ t\nh e\nĠt he\nÃ ©\nĊ Ċ\n"


@check("each byte has a character of its own, in the order of GPT-2's ids", step="spell")
def spelt(mine):
    table = mine.spelt_bytes()
    causes = [
        "the bytes that do not print come first; they are the last 68",
        "a character's code is taken for the byte, also beyond 255",
        "range stops before its end, so ~ or the last of the others is left out",
    ]
    equal(sorted(table.values()), [*range(256)], given="the bytes, sorted", causes=causes)
    for character, byte in (("!", 33), ("~", 126), ("¡", 161), ("¬", 172), ("®", 174), ("ÿ", 255)):
        given = f"spelt_bytes()[{character!r}], which prints"
        equal(table.get(character), byte, given=given, causes=causes)
    for character, byte in (("Ā", 0), ("Ċ", 10), ("Ġ", 32), ("ġ", 127), ("ł", 160), ("Ń", 173)):
        given = f"spelt_bytes()[{character!r}], whose byte {byte} does not print"
        equal(table.get(character), byte, given=given, causes=causes)
    order = list(table.values())
    wanted = [*range(33, 127), *range(161, 173), *range(174, 256)]
    wanted += [i for i in range(256) if i not in wanted]
    equal(order, wanted, given="the order of the bytes, which is that of their ids", causes=causes)


@check("each line of a merges file is one more piece", step="merges")
def pieces(mine):
    found = mine.gpt2_pieces(MERGES)
    equal(found[:2], [b"!", b'"'], given="the first two pieces, which are single bytes")
    equal(found[220:222], [b" ", b"\x7f"], given="the pieces of ids 220 and 221, single bytes too")
    causes = [
        "the first line, a version, is taken for a merge",
        "the characters are encoded as UTF-8 instead of looked up",
        "the blank between the two halves is taken for a part of the piece",
    ]
    wanted = [b" t", b"he", b" the", "é".encode(), b"\n\n"]
    equal(found[256:], wanted, given=f"pieces from 256 on, of the file {MERGES!r}", causes=causes)


@check("GPT-2's own file gives its 50,256 pieces", step="merges")
def all_pieces(mine):
    path = Path(mine.folder) / "gpt2_merges.txt"
    found = mine.gpt2_pieces(path.read_text(encoding="utf-8"))
    equal((len(found), len(set(found))), (50256, 50256), given="how many, how many different ones")
    for i, piece in ((257, b" a"), (262, b" the"), (15496, b"Hello"), (50255, b" gazed")):
        equal(found[i], piece, given=f"the piece of id {i}")


@check("texts have the ids that GPT-2 was trained with", step="gpt2")
def golden(mine):
    tokenizer = mine.GPT2Tokenizer()
    for text, ids in GOLDEN.items():
        equal(list(tokenizer.encode(text)), ids, given=f"encode({text!r})")
    equal((tokenizer.vocab_size, tokenizer.end_of_text), (50257, 50256), given="vocab_size, end")
    same = mine.build_tokenizer({"kind": "gpt2"}).encode("Hello world")
    equal(list(same), [15496, 995], given='build_tokenizer({"kind": "gpt2"}).encode("Hello world")')


@check("every text comes back, and none holds the end of text", step="gpt2")
def round_trip(mine):
    tokenizer = mine.GPT2Tokenizer()
    for text in (*TEXTS, "<|endoftext|>"):
        ids = list(tokenizer.encode(text))
        equal(tokenizer.decode(ids), text, given=f"decode(encode({text!r}))")
        expect(50256 not in ids, ids, "no end of text", f"encode({text!r})")


@check("each piece is spelt in characters, with its id: GPT-2's vocab.json", step="spelling")
def spelling(mine):
    words = mine.GPT2Tokenizer().spelling()
    equal(len(words), 50257, given="how many words")
    causes = ["the end of text is spelt out by characters, or forgotten", "the ids begin at 1"]
    known = {"!": 0, "Ġ": 220, "Ċ": 198, "Ġthe": 262, "Hello": 15496, "<|endoftext|>": 50256}
    for word, i in known.items():
        equal(words.get(word), i, given=f"spelling()[{word!r}]", causes=causes)
    equal(sorted(words.values()), [*range(50257)], given="all ids")


@check("a text becomes an array of the same ids, without a list on the way", step="array")
def array(mine):
    tokenizer = mine.GPT2Tokenizer()
    for text in (*TEXTS, "<|endoftext|> and", "a\ud800b"):
        found = tokenizer.encode_array(text)
        given = f"encode_array({text!r})"
        causes = ["tiktoken's own array has 32 bits a number: astype makes it narrower"]
        expect(isinstance(found, np.ndarray), type(found).__name__, "an array", given)
        equal(str(found.dtype), "uint16", given=f"{given}.dtype", causes=causes)
        equal(found.tolist(), list(tokenizer.encode(text)), given=given)

    def never(text):
        raise AssertionError("encode was called, which makes a list")

    tokenizer.encode = never
    equal(tokenizer.encode_array("Hello world").tolist(), [15496, 995], given="encode_array")


@check("a tokenizer of characters knows those of its text, and names any other", step="characters")
def characters(mine):
    made = mine.CharTokenizer("hello né")
    equal(made.vocab_size, 8, given='CharTokenizer("hello né").vocab_size: 7 and the end of text')
    for text in ("", "hole", "né hello"):
        ids = list(made.encode(text))
        equal(len(ids), len(text), given=f"ids of {text!r}")
        equal(made.decode(ids), text, given=f"decode({ids})")
    with refused("encode('hallo')", which="'a'"):
        made.encode("hallo")
    again = mine.build_tokenizer(made.to_dict())
    equal(again.pieces, made.pieces, given="pieces after to_dict and build_tokenizer")
