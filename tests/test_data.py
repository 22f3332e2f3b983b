"""Shards, streams and batches: against the published layout and naive references."""

import hashlib
import itertools
import json
import lzma
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from buildgpt.gpt import data
from buildgpt.gpt.config import DataConfig, UsageError, UserError
from buildgpt.gpt.data import Batches, Corpus, ShardWriter, Stream, open_shard, write_manifest
from buildgpt.gpt.tokenizer import BytePairTokenizer, ByteTokenizer

CLASSICS = Path(__file__).parents[2] / "shared" / "data" / "classics_val_000000.bin.xz"


def shard_bytes(tokens: list[int], magic: int = 20240520, version: int = 1) -> bytes:
    """A shard as llm.c's `data/data_common.py` writes it, spelt out with `struct`."""
    numbers = struct.pack("<256i", magic, version, len(tokens), *[0] * 253)
    return numbers + struct.pack(f"<{len(tokens)}H", *tokens)


def write_shards(folder: Path, shards: list[list[int]], split: str = "train") -> list[Path]:
    """Files of these tokens, named in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"x_{split}_{i:06d}.bin" for i in range(len(shards))]
    for path, tokens in zip(paths, shards):
        path.write_bytes(shard_bytes(tokens))
    return paths


def stream_of(folder: Path, shards: list[list[int]], vocab_size: int = 65536) -> Stream:
    return Stream(write_shards(folder, shards), vocab_size)


def cut(tokens: list[int], places: list[int]) -> list[list[int]]:
    """The tokens in pieces, cut at these places; some pieces may be empty."""
    edges = [0, *sorted(min(p, len(tokens)) for p in places), len(tokens)]
    return [tokens[a:b] for a, b in itertools.pairwise(edges)]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """Hands out new empty folders, for tests that Hypothesis calls many times."""
    return lambda: tmp_path_factory.mktemp("s")


# Shards


def test_a_shard_is_laid_out_as_published(tmp_path):
    tokens = [0, 1, 255, 256, 50256, 65535]
    writer = ShardWriter(tmp_path, "train")
    writer.add(tokens)
    entry = writer.close()
    (path,) = tmp_path.iterdir()
    assert path.name == f"{tmp_path.name}_train_000000.bin"
    assert path.read_bytes() == shard_bytes(tokens)
    assert path.read_bytes()[:12] == bytes.fromhex("88d83401 01000000 06000000")
    assert entry == {
        "tokens": 6,
        "documents": 1,
        "shards": [
            {
                "file": path.name,
                "tokens": 6,
                "sha256": hashlib.sha256(shard_bytes(tokens)).hexdigest(),
            }
        ],
    }


@given(st.lists(st.integers(0, 65535), max_size=50))
def test_what_is_written_is_read_back(scratch, tokens):
    folder = scratch()
    writer = ShardWriter(folder, "val")
    writer.add(tokens)
    writer.close()
    shard = open_shard(folder / f"{folder.name}_val_000000.bin")
    assert shard.dtype == np.uint16
    assert shard.tolist() == tokens


@given(
    st.lists(st.lists(st.integers(0, 65535), max_size=12), max_size=8),
    st.integers(1, 15),
)
@example([[1, 2, 3], [4, 5, 6]], 3)
@example([[1, 2, 3, 4, 5, 6, 7]], 2)
def test_shards_are_cut_at_their_size(scratch, documents, shard_tokens):
    folder = scratch()
    writer = ShardWriter(folder, "train", shard_tokens)
    for document in documents:
        writer.add(np.array(document, dtype=np.uint16))
    entry = writer.close()
    tokens = [token for document in documents for token in document]
    expected = [tokens[i : i + shard_tokens] for i in range(0, len(tokens), shard_tokens)] or [[]]
    files = [shard["file"] for shard in entry["shards"]]
    assert [open_shard(folder / file).tolist() for file in files] == expected
    assert [shard["tokens"] for shard in entry["shards"]] == [len(part) for part in expected]
    assert sorted(files) == files == sorted(path.name for path in folder.iterdir())
    assert (entry["tokens"], entry["documents"]) == (len(tokens), len(documents))


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_shard_that_fails_never_looks_whole(tmp_path, monkeypatch, name):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if name == "fsync" else (Path, "replace")), full)
    writer = ShardWriter(tmp_path, "train")
    writer.add([1, 2, 3])
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    assert not list(tmp_path.glob("*.bin"))


def test_a_shard_is_mapped_and_not_read(tmp_path):
    (path,) = write_shards(tmp_path, [[1, 2, 3]])
    shard = open_shard(path)
    assert isinstance(shard, np.memmap)
    assert not shard.flags.writeable


GOOD = shard_bytes([1, 2, 3])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not a shard of tokens"),
        (b"\x98", "is not a shard of tokens"),
        (GOOD[:12], "is not a shard of tokens"),
        (GOOD[:1023], "is not a shard of tokens"),
        (b"To be, or not to be: that is the question.\n" * 99, "is not a shard of tokens"),
        (shard_bytes([1, 2, 3], magic=20240801), "is not a shard of tokens"),
        (shard_bytes([1, 2, 3], version=2), "is not a shard of tokens"),
        (GOOD[:1024], "promises 3 tokens in 1,030 bytes but is 1,024 bytes long"),
        (GOOD[:-1], "promises 3 tokens in 1,030 bytes but is 1,029 bytes long"),
        (GOOD + b"\0", "promises 3 tokens in 1,030 bytes but is 1,031 bytes long"),
        (GOOD + b"\0\0", "promises 3 tokens in 1,030 bytes but is 1,032 bytes long"),
        (
            struct.pack("<256i", 20240520, 1, -1, *[0] * 253),
            "promises -1 tokens in 1,022 bytes but is 1,024 bytes long",
        ),
    ],
)
def test_a_foreign_or_cut_shard_is_refused(tmp_path, content, sentence):
    path = tmp_path / "x_train_000000.bin"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_shard(path)
    assert str(caught.value).startswith(f"{path} {sentence}; ")
    assert caught.value.exit_status == 1


def test_a_shard_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / "none.bin", tmp_path):
        with pytest.raises(UserError, match="cannot read the shard"):
            open_shard(path)


def test_a_shard_without_tokens_is_empty(tmp_path):
    (path,) = write_shards(tmp_path, [[]])
    assert open_shard(path).tolist() == []


# The stream: the shards as one sequence of tokens


@settings(max_examples=200)
@given(
    st.lists(st.lists(st.integers(0, 65535), max_size=9), max_size=7),
    st.integers(0, 63),
    st.integers(0, 63),
)
@example([[], [1, 2], [], [], [3], []], 0, 3)
@example([[], [1, 2], [], [], [3], []], 2, 2)
def test_reading_is_reading_from_all_shards_joined(scratch, shards, start, stop):
    stream = stream_of(scratch(), shards)
    joined = [token for shard in shards for token in shard]
    assert len(stream) == len(joined)
    start, stop = sorted((min(start, len(joined)), min(stop, len(joined))))
    read = stream.read(start, stop)
    assert read.dtype == np.uint16
    assert read.tolist() == joined[start:stop]


def test_an_id_outside_the_vocabulary_is_refused(tmp_path):
    stream = stream_of(tmp_path, [[1, 2, 3], [4, 299, 300, 5]], vocab_size=300)
    assert stream.read(0, 5).tolist() == [1, 2, 3, 4, 299]
    with pytest.raises(UserError) as caught:
        stream.read(2, 7)
    assert str(caught.value) == (
        f"{tmp_path}/x_train_000001.bin holds the id 300, outside the vocabulary of 300;"
        " it was made with another tokenizer"
    )
    with pytest.raises(UserError, match="outside the vocabulary"):
        Batches(stream, 3, seed=0)(0, 2)


# Batches: where a sequence is read depends on the stream, the context and the seed alone


@given(st.integers(1, 7), st.integers(2, 80), st.integers(0, 2**32 - 1))
def test_an_epoch_reads_each_sequence_once(scratch, context, length, seed):
    if length <= context:
        return
    batches = Batches(stream_of(scratch(), [list(range(length))]), context, seed)
    expected = [list(range(i, i + context)) for i in range(0, length - context, context)]
    assert batches.sequences == len(expected)
    assert batches.dropped == length - 1 - context * len(expected)
    assert 0 <= batches.dropped < context
    for epoch in range(3):
        x, y = batches(epoch * len(expected), len(expected))
        assert sorted(x.tolist()) == expected
        assert torch.equal(y, x + 1)  # here every token is followed by the next number


def test_targets_are_the_tokens_that_follow(tmp_path):
    tokens = np.random.RandomState(0).randint(0, 1000, 61).tolist()
    batches = Batches(stream_of(tmp_path, [tokens]), 6, seed=5)
    x, y = batches(0, 10)
    assert x.shape == y.shape == (10, 6)
    assert x.dtype == y.dtype == torch.int64
    for row in range(10):
        start = batches.sequence(row) * 6
        assert x[row].tolist() == tokens[start : start + 6]
        assert y[row].tolist() == tokens[start + 1 : start + 7]


@given(st.data())
def test_the_split_among_ranks_and_micro_batches_changes_nothing(scratch, draw):
    ranks = draw.draw(st.integers(1, 4), "ranks")
    micro_batch = draw.draw(st.integers(1, 4), "micro-batch")
    accumulation = draw.draw(st.integers(1, 3), "accumulation")
    batches = Batches(stream_of(scratch(), [list(range(100))]), 7, seed=3)
    per_step = ranks * micro_batch * accumulation
    for step in (0, 1, 5):
        whole, _ = batches(step * per_step, per_step)
        parts = []
        for part in range(ranks * accumulation):  # each by a process that knows of no other
            alone = Batches(batches.stream, 7, seed=3)
            parts.append(alone(step * per_step + part * micro_batch, micro_batch)[0])
        assert torch.equal(torch.cat(parts), whole)


@given(st.lists(st.integers(0, 120), max_size=8))
def test_how_the_corpus_is_cut_changes_nothing(scratch, places):
    tokens = np.random.RandomState(1).randint(0, 500, 120).tolist()
    whole = Batches(stream_of(scratch(), [tokens]), 8, seed=9)
    pieces = Batches(stream_of(scratch(), cut(tokens, places)), 8, seed=9)
    for ours, theirs in zip(pieces(0, 40), whole(0, 40)):
        assert torch.equal(ours, theirs)


# Sequences that each begin with a document


def starts_naively(tokens: list[int], context: int) -> list[int]:
    """Walk over the tokens; 0 opens a document. The last target is one token more."""
    starts, place = [], 0
    while place + context < len(tokens):
        if tokens[place] == 0:
            starts.append(place)
            place += context
        else:
            place += 1
    return starts


@given(
    st.lists(st.integers(0, 3), max_size=60),
    st.integers(1, 6),
    st.lists(st.integers(0, 60), max_size=5),
)
@example([0, 1, 2, 3, 0, 1, 2, 3, 0], 4, [])  # the next one begins where the last one ends
@example([1, 2, 0, 1, 2, 3], 4, [3])  # the last target is missing
def test_every_sequence_begins_with_a_document(scratch, tokens, context, places):
    stream, expected = stream_of(scratch(), cut(tokens, places)), starts_naively(tokens, context)
    if not expected:
        with pytest.raises(UserError, match=r"fewer than the|no document of the training split"):
            Batches(stream, context, 1, opening=0)
        return
    batches = Batches(stream, context, 1, opening=0)
    assert sorted(batches.starts) == expected
    assert batches.dropped == len(tokens) - 1 - context * len(expected)
    for first in (0, len(expected)):  # an epoch after another
        x, y = batches(first, len(expected))
        assert sorted(x.tolist()) == sorted(tokens[s : s + context] for s in expected)
        assert sorted(y.tolist()) == sorted(tokens[s + 1 : s + 1 + context] for s in expected)
    parts = [Batches(stream, context, 1, opening=0)(p, 1)[0] for p in range(2 * len(expected))]
    assert torch.equal(torch.cat(parts), batches(0, 2 * len(expected))[0])


def test_a_corpus_without_documents_is_told_in_a_sentence(tmp_path):
    stream = stream_of(tmp_path, [[1, 2, 3, 4, 5, 0, 1]])
    with pytest.raises(UserError) as caught:
        Batches(stream, 4, 1, opening=0)
    assert str(caught.value) == (
        "no document of the training split begins 5 tokens or more before its end; set"
        ' data.align = "none"'
    )


def test_every_epoch_and_every_seed_is_shuffled_anew(tmp_path):
    stream = stream_of(tmp_path, [list(range(1001))])
    orders = [
        tuple(Batches(stream, 10, seed).order(epoch)) for seed in (0, 1) for epoch in range(4)
    ]
    assert len(set(orders)) == 8
    assert all(order != tuple(range(100)) for order in orders)


@settings(max_examples=60)
@given(st.integers(2, 60), st.integers(1, 9), st.integers(0, 3))
def test_a_shifted_epoch_reads_as_much_from_another_token(scratch, tokens, context, seed):
    """No token twice in an epoch; in the first one as without; the targets follow."""
    assume(tokens > context)
    stream = stream_of(scratch(), [list(range(tokens))])
    plain, shifted = Batches(stream, context, seed), Batches(stream, context, seed, shifts=True)
    assert plain.sequences - 1 <= shifted.sequences <= plain.sequences
    for epoch in range(6):
        x, y = shifted(epoch * shifted.sequences, shifted.sequences)
        assert torch.equal(y, x + 1) and int(y.max()) < tokens
        read = sorted(x.flatten().tolist())
        assert read == list(range(read[0], read[0] + len(read)))
        assert read[0] == 0 if epoch == 0 else read[0] < context


def test_epochs_are_shifted_by_all_that_is_possible(tmp_path):
    stream = stream_of(tmp_path, [list(range(48))])
    shifted = Batches(stream, 8, 5, shifts=True)
    first = [int(shifted(5 * e, 5)[0].min()) for e in range(200)]
    assert first[0] == 0 and set(first) == set(range(8))
    assert (shifted.sequences, shifted.dropped) == (5, 7)


def test_noise_puts_other_tokens_of_the_text_into_the_inputs_alone(tmp_path):
    """A stream whose rare ids are few: what stands in is as frequent as in the text."""
    ids = np.where(np.arange(50_001) % 10 == 9, 9, np.arange(50_001) % 2)
    stream = stream_of(tmp_path, [ids.tolist()])
    clean, noisy = Batches(stream, 100, 3), Batches(stream, 100, 3, noise=0.3)
    (x, y), (x2, y2) = clean(0, 1000), noisy(0, 1000)
    assert torch.equal(y, y2)
    # 0 stands in 0.5, 1 in 0.4, 9 in 0.1 of the places: so many of those that are hit change.
    changed = 0.3 * (1 - 0.5**2 - 0.4**2 - 0.1**2)
    assert (x != x2).double().mean().item() == pytest.approx(changed, abs=0.01)
    assert (x2 == 9).double().mean().item() == pytest.approx(0.1, abs=0.005)
    first, again = x2[:500], x2[500:]  # the same text, an epoch later
    order = [torch.tensor([noisy.sequence(e * 500 + i) for i in range(500)]) for e in (0, 1)]
    assert not torch.equal(first[order[0].argsort()], again[order[1].argsort()])


@settings(max_examples=30)
@given(st.integers(0, 40), st.integers(1, 9), st.integers(0, 3))
def test_noise_follows_from_the_position_alone(scratch, first, count, seed):
    stream = stream_of(scratch(), [list(range(101))])
    together = Batches(stream, 4, seed, noise=0.5)(first, count)[0]
    alone = [Batches(stream, 4, seed, noise=0.5)(first + i, 1)[0] for i in range(count)]
    assert torch.equal(together, torch.cat(alone))


def test_the_order_does_not_depend_on_what_was_read_before(tmp_path):
    stream = stream_of(tmp_path, [list(range(101))])
    used = Batches(stream, 4, seed=2)
    for first in (30, 0, 70, 24):
        x, _ = used(first, 13)
        assert torch.equal(x, Batches(stream, 4, seed=2)(first, 13)[0])


def test_the_order_is_the_recorded_one(tmp_path):
    """Recorded once: a seed means the same order of the tokens for ever, with any numpy."""
    batches = Batches(stream_of(tmp_path, [list(range(49))]), 4, seed=1337)
    assert [batches.sequence(position) for position in range(24)] == [
        *(3, 4, 5, 11, 0, 1, 7, 6, 9, 8, 10, 2),
        *(0, 8, 2, 1, 3, 9, 6, 4, 5, 7, 11, 10),
    ]


@pytest.mark.parametrize("length", [0, 1, 5, 8])
def test_a_text_shorter_than_the_context_is_refused(tmp_path, length):
    with pytest.raises(UserError) as caught:
        Batches(stream_of(tmp_path, [list(range(length))]), 8, seed=0)
    assert str(caught.value) == (
        f"the training split holds {length} tokens, fewer than the 9 of one sequence;"
        " give more text or a smaller model.context"
    )


def test_a_text_of_just_one_sequence_is_read(tmp_path):
    x, y = Batches(stream_of(tmp_path, [list(range(9))]), 8, seed=0)(0, 2)
    assert x.tolist() == [list(range(8))] * 2
    assert y.tolist() == [list(range(1, 9))] * 2


# A folder of shards, with its manifest or without


def corpus_folder(folder: Path, train: list[list[int]], val: list[list[int]]) -> Path:
    """A folder as `prepare` makes it, each document in its own list."""
    folder.mkdir()
    splits = {}
    for split, documents in (("train", train), ("val", val)):
        writer = ShardWriter(folder, split, shard_tokens=5)
        for document in documents:
            writer.add(document)
        splits[split] = writer.close()
    write_manifest(folder, ByteTokenizer(), splits)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return corpus_folder(tmp_path / "x", [[256, *b"hello"], [256, *b"you"]], [[256, *b"all"]])


def open_corpus(folder: Path, **more: object) -> Corpus:
    return Corpus(DataConfig(path=str(folder), **more))  # type: ignore[arg-type]


def test_a_corpus_is_opened_as_it_was_written(folder):
    corpus = open_corpus(folder)
    assert corpus.tokenizer.kind == "byte"
    assert corpus.train.read(0, 10).tolist() == [256, *b"hello", 256, *b"you"]
    assert corpus.val.read(0, 4).tolist() == [256, *b"all"]
    assert len(corpus.train.shards) == 2
    assert corpus.val_tokens == 4
    assert corpus.manifest["splits"]["train"]["documents"] == 2


@pytest.mark.parametrize(("wish", "tokens"), [(0, 4), (3, 3), (4, 4), (1000, 4)])
def test_validation_reads_what_is_asked_for(folder, wish, tokens):
    assert open_corpus(folder, val_tokens=wish).val_tokens == tokens


def test_a_shard_that_the_manifest_does_not_list_is_not_read(folder):
    (folder / "x_train_000009.bin").write_bytes(shard_bytes([1, 2, 3]))
    assert len(open_corpus(folder).train) == 10


def test_a_manifest_that_disagrees_is_refused(folder):
    (folder / "x_train_000001.bin").write_bytes(shard_bytes([1, 2, 3]))
    with pytest.raises(UserError, match=r"manifest\.json disagrees with its shards"):
        open_corpus(folder)


def test_a_shard_that_is_gone_is_named(folder):
    (folder / "x_train_000001.bin").unlink()
    with pytest.raises(UserError, match=r"cannot read the shard .*x_train_000001\.bin"):
        open_corpus(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b"\xff", b"3"])
def test_a_manifest_that_is_no_manifest_is_refused(folder, content):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=r"manifest\.json is damaged; make the shards again"):
        open_corpus(folder)


@pytest.mark.parametrize("key", ["tokenizer", "splits"])
def test_a_manifest_that_lacks_a_key_is_refused(folder, key):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest[key]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        open_corpus(folder)


@pytest.mark.parametrize("entry", [{}, 3, {"file": "x"}, {"tokens": 3}, {"file": 1, "tokens": 3}])
def test_a_manifest_with_a_damaged_shard_is_refused(folder, entry):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["splits"]["val"]["shards"] = [entry]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        open_corpus(folder)


@pytest.mark.parametrize(
    "tokenizer", [3, {}, {"kind": "x"}, {"kind": "bpe", "merges": [[0, 999]]}, {"kind": "char"}]
)
def test_a_manifest_with_a_damaged_tokenizer_is_refused(folder, tokenizer):
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["tokenizer"] = tokenizer
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"manifest\.json describes no tokenizer"):
        open_corpus(folder)


def test_the_manifest_keeps_a_trained_tokenizer(tmp_path):
    tokenizer = BytePairTokenizer.train("low lower lowest", 265)
    splits = {}
    for split in ("train", "val"):
        writer = ShardWriter(tmp_path, split)
        writer.add(tokenizer.encode("lower lowest"))
        splits[split] = writer.close()
    write_manifest(tmp_path, tokenizer, splits, origin="a test")
    corpus = open_corpus(tmp_path)
    assert corpus.tokenizer.decode(corpus.val.read(0, len(corpus.val))) == "lower lowest"
    assert corpus.manifest["origin"] == "a test"
    assert corpus.manifest["vocab_size"] == tokenizer.vocab_size


def test_public_shards_need_the_name_of_their_tokenizer(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(UsageError, match=r"data\.tokenizer = \"gpt2\""):
        open_corpus(folder)
    corpus = open_corpus(folder, tokenizer="byte")
    assert corpus.train.read(0, 10).tolist() == [256, *b"hello", 256, *b"you"]
    assert len(corpus.val) == 4


def test_the_name_of_a_folder_is_not_taken_for_a_split(tmp_path):
    """`medieval` holds the letters of `val`; its training text must not be its validation."""
    for split, tokens in (("train", [1, 2, 3]), ("val", [4, 5])):
        (tmp_path / f"medieval_{split}_000000.bin").write_bytes(shard_bytes(tokens))
    corpus = open_corpus(tmp_path, tokenizer="byte")
    assert (len(corpus.train), len(corpus.val)) == (3, 2)


@pytest.mark.parametrize("name", ["tiny_shakespeare_{}.bin", "{}.bin", "edu_fineweb_{}_000001.bin"])
def test_public_shards_are_found_by_the_names_in_use(tmp_path, name):
    for split, tokens in (("train", [1, 2, 3]), ("val", [4, 5])):
        (tmp_path / name.format(split)).write_bytes(shard_bytes(tokens))
    corpus = open_corpus(tmp_path, tokenizer="byte")
    assert (len(corpus.train), len(corpus.val)) == (3, 2)


def test_a_missing_split_is_named(tmp_path):
    write_shards(tmp_path, [[1, 2]], "train")
    with pytest.raises(UserError, match="holds no shard of the split 'val'"):
        open_corpus(tmp_path, tokenizer="byte")


def test_a_path_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(UsageError, match="is no folder; make one with: buildgpt prepare"):
            open_corpus(path)
    with pytest.raises(UsageError, match=r"data\.path is empty"):
        Corpus(DataConfig())


@pytest.mark.parametrize(("size", "fits"), [(65536, True), (65537, False), (10**6, False)])
def test_a_vocabulary_beyond_two_bytes_is_refused(size, fits):
    if fits:
        data.check_vocabulary(size)
    else:
        with pytest.raises(UsageError, match="does not fit into shards"):
            data.check_vocabulary(size)


@pytest.mark.skipif(not CLASSICS.exists(), reason=f"needs {CLASSICS.name} in ../shared/data")
def test_shards_of_others_are_read(tmp_path):
    """2,166,270 tokens of 15 English books, made by another program in the public format."""
    unpacked = lzma.decompress(CLASSICS.read_bytes())
    for split in ("train", "val"):
        (tmp_path / f"classics_{split}_000000.bin").write_bytes(unpacked)
    corpus = open_corpus(tmp_path, tokenizer="gpt2")
    assert len(corpus.val) == 2_166_270
    tokens = corpus.val.read(0, len(corpus.val))
    assert tokens[0] == corpus.tokenizer.end_of_text == 50256
    assert (tokens == 50256).sum() == 15
    text = corpus.tokenizer.decode(tokens[1:20_001].tolist())
    assert text.count(" the ") > 500
    assert "\ufffd" not in text
    assert corpus.tokenizer.encode(text) == tokens[1:20_001].tolist()
