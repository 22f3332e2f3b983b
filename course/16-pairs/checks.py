"""What byte-pair encoding must do: merges by frequency, and texts that come back."""

import json
import math
import re
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from buildgpt.course.checking import check, equal, evaluation, expect, near, refused, stream, works

# The chunks of these texts are their words, each with the blank before it.
TEXT = "low lower newest widest low newest low newest widest low lowest newest" * 2
TEXTS = ("", "a", "low", TEXT, "né 日本 🎭", "line\r\n\tline  \n\n end \x00", "<|endoftext|>")


@check("a tokenizer is what its list of pieces says, and can describe itself", step="family")
def family(mine):
    made = mine.Tokenizer([b"ab", b"c"])
    equal((made.vocab_size, made.end_of_text), (3, 2), given="vocab_size, end_of_text of 2 pieces")
    equal(made.decode([1, 0, 0]), "cabab", given='Tokenizer([b"ab", b"c"]).decode([1, 0, 0])')
    with refused('Tokenizer([b"ab", b"c"]).decode([3])', the_id="3"):
        made.decode([3])
    tokenizer = mine.ByteTokenizer()
    expect(isinstance(tokenizer, mine.Tokenizer), "another class", "a Tokenizer", "ByteTokenizer")
    equal(tokenizer.to_dict(), {"kind": "byte"}, given="ByteTokenizer().to_dict()")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        tokenizer.save(path)
        found = json.loads(path.read_text(encoding="utf-8"))
        equal(found, {"kind": "byte"}, given="what save writes")
        equal(len(list(Path(folder).iterdir())), 1, given="files in the folder after save")


@check("each occurrence of a pair becomes the new id, from the left", step="join")
def joins(mine):
    causes = [
        "an id takes part in two pairs: after a pair that was found, go on behind it",
        "what comes last is lost where it is no pair",
    ]
    for ids, pair, wanted in (
        ([], (1, 2), []),
        ([1], (1, 2), [1]),
        ([1, 2], (1, 2), [9]),
        ([2, 1], (1, 2), [2, 1]),
        ([1, 2, 1], (1, 2), [9, 1]),
        ([3, 1, 2, 1, 2], (1, 2), [3, 9, 9]),
        ([1, 1, 2], (1, 2), [1, 9]),
        ([5, 5, 5], (5, 5), [9, 5]),
        ([5, 5, 5, 5], (5, 5), [9, 9]),
    ):
        before = [*ids]
        given = f"join({ids}, {pair}, 9)"
        equal(list(mine.join(ids, pair, 9)), wanted, given=given, causes=causes)
        equal(ids, before, given=f"the list that went into {given}", causes=["it is changed"])


def naive_best(words, counts):
    """The most frequent pair, the lowest of equals; None if there is none."""
    pairs = Counter()
    for word, count in zip(words, counts):
        for pair in pairwise(word):
            pairs[pair] += count
    return min(pairs, key=lambda pair: (-pairs[pair], pair)) if pairs else None


def naive_join(ids, pair, new):
    """The same list with the pair replaced."""
    found = []
    for i in ids:
        if found and (found[-1], i) == pair and found[-1] != new:
            found[-1] = new
        else:
            found.append(i)
    return found


CAUSES = [
    "each word counts once, not as often as it occurs",
    "of equally frequent pairs it is not the one of lowest ids",
    "pairs are counted from the last id of a word to the first one of the next",
]


@check("the most frequent pair is found, each word counting as often as it occurs", step="pairs")
def most_frequent(mine):
    for words, counts in (
        ([], []),
        ([[1]], [5]),
        ([[1, 2]], [1]),
        ([[1, 2], [3, 4]], [1, 2]),
        ([[3, 4], [1, 2]], [2, 2]),
        ([[1, 2, 1, 2], [2, 1]], [1, 3]),
        ([[7, 7, 7], [1, 2]], [1, 1]),
        ([[1], [2], [1], [2]], [9, 9, 9, 9]),
    ):
        given = f"PairCounts({words}, {counts}).most_frequent()"
        with works(given, ["no words, or words of one id: where there is no pair, None is due"]):
            found = mine.PairCounts([[*word] for word in words], counts).most_frequent()
        equal(found, naive_best(words, counts), given=given, causes=CAUSES)


@check("after a merge, pairs are counted in the words as they are then", step="pairs")
def merges(mine):
    cases = [
        ([[1, 2, 3], [1, 2]], [1, 1]),
        ([[1, 1, 1, 1], [1, 1]], [2, 1]),
        ([list(word.encode()) for word in TEXT.split()], [1] * len(TEXT.split())),
    ]
    for words, counts in cases:
        learner, new = mine.PairCounts([[*word] for word in words], counts), 256
        causes = ["a pair that stands in a word twice is taken out of the count once", *CAUSES]
        while new < 275 and (pair := naive_best(words, counts)):
            given = f"{counts} times {words}, most_frequent after {new - 256} merges"
            equal(learner.most_frequent(), pair, given=given, causes=causes)
            learner.merge(pair, new)
            words = [naive_join(word, pair, new) for word in words]
            new += 1
        wanted = naive_best(words, counts)
        equal(learner.most_frequent(), wanted, given=f"what is left of {words}", causes=causes)


