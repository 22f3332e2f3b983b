"""Texts to shards: what is held out, what opens a document, and what is refused."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from buildgpt.core import load_core
from buildgpt.datasets import text
from buildgpt.datasets.text import prepare, shakespeare
from buildgpt.gpt.config import DataConfig, UsageError, UserError
from buildgpt.gpt.data import Corpus, ShardWriter

CORE = load_core()
VERSE = "".join(f"line {i}: so long lives this, and this gives life to thee\n" for i in range(50))


def write(path: Path, content: str | bytes) -> Path:
    """A file with this content, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def open_corpus(folder: Path) -> Corpus:
    return Corpus(DataConfig(path=str(folder)))


def documents(corpus: Corpus, split: str) -> list[str]:
    """A split's texts, taken apart where an end of text opens one."""
    stream = getattr(corpus, split)
    ids = stream.read(0, len(stream)).tolist()
    starts = [i for i, token in enumerate(ids) if token == corpus.tokenizer.end_of_text]
    assert ids == [] or starts[0] == 0
    return [
        corpus.tokenizer.decode(ids[a + 1 : b]) for a, b in zip(starts, [*starts[1:], len(ids)])
    ]


def refusal(folder: Path, error: type[UserError], sources: list[Path], **more: object) -> str:
    """The sentence with which sources are refused; nothing may be left behind."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError) as caught:
        prepare(CORE, sources, folder / "out", **more)  # type: ignore[arg-type]
    assert type(caught.value) is error
    assert sorted(folder.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is held out


@pytest.mark.parametrize("kind", ["char", "byte", "bpe", "gpt2"])
@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_of_one_text_the_last_part_is_held_out(tmp_path, kind, fraction):
    path = write(tmp_path / "verse.txt", VERSE)
    held = prepare(CORE, [path], tmp_path / "out", kind, fraction, vocab_size=300)
    corpus = open_corpus(tmp_path / "out")
    cut = int(len(VERSE) * (1 - fraction))
    assert documents(corpus, "train") == [VERSE[:cut]]
    assert documents(corpus, "val") == [VERSE[cut:]]
    assert corpus.tokenizer.kind == kind
    assert held["out"] == str(tmp_path / "out")
    assert held["vocab_size"] == corpus.tokenizer.vocab_size
    assert (held["train_tokens"], held["val_tokens"]) == (len(corpus.train), len(corpus.val))


def test_the_split_is_that_of_nanogpt(tmp_path):
    """Held to the character, so that losses on the last tenth can be compared."""
    path = write(tmp_path / "verse.txt", "ä" * 1_115_394)
    train, val = text.own_documents(CORE, [path], 0.1)
    assert train.stop == val.start == int(1_115_394 * 0.9) == 1_003_854
    assert (train.start, val.stop) == (0, None)


@pytest.mark.parametrize("sizes", [[3000], [3000, 500, 9]])
def test_progress_ends_at_the_size_of_all_files(tmp_path, sizes):
    files = [write(tmp_path / f"{i}.txt", "word " * size) for i, size in enumerate(sizes)]
    sources = text.own_documents(CORE, files, 0.3)
    positions = [task.position for task in text.all_tasks(CORE, sources)]
    assert positions == sorted(positions)
    assert positions[-1] == sum(source.size() for source in sources) == 5 * sum(sizes)


def many(folder: Path, sizes: dict[str, int]) -> dict[str, str]:
    """Files of about these sizes, each with a text of its own; returns their texts."""
    texts = {name: (f"{name} " * size)[:size] for name, size in sizes.items()}
    for name, content in texts.items():
        write(folder / name, content)
    return texts


@pytest.mark.parametrize("as_folder", [True, False])
def test_of_many_texts_whole_ones_are_held_out(tmp_path, as_folder):
    texts = many(tmp_path / "in", {f"{i:02d}.txt": 1000 + 10 * i for i in range(20)})
    sources = [tmp_path / "in"] if as_folder else sorted((tmp_path / "in").iterdir())
    held = prepare(CORE, sources, tmp_path / "out", "byte", 0.2)
    corpus = open_corpus(tmp_path / "out")
    train, val = documents(corpus, "train"), documents(corpus, "val")
    assert sorted(train + val) == sorted(texts.values())
    assert not set(train) & set(val)
    assert train == sorted(train)  # in name order, here that of their texts too
    share = sum(map(len, val)) / sum(map(len, texts.values()))
    assert 0.15 < share < 0.25
    assert held["documents"] == 20


def test_the_same_files_are_always_held_out(tmp_path):
    many(tmp_path / "in", {f"{i}.txt": 100 for i in range(9)})
    for out in ("a", "b"):
        prepare(CORE, [tmp_path / "in"], tmp_path / out, "byte", 0.3)
    assert documents(open_corpus(tmp_path / "a"), "val") == documents(
        open_corpus(tmp_path / "b"), "val"
    )


@pytest.mark.parametrize("fraction", [1e-9, 0.1, 0.5, 0.9, 1 - 1e-9])
@pytest.mark.parametrize("sizes", [[100, 100], [100, 1], [1, 100], [5, 5, 1000, 5], [9] * 7])
def test_neither_split_is_ever_empty(tmp_path, sizes, fraction):
    files = [write(tmp_path / f"{i}.txt", "x" * size) for i, size in enumerate(sizes)]
    held = text.hold_out(files, fraction)
    assert 0 < len(held) < len(files)


def test_a_huge_text_among_small_ones_is_trained_on(tmp_path):
    for place in range(8):  # wherever the draw puts it
        sizes = [100_000 if i == place else 1000 for i in range(8)]
        files = [
            write(tmp_path / f"{place}" / f"{i}.txt", "x" * size) for i, size in enumerate(sizes)
        ]
        assert files[place] not in text.hold_out(files, 0.05)


def test_a_text_that_is_named_twice_counts_once(tmp_path):
    path = write(tmp_path / "in" / "verse.txt", VERSE)
    prepare(CORE, [path, tmp_path / "in", path], tmp_path / "out", "byte")
    corpus = open_corpus(tmp_path / "out")
    assert "".join(documents(corpus, "train") + documents(corpus, "val")) == VERSE


def test_a_folder_gives_its_texts_at_any_depth(tmp_path):
    texts = many(tmp_path / "in", {"b.txt": 50, "a/c.md": 60, "a/d/e.txt": 70})
    write(tmp_path / "in" / "picture.png", b"\x89PNG\0")
    write(tmp_path / "in" / "folder.txt" / "x.bin", b"\0")
    prepare(CORE, [tmp_path / "in"], tmp_path / "out", "char", 0.3)
    corpus = open_corpus(tmp_path / "out")
    assert sorted(documents(corpus, "train") + documents(corpus, "val")) == sorted(texts.values())


# The tokenizer


def test_characters_are_those_of_both_splits(tmp_path):
    path = write(tmp_path / "x.txt", "a" * 90 + "b" * 10)
    prepare(CORE, [path], tmp_path / "out")
    corpus = open_corpus(tmp_path / "out")
    assert corpus.tokenizer.characters == "ab"
    assert documents(corpus, "val") == ["b" * 10]


def test_pairs_are_learnt_from_the_training_split_alone(tmp_path):
    path = write(tmp_path / "x.txt", "abab " * 90 + "xyxy " * 10)
    prepare(CORE, [path], tmp_path / "out", "bpe", 0.1, vocab_size=400)
    pieces = open_corpus(tmp_path / "out").tokenizer.pieces
    assert b"abab" in pieces
    assert b"xy" not in pieces


def test_end_of_text_in_a_text_is_ordinary_text(tmp_path):
    path = write(tmp_path / "x.txt", "one <|endoftext|> two " * 20)
    prepare(CORE, [path], tmp_path / "out", "gpt2", 0.5)
    corpus = open_corpus(tmp_path / "out")
    joined = "".join(documents(corpus, "train") + documents(corpus, "val"))
    assert joined == "one <|endoftext|> two " * 20


# The bundled corpus


def test_the_bundled_plays_are_split_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no file is called shakespeare
    held = prepare(CORE, [Path("shakespeare")], tmp_path / "out")
    corpus = open_corpus(tmp_path / "out")
    train, val = documents(corpus, "train"), documents(corpus, "val")
    works = shakespeare()
    assert train == [work.content for work in works if work.split == "train"]
    assert val == [work.content for work in works if work.split == "val"]
    assert held["documents"] == len(works) == len(train) + len(val)
    assert 0.05 < len(corpus.val) / (len(corpus.train) + len(corpus.val)) < 0.15
    assert {"The Tempest", "Julius Caesar"} <= {work.name for work in works if work.split == "val"}


def test_nothing_of_a_play_that_is_held_out_is_trained_on():
    """No speech of some length is in both; stock phrases may be."""
    speeches: dict[str, set[str]] = {"train": set(), "val": set()}
    for work in shakespeare():
        for speech in work.content.split("\n\n"):
            _, _, words = speech.partition("\n")
            speeches[work.split].add(words)
    shared = speeches["train"] & speeches["val"]
    assert all(len(words) < 60 for words in shared)
    assert len(speeches["val"]) > 1000


def test_a_file_called_shakespeare_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "shakespeare", VERSE)
    prepare(CORE, [Path("shakespeare")], tmp_path / "out", "byte")
    assert len(open_corpus(tmp_path / "out").train) < len(VERSE)


# What is refused, with its sentence, and leaves nothing


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; give a file with text in it"),
        (b" \n\t\n", "is empty; give a file with text in it"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is not UTF-8 text; give a text file"),
        (b"text with \x00 in it", "is not UTF-8 text; give a text file"),
        ("Käse".encode("latin-1"), "is not UTF-8 text; give a text file"),
        ("text".encode("utf-16"), "is not UTF-8 text; give a text file"),
    ],
)
@pytest.mark.parametrize("among_others", [False, True])
def test_a_file_without_text_is_refused(tmp_path, content, sentence, among_others):
    path = write(tmp_path / "bad.txt", content)
    others = [write(tmp_path / "good.txt", VERSE)] if among_others else []
    assert refusal(tmp_path, UserError, [*others, path]) == f"{path} {sentence}"


def test_a_missing_file_is_refused(tmp_path):
    path = tmp_path / "none.txt"
    assert refusal(tmp_path, UsageError, [path]) == f"there is no file or folder {path}"


def test_a_folder_without_text_is_refused(tmp_path):
    write(tmp_path / "in" / "picture.png", b"\x89PNG")
    sentence = refusal(tmp_path, UserError, [tmp_path / "in"])
    kinds = ".txt, .md, .jsonl, .jsonl.gz, .jsonl.zst or .parquet"
    assert sentence == f"{tmp_path}/in holds no {kinds} file"


def test_a_file_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "x.txt", VERSE)

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", forbidden)
    assert refusal(tmp_path, UserError, [path]) == f"cannot read {path}: Permission denied"


@pytest.mark.parametrize("as_file", [True, False])
def test_what_exists_already_is_left_alone(tmp_path, as_file):
    path = write(tmp_path / "x.txt", VERSE)
    mine = write(tmp_path / "out" if as_file else tmp_path / "out" / "mine", "dear to me")
    sentence = refusal(tmp_path, UsageError, [path])
    assert sentence == f"{tmp_path}/out exists already; choose another --out or delete it"
    assert mine.read_text() == "dear to me"


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan"), float("inf")])
def test_a_share_that_is_none_is_refused(tmp_path, fraction):
    path = write(tmp_path / "x.txt", VERSE)
    sentence = refusal(tmp_path, UsageError, [path], val_fraction=fraction)
    assert sentence == "--val-fraction must be above 0 and below 1"


def test_an_unknown_tokenizer_is_refused(tmp_path):
    path = write(tmp_path / "x.txt", VERSE)
    sentence = refusal(tmp_path, UsageError, [path], kind="word")
    assert sentence == "--tokenizer = 'word' is not one of: char, byte, bpe, gpt2"


def test_a_vocabulary_of_another_size_is_refused(tmp_path):
    path = write(tmp_path / "x.txt", VERSE)
    assert "at least 257" in refusal(tmp_path, UsageError, [path], kind="bpe", vocab_size=256)
    sentence = refusal(tmp_path, UsageError, [path], kind="bpe", vocab_size=65537)
    assert sentence.startswith("a vocabulary of 65,537 does not fit into shards")


def test_more_characters_than_shards_can_hold_are_refused(tmp_path):
    path = write(tmp_path / "x.txt", "".join(map(chr, range(0xE000, 0xE000 + 66_000))))
    sentence = refusal(tmp_path, UsageError, [path])
    assert sentence.startswith("a vocabulary of 66,001 does not fit into shards")


# A prepare that fails or is killed leaves nothing that looks whole


def test_a_character_that_is_new_in_the_middle_leaves_nothing(tmp_path):
    tokenizer = CORE.tokenizer.CharTokenizer("abc")
    parts = [text.Document(str(i), "train", content=c) for i, c in enumerate(["ab", "ca", "ad"])]
    with pytest.raises(UserError, match="does not know the character 'd'"):
        text.write_shards(CORE, parts, tokenizer, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", [1, 2, 3])  # the shards of train and val, the manifest
def test_a_disk_that_is_full_leaves_nothing(tmp_path, monkeypatch, call):
    path = write(tmp_path / "x.txt", VERSE)
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    sentence = refusal(tmp_path, UserError, [path])
    assert sentence == f"cannot write {tmp_path}/out: No space left on device"
    assert len(calls) == call


def test_an_interrupted_prepare_leaves_nothing(tmp_path, monkeypatch):
    path = write(tmp_path / "x.txt", VERSE)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ShardWriter, "close", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(CORE, [path], tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


STUCK = """
import os, sys, time
from pathlib import Path
from buildgpt.core import load_core
from buildgpt.datasets.text import prepare
os.fsync = lambda _: (print("writing", flush=True), time.sleep(60))
prepare(load_core(), [Path(sys.argv[1])], Path(sys.argv[2]), "byte")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_prepare_is_not_taken_for_whole_and_can_be_repeated(tmp_path):
    path, out = write(tmp_path / "x.txt", VERSE), tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", STUCK, path, out], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == "writing\n"
        child.send_signal(signal.SIGKILL)
    assert not out.exists()
    assert list(tmp_path.glob(".*"))  # what was begun is there, under a hidden name
    prepare(CORE, [path], out, "byte")
    assert "".join(documents(open_corpus(out), "train")) == VERSE[: int(len(VERSE) * 0.9)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "x.txt"]


def test_the_folder_appears_after_all_that_is_in_it(tmp_path, monkeypatch):
    path, out = write(tmp_path / "x.txt", VERSE), tmp_path / "deep" / "er" / "out"
    seen = []
    rename = Path.rename

    def watch(self: Path, target: Path) -> Path:
        seen.append((sorted(p.name for p in self.iterdir()), target, target.exists()))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watch)
    prepare(CORE, [path], out, "byte")
    names = ["manifest.json", "out_train_000000.bin", "out_val_000000.bin"]
    assert seen == [(names, out, False)]
    assert sorted(p.name for p in out.iterdir()) == names
