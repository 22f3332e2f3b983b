"""Tokenizers: against `transformers`, against naive references, and there and back."""

import json
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildgpt.gpt.config import UsageError, UserError
from buildgpt.gpt.tokenizer import (
    END_OF_TEXT,
    BytePairTokenizer,
    ByteTokenizer,
    CharTokenizer,
    GPT2Tokenizer,
    Tokenizer,
    build_tokenizer,
    load_tokenizer,
)

TEXT = (
    "How much wood would a woodchuck chuck, if a woodchuck could chuck wood?\n\n"
    "He'd chuck 1,000 __much__ wood as he could: äöü, ÄÖÜ, 木木木  林林!\n"
) * 3

# What the three published files of GPT-2 (vocab.bpe, encoder.json, encoder.py) give.
GPT2_IDS = {
    "": [],
    "Hello, I'm a language model,": [15496, 11, 314, 1101, 257, 3303, 2746, 11],
    "Hello world": [15496, 995],
    " ": [220],
    "!": [0],
    "\n\n": [628],
}


@pytest.fixture(scope="module")
def gpt2() -> GPT2Tokenizer:
    return GPT2Tokenizer()


@pytest.fixture(scope="module")
def bpe() -> BytePairTokenizer:
    return BytePairTokenizer.train(TEXT, 300)


@pytest.fixture(scope="module")
def every_kind(gpt2, bpe) -> dict[str, Tokenizer]:
    return {"byte": ByteTokenizer(), "char": CharTokenizer(TEXT), "bpe": bpe, "gpt2": gpt2}


KINDS = pytest.mark.parametrize("kind", ["byte", "char", "bpe", "gpt2"])


# What all tokenizers promise


@KINDS
def test_end_of_text_is_the_last_id(every_kind, kind):
    tokenizer = every_kind[kind]
    assert tokenizer.kind == kind
    assert tokenizer.end_of_text == tokenizer.vocab_size - 1
    assert tokenizer.decode([tokenizer.end_of_text]) == END_OF_TEXT
    assert len(tokenizer.pieces) == tokenizer.vocab_size


def test_the_sizes_are_those_expected(every_kind):
    assert every_kind["byte"].vocab_size == 257
    assert every_kind["char"].vocab_size == len(set(TEXT)) + 1
    assert every_kind["bpe"].vocab_size == 300
    assert every_kind["gpt2"].vocab_size == 50257


@KINDS
def test_the_spelling_of_end_of_text_is_ordinary_text(every_kind, kind):
    tokenizer = every_kind[kind]
    if kind == "char":
        tokenizer = CharTokenizer(f"a {END_OF_TEXT}")
    for text in (END_OF_TEXT, f"a {END_OF_TEXT}a", END_OF_TEXT * 3):
        ids = tokenizer.encode(text)
        assert len(ids) > 1
        assert tokenizer.end_of_text not in ids
        assert tokenizer.decode(ids) == text


@KINDS
def test_saved_and_loaded_it_is_the_same(every_kind, kind, tmp_path):
    tokenizer = every_kind[kind]
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = load_tokenizer(tmp_path / "tokenizer.json")
    assert type(loaded) is type(tokenizer)
    assert loaded.pieces == tokenizer.pieces
    assert loaded.encode(TEXT) == tokenizer.encode(TEXT)
    # In JSON a pair is a list, so descriptions are compared as JSON.
    assert json.dumps(loaded.to_dict()) == json.dumps(tokenizer.to_dict())
    assert loaded.to_dict() == tokenizer.to_dict()


@KINDS
@pytest.mark.parametrize("beyond", [0, 1, 10**9])
def test_an_id_above_the_vocabulary_is_refused(every_kind, kind, beyond):
    tokenizer = every_kind[kind]
    bad = tokenizer.vocab_size + beyond
    with pytest.raises(UserError, match=f"{bad} is outside the vocabulary") as caught:
        tokenizer.decode([0, bad])
    assert caught.value.exit_status == 1