@check("a tokenizer is built from its description, and its pieces from merges", step="pieces")
def described(mine):
    made = mine.build_tokenizer({"kind": "bpe", "merges": [[116, 104], [256, 101]]})
    equal(made.pieces[256:258], [b"th", b"the"], given="pieces of the merges t + h, th + e")
    equal((made.vocab_size, made.end_of_text), (259, 258), given="vocab_size, end_of_text")
    equal(made.decode([257, 256, 33]), "theth!", given="decode([257, 256, 33])")
    equal(mine.build_tokenizer({"kind": "byte"}).vocab_size, 257, given="of bytes: vocab_size")
    for wrong in ({}, {"kind": "none"}, {"kind": "bpe"}, {"kind": "bpe", "merges": [[300, 1]]}):
        with refused(f"build_tokenizer({wrong})"):
            mine.build_tokenizer(wrong)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        made.save(path)
        again = mine.load_tokenizer(path)
        equal(again.pieces, made.pieces, given="pieces of what was saved and loaded")
        path.write_text("{", encoding="utf-8")
        with refused("load_tokenizer of a damaged file", its_name="tokenizer.json"):
            mine.load_tokenizer(path)
        with refused("load_tokenizer of a file that is not there", its_name="none.json"):
            mine.load_tokenizer(Path(folder) / "none.json")


def naive_merges(text, count):
    """What training must find, as slowly as can be."""
    words = [list(word.encode()) for word in re.findall(r" ?\w+", text)]
    found = []
    while len(found) < count and (pair := naive_best(words, [1] * len(words))):
        words = [naive_join(word, pair, 256 + len(found)) for word in words]
        found.append(pair)
    return found


@check("training merges the most frequent pair, again and again", step="learn")
def learns(mine):
    for text, vocab_size in (
        ("", 300),
        ("ab ab", 257),
        ("ab", 300),
        ("ab ab cd", 258),
        (TEXT, 262),
        (TEXT, 400),
    ):
        short = text if len(text) < 20 else text[:20] + "..."
        nothing_left = ["it goes on though no pair is left: most_frequent gives None then"]
        with works(f"train({short!r}, {vocab_size})", nothing_left):
            made = mine.BytePairTokenizer.train(text, vocab_size)
        wanted = naive_merges(text, vocab_size - 257)
        pieces = [bytes([i]) for i in range(256)]
        for left, right in wanted:
            pieces.append(pieces[left] + pieces[right])
        given = f"train({short!r}, {vocab_size}): pieces after the bytes"
        causes = [
            "a merge too many or too few: 256 bytes, the merges and the end of text are the ids",
            "the new id is not 256 and the number of merges so far",
            *CAUSES,
        ]
        equal(made.pieces[256:-1], pieces[256:], given=given, causes=causes)
        given = f"train({short!r}, {vocab_size}).vocab_size"
        equal(made.vocab_size, 257 + len(wanted), given=given)


@check(
    "no merge goes from one word into the next, and fewer than 257 ids are refused", step="learn"
)
def borders(mine):
    made = mine.BytePairTokenizer.train("to be or not to be, to be! " * 20, 400)
    across = [piece for piece in made.pieces[256:-1] if b" " in piece[1:] or b"e," in piece]
    causes = ["the text is taken as one word, and not cut into chunks first"]
    equal(
        across, [], given='pieces with a blank inside, of "to be or not to be, ..."', causes=causes
    )
    causes = ["256 bytes and the end of text are 257 ids: fewer cannot be had"]
    with refused("train(text, 256)", causes, how_many="257"):
        mine.BytePairTokenizer.train("ab", 256)


def naive_ids(text, merges, chunks):
    """A text in ids: each merge, in the order of learning, wherever it fits within a chunk."""
    found = []
    for chunk in chunks.findall(text):
        ids = list(chunk.encode())
        for number, pair in enumerate(merges):
            ids = naive_join(ids, tuple(pair), 256 + number)
        found += ids
    return found


