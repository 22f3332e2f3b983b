"""Files to tasks: where a text may be cut, what a record is, and what is refused."""

import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildgpt.core import load_core
from buildgpt.datasets import encoding, reading, text
from buildgpt.datasets.reading import Draw, between, cut_text, read_blocks
from buildgpt.datasets.text import prepare
from buildgpt.gpt.config import DataConfig, UserError
from buildgpt.gpt.data import Corpus
from buildgpt.gpt.tokenizer import BytePairTokenizer, ByteTokenizer, GPT2Tokenizer

CORE = load_core()
LEARNT = BytePairTokenizer.train(
    "the cat's  hat\n\n it'll be 1234 + 5 -- ünïcödé the hat " * 9, 330
)
TOKENIZERS = {"gpt2": GPT2Tokenizer(), "bpe": LEARNT, "byte": ByteTokenizer()}
# Much white space of all kinds, in runs that have ids of their own, and what patterns treat apart.
TEXTS = st.text(
    st.sampled_from(
        " \n" * 12 + "\t\r\x0b\x1c\x1f\x85\xa0\u2003\u2028\u3000\u200b'sdmtlverx12½Ⅷ!_-àé海🙂\u0301"
    ),
    max_size=60,
) | st.text(max_size=30)


def in_blocks(content: str, places: list[int]) -> list[tuple[str, int]]:
    """The content cut at these places, as a file's blocks may fall."""
    edges = [0, *sorted(min(place, len(content)) for place in places), len(content)]
    return [(content[a:b], b) for a, b in itertools.pairwise(edges) if b > a]


# Where a text may be cut


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=600)
@given(content=TEXTS, places=st.lists(st.integers(0, 60), max_size=12))
@example(content="a\n\n\nb    c", places=list(range(12)))
@example(content="foo \n\nbar  baz", places=[4, 5, 6, 12])
@example(content="it's  a\u3000b\x1c c \x1c d", places=list(range(20)))
@example(content="a\x85 b\x1f\nc", places=list(range(9)))
def test_ids_of_the_parts_are_those_of_the_whole(kind, content, places):
    tokenizer = TOKENIZERS[kind]
    tasks = list(cut_text(iter(in_blocks(content, places)), "train"))
    assert "".join(task.text for task in tasks) == content
    assert [task.begins for task in tasks] == [True] + [False] * (len(tasks) - 1)
    ids = [token for task in tasks for token in tokenizer.encode(task.text)]
    assert ids == tokenizer.encode(content)


def test_a_real_text_is_cut_often_and_keeps_its_ids():
    content = " ".join(work.content for work in text.shakespeare()[:3])[:100_000]
    tasks = list(cut_text(iter(in_blocks(content, list(range(0, 100_000, 1000)))), "train"))
    assert len(tasks) > 99
    assert max(len(task.text) for task in tasks) < 1100
    ids = [token for task in tasks for token in TOKENIZERS["gpt2"].encode(task.text)]
    assert ids == TOKENIZERS["gpt2"].encode(content)


@given(TEXTS, st.lists(st.integers(0, 60), max_size=9), st.integers(0, 60), st.integers(0, 60))
def test_a_range_of_characters_is_found_in_blocks(content, places, start, stop):
    parts = between(iter(in_blocks(content, places)), start, stop)
    assert "".join(part for part, _ in parts) == content[start:stop]
    rest = between(iter(in_blocks(content, places)), start, None)
    assert "".join(part for part, _ in rest) == content[start:]


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_a_file_is_read_as_python_reads_it(tmp_path, monkeypatch, block):
    monkeypatch.setattr(reading, "BLOCK", block)
    path = tmp_path / "x.txt"
    path.write_bytes("\ufeffKäse\r\nBrot\rWein\n海🙂".encode())
    blocks = list(read_blocks(CORE, path))
    assert "".join(part for part, _ in blocks) == "Käse\nBrot\nWein\n海🙂"
    assert blocks[-1][1] == path.stat().st_size


# Records


def documents(folder: Path, split: str) -> list[str]:
    """A split's texts; the kind is bytes here, so that any text may be in them."""
    corpus = Corpus(DataConfig(path=str(folder)))
    stream = getattr(corpus, split)
    ids = stream.read(0, len(stream)).tolist()
    starts = [i for i, token in enumerate(ids) if token == corpus.tokenizer.end_of_text]
    assert starts[0] == 0
    ends = [*starts[1:], len(ids)]
    return [corpus.tokenizer.decode(ids[a + 1 : b]) for a, b in zip(starts, ends)]