@KINDS
@pytest.mark.parametrize("bad", [-1, -2, -(10**9)])
def test_a_negative_id_is_refused(every_kind, kind, bad):
    with pytest.raises(UserError, match=f"{bad} is outside the vocabulary"):
        every_kind[kind].decode([0, bad])


@KINDS
def test_ids_may_come_from_a_tensor_or_a_generator(every_kind, kind):
    tokenizer = every_kind[kind]
    ids = tokenizer.encode("a wood")
    assert tokenizer.decode(torch.tensor(ids)) == "a wood"
    assert tokenizer.decode(i for i in ids) == "a wood"
    with pytest.raises(UserError, match="outside the vocabulary"):
        tokenizer.decode(torch.tensor([*ids, tokenizer.vocab_size]))


# There and back

texts = st.text() | st.text(alphabet=" \n\t\r'aAbß1_.-<|>木\u0301\u200d\U0001f600\u2028\x1c\x85")
awkward = "a\x00\x1c\x85\u2028\ufeff\ufffd\U0010ffff  \t\n x _1²½Ⅷ٣ 's 'S e\u0301"


@given(texts)
@example(awkward)
@pytest.mark.parametrize("kind", ["byte", "bpe", "gpt2"])
def test_every_text_comes_back(every_kind, kind, text):
    tokenizer = every_kind[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    assert all(0 <= i < tokenizer.end_of_text for i in ids)


@given(texts)
@example(awkward)
def test_every_text_comes_back_from_its_own_characters(text):
    tokenizer = CharTokenizer(text)
    ids = tokenizer.encode(text)
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text
    assert all(0 <= i < tokenizer.end_of_text for i in ids)


@given(st.binary())
@example(bytes(range(256)))
@example("wood would chuck 木".encode()[:-1])
@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_every_byte_string_comes_back(every_kind, kind, data):
    tokenizer = every_kind[kind]
    assert tokenizer.decode_bytes(tokenizer.encode_bytes(data)) == data


@pytest.mark.parametrize("kind", ["byte", "bpe", "gpt2"])
def test_half_a_character_becomes_a_replacement(every_kind, kind):
    tokenizer = every_kind[kind]
    first, *_ = tokenizer.encode("\U0001f525")
    assert tokenizer.decode([first]) == "\ufffd"


@pytest.mark.parametrize("kind", ["byte", "bpe", "gpt2"])
def test_half_a_surrogate_pair_is_replaced(every_kind, kind):
    """Python strings can hold what no UTF-8 text can; it must not end in a traceback."""
    tokenizer = every_kind[kind]
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) in ("a?b", "a\ufffdb")


@KINDS
@pytest.mark.parametrize("text", ["", "a a", f"a{END_OF_TEXT}a", "a\ud800a"])
def test_an_array_holds_the_same_ids(every_kind, kind, text):
    tokenizer = CharTokenizer(f"a \ud800{END_OF_TEXT}") if kind == "char" else every_kind[kind]
    found = tokenizer.encode_array(text)
    assert found.dtype == np.uint16
    assert found.tolist() == tokenizer.encode(text)


# Bytes and characters


def test_bytes_are_their_own_ids():
    assert ByteTokenizer().encode("aä") == [97, 0xC3, 0xA4]


def test_characters_are_numbered_in_code_point_order():
    tokenizer = CharTokenizer("hello, wörld")
    assert tokenizer.characters == " ,dehlorwö"
    assert tokenizer.encode(" ,ö") == [0, 1, 9]
    assert tokenizer.to_dict() == CharTokenizer(reversed("hello, wörld")).to_dict()


def test_an_unknown_character_is_named():
    with pytest.raises(UserError) as caught:
        CharTokenizer("cab").encode("abcé")
    assert str(caught.value) == (
        "the tokenizer does not know the character 'é' (U+00E9); it knows these 3: 'abc'"
    )
    assert caught.value.exit_status == 1


# Byte-pair encoding, against the definition