@check("a text is merged in the order in which the merges were learnt", step="encode")
def encodes(mine):
    causes = [
        "merges are made from left to right, or the longest piece first, not the earliest learnt",
        "it ends before nothing is left to merge, or goes on with a pair that was never learnt",
    ]
    for merges, text in (
        ([], "ab"),
        ([[97, 98]], "ab"),
        ([[98, 99], [97, 98]], "abc"),
        ([[97, 98], [98, 99]], "abc"),
        ([[97, 98], [99, 100], [256, 257]], "abcd"),
        ([[97, 97]], "aaaaa"),
        ([[32, 97]], "a a"),
    ):
        made = mine.build_tokenizer({"kind": "bpe", "merges": merges})
        wanted = naive_ids(text, merges, re.compile(r" ?\w+"))
        given = f"encode({text!r}) with the merges {merges}"
        equal(list(made.encode(text)), wanted, given=given, causes=causes)
    made = mine.BytePairTokenizer.train(TEXT, 290)
    wanted = naive_ids(TEXT, naive_merges(TEXT, 33), re.compile(r" ?\w+"))
    equal(list(made.encode(TEXT)), wanted, given="encode of the text it has learnt from")


@check("every text comes back, and none holds the end of text", step="encode")
def round_trip(mine):
    made = mine.BytePairTokenizer.train(TEXT + "né 日本 <|endoftext|>" * 5, 330)
    for text in TEXTS:
        ids = list(made.encode(text))
        causes = ["what stands between the chunks is left out: the pattern must take every sign"]
        equal(made.decode(ids), text, given=f"decode(encode({text!r}))", causes=causes)
        expect(made.end_of_text not in ids, ids, "no end of text", f"encode({text!r})")
    equal(made.encode_array("low low").dtype, np.dtype(np.uint16), given="encode_array's type")


class Watched(list):
    """A list that counts how often somebody goes through it."""

    times = 0

    def __iter__(self):
        self.times += 1
        return super().__iter__()


@check("a merge goes through the words that hold the pair, and not through others", step="kept")
def others_are_left_alone(mine):
    word = Watched([1, 2, 3, 4])
    learner = mine.PairCounts([word, *([[7, 8, 9]] * 3)], [1, 2, 2, 2])
    before = word.times
    for new, pair in ((256, (7, 8)), (257, (256, 9))):
        equal(learner.most_frequent(), pair, given="most_frequent, 3 times 7 8 9, once 1 2 3 4")
        learner.merge(pair, new)
    equal(learner.most_frequent(), (1, 2), given="most_frequent after these two merges")
    given = "how often 1 2 3 4 was gone through after the first count, in two merges of 7 8 9"
    equal(word.times - before, 0, given=given, causes=["all pairs are counted anew"])


class Even:
    """A stand-in for a model, whose loss is the same for each target."""

    def __new__(cls, loss):
        import torch

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.config = SimpleNamespace(context=4)

            def forward(self, ids, targets=None, reduction="mean"):
                return torch.full(targets.shape, float(loss))

        return Model()


@check("the loss of all targets is told in bits for each byte of their text", step="bits")
def bits(mine):
    pieces = [b"a", b"bc", b"def", b"<|endoftext|>"]
    tokenizer = SimpleNamespace(pieces=pieces, end_of_text=3, vocab_size=4)
    causes = [
        "the first token is no target, so its bytes do not count",
        "an end of text stands for no byte of the text",
        "nats are not turned into bits, by the logarithm of 2",
    ]
    for ids, count in (([1, 0], 1), ([2, 0, 1], 3), ([0, 2, 3, 2, 1, 1], 10), ([2, 1, 3], 2)):
        made = stream(mine, ids)
        held = SimpleNamespace(val=made, val_tokens=len(ids), train=made, tokenizer=tokenizer)
        found = evaluation(mine, Even(2.0), held)
        wanted = 2.0 * (len(ids) - 1) / math.log(2) / count
        given = f"2 nats a target, tokens {ids}, their pieces {pieces}: bits_per_byte"
        near(found.bits_per_byte, wanted, 1e-9, given, causes)


# From lesson 19 on the shards' folder says by which tokenizer they were made.
@check("a corpus is read with the tokenizer that is asked for", step="bits", until="19")
def corpus(mine):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text.txt").write_text(TEXT, encoding="utf-8")
        made = mine.BytePairTokenizer.train(TEXT, 290)
        made.save(folder / "tokenizer.json")
        wishes = {"path": str(folder / "text.txt"), "tokenizer": str(folder / "tokenizer.json")}
        found = mine.Corpus(mine.DataConfig(**wishes))
        ids = [int(i) for part in (found.train, found.val) for i in part]
        equal(ids, list(made.encode(TEXT)), given="train and val of a text, tokenizer.json given")
        equal(found.tokenizer.pieces, made.pieces, given="the pieces of the corpus's tokenizer")
        plain = mine.Corpus(mine.DataConfig(path=wishes["path"]))
        equal(plain.tokenizer.vocab_size, 257, given="vocab_size where no tokenizer is given")