def write_records(path: Path, texts: list, column: str = "text") -> Path:
    """The same records in the format that the name asks for."""
    lines = "".join(json.dumps({"id": i, column: t}) + "\n" for i, t in enumerate(texts)).encode()
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({column: texts, "id": range(len(texts))}), path, row_group_size=50)
    elif path.suffix == ".zst":
        with pa.CompressedOutputStream(path, "zstd") as file:
            file.write(lines)
    else:
        path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


TEXTS_OF_RECORDS = [f"record {i}\n\n" + "wörds \u2028 and 海 " * (i % 7) for i in range(400)]
NAMES = ["x.jsonl", "x.jsonl.gz", "x.jsonl.zst", "x.parquet", "X.JSONL"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("block", [50, 1 << 20])
def test_every_format_gives_its_documents(tmp_path, monkeypatch, name, block):
    monkeypatch.setattr(reading, "BLOCK", block)
    path = write_records(tmp_path / name, TEXTS_OF_RECORDS)
    made = prepare(CORE, [path], tmp_path / "out", "byte", 0.2)
    train, val = (documents(tmp_path / "out", split) for split in ("train", "val"))
    assert sorted(train + val) == sorted(TEXTS_OF_RECORDS)
    assert [t for t in TEXTS_OF_RECORDS if t in set(train)] == train  # in their order
    assert made["documents"] == 400
    assert 50 < len(val) < 110
    write_records(tmp_path / "in" / "plain.jsonl", TEXTS_OF_RECORDS)
    prepare(CORE, [tmp_path / "in"], tmp_path / "plain", "byte", 0.2)
    assert documents(tmp_path / "plain", "val") == val  # whatever the format


@pytest.mark.parametrize("name", NAMES[:4])
def test_empty_documents_are_counted_and_take_nothing(tmp_path, name):
    path = write_records(tmp_path / name, ["one", "", "two", None, "three", " "])
    made = prepare(CORE, [path], tmp_path / "out", "byte", 0.01)
    assert (documents(tmp_path / "out", "val"), made["documents"]) == (["one"], 4)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["empty_documents"] == 2


@pytest.mark.parametrize("name", NAMES[:4])
def test_another_column_can_be_named(tmp_path, name):
    path = write_records(tmp_path / name, ["one", "two"], "body")
    with pytest.raises(UserError) as caught:
        prepare(CORE, [path], tmp_path / "out", "byte")
    assert str(caught.value).startswith(f"{path} has no ")
    assert "name another with --column, of: " in str(caught.value)
    assert "body" in str(caught.value)
    prepare(CORE, [path], tmp_path / "out", "byte", column="body")
    assert documents(tmp_path / "out", "train") == ["two"]


def test_copies_of_a_document_are_in_one_split(tmp_path):
    texts = [f"document {i % 60}" for i in range(600)]
    path = write_records(tmp_path / "x.jsonl", ["first", "second", *texts])
    prepare(CORE, [path], tmp_path / "out", "byte", 0.3)
    train, val = (documents(tmp_path / "out", split) for split in ("train", "val"))
    assert not set(train) & set(val)
    assert 6 < len(set(val)) < 30


@given(st.integers(0, 10), st.floats(0, 1), st.text(max_size=9))
def test_the_first_documents_are_held_out_and_the_next_is_not(first, share, content):
    draw = Draw(first, share)
    assert [draw.split(n, content) for n in range(first + 1)] == ["val"] * first + ["train"]
    assert len({draw.split(n, content) for n in range(first + 1, first + 20)}) == 1


def test_texts_and_records_go_together(tmp_path):
    write_records(tmp_path / "in" / "a.jsonl", ["r1", "r2", "r3"])
    write_records(tmp_path / "in" / "b.parquet", ["p1", "p2"])
    (tmp_path / "in" / "c.md").write_text("# a text")
    prepare(CORE, [tmp_path / "in"], tmp_path / "out", "char", 0.001)
    assert documents(tmp_path / "out", "val") == ["r1"]
    assert documents(tmp_path / "out", "train") == ["# a text", "r2", "r3", "p1", "p2"]


def test_pairs_come_from_the_first_characters_of_train(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "PAIRS_FROM", 100)
    path = write_records(tmp_path / "x.jsonl", ["val", "abab " * 30, *["xyxy " * 99] * 9])
    prepare(CORE, [path], tmp_path / "out", "bpe", 0.001, vocab_size=400)
    pieces = Corpus(DataConfig(path=str(tmp_path / "out"))).tokenizer.pieces
    assert b"abab" in pieces
    assert b"xy" not in pieces


# What is refused, with its sentence


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"text": "a"}\n{"text": \n', "is damaged: line 2 is no JSON"),
        (b'{"text": "a"}\n\n\xff\n', "is damaged: line 3 is no JSON"),
        (b"[1]\n", "has no field 'text' in line 1; name another with --column, of: none"),
        (b'{"text": "a"}\n{"body": 1, "n": 2}\n', "has no field 'text' in line 2"),
        (b'{"text": ["a"]}\n', "holds list where 'text' should be text"),
    ],
)
@pytest.mark.parametrize("block", [4, 1 << 20])
def test_a_damaged_line_is_named(tmp_path, monkeypatch, content, sentence, block):
    monkeypatch.setattr(reading, "BLOCK", block)
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        prepare(CORE, [path], tmp_path / "out", "byte")
    assert str(caught.value).startswith(f"{path} {sentence}")
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