def naive_train(text: str, vocab_size: int) -> list[tuple[int, int]]:
    """Count every pair anew for each merge; of the most frequent ones take the lowest."""
    chunks = [list(c.encode()) for c in BytePairTokenizer.chunks.findall(text)]
    merges: list[tuple[int, int]] = []
    while len(merges) < vocab_size - 257:
        counts = Counter(pair for chunk in chunks for pair in pairwise(chunk))
        if not counts:
            break
        pair = sorted(counts, key=lambda p: (-counts[p], p))[0]
        chunks = [naive_merge(chunk, pair, 256 + len(merges)) for chunk in chunks]
        merges.append(pair)
    return merges


def naive_merge(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """Replace a pair, from the left."""
    if len(ids) < 2:
        return ids
    if (ids[0], ids[1]) == pair:
        return [new, *naive_merge(ids[2:], pair, new)]
    return [ids[0], *naive_merge(ids[1:], pair, new)]


def naive_encode(tokenizer: BytePairTokenizer, text: str) -> list[int]:
    """Carry out all merges in the order in which they were learnt, on every chunk."""
    ids = []
    for chunk in BytePairTokenizer.chunks.findall(text):
        part = list(chunk.encode())
        for i, pair in enumerate(tokenizer.merges):
            part = naive_merge(part, pair, 256 + i)
        ids += part
    return ids


few_letters = st.text(alphabet="aab  \n'1é", max_size=60)


@given(few_letters, st.integers(257, 280))
@example(TEXT, 340)
@example("aaaa aaa aa a aaaaaaa", 270)
@example("abab baba", 280)
def test_training_is_the_naive_reference(text, vocab_size):
    trained = BytePairTokenizer.train(text, vocab_size)
    assert trained.merges == naive_train(text, vocab_size)
    assert trained.vocab_size == 257 + len(trained.merges) <= vocab_size


@given(few_letters, texts | few_letters)
@example(TEXT, TEXT)
@example("aaaa aaa aa a aaaaaaa", "aaaaaaaaaaa")
def test_encoding_is_the_naive_reference(training, text):
    tokenizer = BytePairTokenizer.train(training, 275)
    assert tokenizer.encode(text) == naive_encode(tokenizer, text)


def test_training_by_hand():
    """First ab, thrice; then of four pairs that occur twice the lowest, a space and d."""
    assert BytePairTokenizer.train("abc abc ab de de", 257 + 2).merges == [(97, 98), (32, 100)]
    assert BytePairTokenizer.train("abab", 300).merges == [(97, 98), (256, 256)]


def test_merges_do_shorten_the_text(bpe):
    assert len(bpe.encode(TEXT)) < 0.6 * len(TEXT.encode())
    assert bpe.encode(" wood") == [bpe.pieces.index(b" wood")]


@given(texts | few_letters)
@example(awkward)
def test_chunks_cover_every_character(text):
    assert "".join(BytePairTokenizer.chunks.findall(text)) == text


def test_chunks_cover_every_code_point():
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    assert "".join(BytePairTokenizer.chunks.findall(everything)) == everything


def test_chunks_keep_the_kinds_of_characters_apart():
    assert BytePairTokenizer.chunks.findall("Don't go_2 1st  place!!\n\n x") == [
        *("Don", "'", "t", " go", "_", "2", " 1", "st", " ", " place", "!!", "\n\n", " x"),
    ]


def test_the_vocabulary_ends_where_no_pair_is_left():
    assert BytePairTokenizer.train("ab", 1000).vocab_size == 258
    assert BytePairTokenizer.train("", 1000).vocab_size == 257


@pytest.mark.parametrize("vocab_size", [256, 1, 0, -5])
def test_a_vocabulary_too_small_for_bytes_is_refused(vocab_size):
    with pytest.raises(UsageError, match="at least 257") as caught:
        BytePairTokenizer.train("text", vocab_size)
    assert caught.value.exit_status == 2


# GPT-2's, against `transformers`


@pytest.fixture(scope="module")
def reference(gpt2):
    """Hugging Face's GPT-2 tokenizer, built from the merges that this package ships."""
    transformers = pytest.importorskip("transformers")
    from buildgpt.gpt import tokenizer as module

    path = module.Path(module.__file__).parent / "gpt2_merges.txt"
    merges = [tuple(line.split(" ")) for line in path.read_text("utf-8").splitlines()[1:]]
    spelt = [*byte_spelling().values(), *("".join(merge) for merge in merges), END_OF_TEXT]
    return transformers.GPT2Tokenizer({word: i for i, word in enumerate(spelt)}, merges)


def byte_spelling() -> dict[int, str]:
    """`bytes_to_unicode` as OpenAI wrote it, in the order of its ids."""
    bs = [*range(33, 127), *range(161, 173), *range(174, 256)]
    cs, n = bs[:], 0
    for b in range(256):
        if b not in bs:
            bs.append(b)
            cs.append(256 + n)
            n += 1
    return dict(zip(bs, map(chr, cs)))


@pytest.mark.parametrize("text", GPT2_IDS)
def test_gpt2_gives_the_published_ids(gpt2, text):
    assert gpt2.encode(text) == GPT2_IDS[text]


# Letters that an older Unicode lacks would be cut differently by the two libraries.
settled = st.characters(exclude_categories=("Cs", "Cn", "Co"), max_codepoint=0x2FFF)


@settings(max_examples=300)
@given(
    st.text(alphabet=settled)
    | st.text(alphabet=" \n\t\r'aAßsdmtlvre1².-_木\u0301\U0001f600")
    | st.lists(st.sampled_from(TEXT.split() + [" ", "  ", "\n", "'ll", "1984"])).map("".join)
)
@example(TEXT)
@example(awkward)
@example("I'm sure you're what we've seen; they'll say he'd, it's, don't. I'M SURE YOU'RE")
def test_gpt2_is_that_of_transformers(gpt2, reference, text):
    ids = gpt2.encode(text)
    assert ids == reference(text)["input_ids"]
    assert gpt2.decode(ids) == reference.decode(ids, clean_up_tokenization_spaces=False)


def test_gpt2_spells_its_pieces_as_its_vocabulary_file(gpt2, reference):
    assert gpt2.spelling() == reference.get_vocab()
    assert gpt2.spelling()["Ġlanguage"] == 3303


def test_gpt2_pieces_are_all_different(gpt2):
    assert len(set(gpt2.pieces)) == 50257


# Damage


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"3",
        b"null",
        b"{}",
        b'{"kind": "word"}',
        b'{"kind": "char"}',
        b'{"kind": "char", "characters": ["a"]}',
        b'{"kind": "bpe"}',
        b'{"kind": "bpe", "merges": "ab"}',
        b'{"kind": "bpe", "merges": [1, 2]}',
        b'{"kind": "bpe", "merges": [[1, 2, 3]]}',
        b'{"kind": "bpe", "merges": [["a", "b"]]}',
        b'{"kind": "bpe", "merges": [[1.5, 2]]}',
        b'{"kind": "bpe", "merges": [[97, 257], [97, 98]]}',
    ],
)
def test_a_damaged_tokenizer_is_refused(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_tokenizer(path)
    assert caught.value.exit_status == 1
    assert str(path) in str(caught.value)
    assert "of this project" in str(caught.value)


def test_a_missing_tokenizer_is_refused(tmp_path):
    for path in (tmp_path / "tokenizer.json", tmp_path):
        with pytest.raises(UserError, match=f"cannot read the tokenizer {re.escape(str(path))}: "):
            load_tokenizer(path)


@pytest.mark.parametrize("merges", [[[97, 300]], [[97]], [["a", "b"]]])
def test_a_description_that_describes_none_is_refused(merges):
    with pytest.raises(UserError, match="describes no tokenizer"):
        build_tokenizer({"kind": "bpe", "merges": merges})