@pytest.mark.parametrize("name", NAMES[1:4])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95])
def test_a_packed_file_that_is_cut_is_refused(tmp_path, name, keep):
    path = write_records(tmp_path / name, TEXTS_OF_RECORDS)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UserError) as caught:
        prepare(CORE, [path], tmp_path / "out", "byte")
    assert str(path) in str(caught.value) or "split came out empty" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("texts", "split"), [([], "train"), (["", None], "train"), (["a"], "train")]
)
def test_too_few_documents_are_refused(tmp_path, texts, split):
    path = write_records(tmp_path / "x.jsonl", texts)
    with pytest.raises(UserError, match=f"the {split} split came out empty; give more documents"):
        prepare(CORE, [path], tmp_path / "out", "byte")
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


def test_without_pyarrow_the_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    path = write_records(tmp_path / "x.jsonl.zst", ["a", "b"])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"needs pyarrow: pip install 'buildgpt\[reproduce\]'"):
        prepare(CORE, [path], tmp_path / "out", "byte")


# The pool


@pytest.mark.parametrize("kind", ["char", "bpe", "gpt2"])
def test_the_number_of_processes_changes_nothing(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(reading, "BLOCK", 2000)
    write_records(tmp_path / "in" / "a.jsonl", TEXTS_OF_RECORDS)
    (tmp_path / "in" / "b.txt").write_text("a long text\n\n of 12 words, it's said " * 2000)
    made = []
    for processes in (0, 2) if kind == "gpt2" else (0, 1):
        out = tmp_path / str(processes) / "out"
        out.parent.mkdir()
        prepare(CORE, [tmp_path / "in"], out, kind, 0.3, 400, processes=processes)
        made.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
    assert made[0] == made[1]


def test_an_error_in_the_pool_is_told_as_it_is_without_one(tmp_path):
    tokenizer = CORE.tokenizer.CharTokenizer("abc")
    parts = [text.Document(str(i), "train", content=c) for i, c in enumerate(["ab", "ca", "ad"])]
    with pytest.raises(UserError, match="does not know the character 'd'"):
        text.write_shards(CORE, parts, tokenizer, tmp_path / "out", processes=1)
    assert list(tmp_path.iterdir()) == []


def test_tasks_under_way_are_bounded(monkeypatch):
    """The reader is never more than a few tasks ahead of what is written."""
    taken = []

    def tasks():
        for i in range(60):
            taken.append(i)
            yield reading.Text(i, "train", True, f"text {i}")

    done = 0
    for task, encoded in encoding.encode_all(CORE, tasks(), ByteTokenizer(), processes=2):
        assert task.position == done
        assert encoded.ids["train"].tolist() == [256, *f"text {done}".encode()]
        assert encoded.ids["train"].dtype == np.uint16
        done += 1
        assert len(taken) - done <= max(encoding.AHEAD * 2, encoding.FEW_TASKS)
    assert done == 60
