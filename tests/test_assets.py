"""The bundled files are what the notes beside them say they are."""

import hashlib
import json
import lzma
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "buildgpt"
MERGES = PACKAGE / "gpt" / "gpt2_merges.txt"
CORPUS = PACKAGE / "datasets" / "shakespeare.jsonl.xz"


def sha256(data: bytes) -> str:
    """Give the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def noted(path: Path) -> str:
    """Read the note beside a bundled file."""
    return path.with_name(path.name.split(".")[0] + ".md").read_text(encoding="utf-8")


def noted_number(name: str) -> int:
    """Read a number from the table in the corpus's note."""
    match = re.search(rf"^\| {re.escape(name)} \| ([0-9,]+)", noted(CORPUS), re.MULTILINE)
    return int(match[1].replace(",", ""))


@pytest.fixture(scope="module")
def records() -> list[dict[str, str]]:
    """Unpack the corpus."""
    lines = lzma.decompress(CORPUS.read_bytes()).decode("ascii").splitlines()
    return [json.loads(line) for line in lines]


def test_merges_are_as_noted():
    data = MERGES.read_bytes()
    first, *merges = data.decode("utf-8").splitlines()
    assert sha256(data) in noted(MERGES)
    assert first == "#version: 0.2"
    assert len(merges) == len(set(merges)) == 50_000
    assert all(len(merge.split(" ")) == 2 for merge in merges)


def test_corpus_hashes_are_as_noted():
    data = CORPUS.read_bytes()
    assert len(data) == noted_number("compressed bytes") < 2_000_000
    assert f"| SHA-256 of `shakespeare.jsonl.xz` | `{sha256(data)}` |" in noted(CORPUS)
    unpacked = sha256(lzma.decompress(data))
    assert f"| SHA-256 of its unpacked text | `{unpacked}` |" in noted(CORPUS)


def test_corpus_counts_are_as_noted(records):
    sizes = {"train": 0, "val": 0}
    for record in records:
        sizes[record["split"]] += len(record["text"])
    assert len(records) == noted_number("works")
    assert sum(sizes.values()) == noted_number("characters")
    assert sizes["train"] == noted_number("characters in `train`")
    assert sizes["val"] == noted_number("characters in `val`")


def test_corpus_alphabet_is_small_and_ascii(records):
    alphabet = set("".join(record["text"] for record in records))
    assert len(alphabet) == noted_number("distinct characters") < 90
    assert all(character.isascii() for character in alphabet)
    assert not alphabet & set('0123456789@#{}<>|~_*\t\r"')


def test_corpus_lists_its_held_out_works(records):
    titles = [record["title"] for record in records]
    assert titles == sorted(set(titles))
    held_out = [record["title"] for record in records if record["split"] == "val"]
    assert f"Held out as `val`: {', '.join(held_out)}." in noted(CORPUS)


def test_splits_share_no_long_line(records):
    lines = {"train": set(), "val": set()}
    for record in records:
        text = (line for line in record["text"].split("\n") if not line.startswith("["))
        lines[record["split"]].update(line for line in text if len(line) > 30)
    assert not lines["train"] & lines["val"]


def test_corpus_holds_no_boilerplate(records):
    pattern = r"gutenberg|\be-?text\b|copyright|public domain|transcriber|ebook|the end\n*$"
    for record in records:
        assert not re.search(pattern, record["text"], re.IGNORECASE), record["title"]


def test_corpus_lines_are_clean(records):
    for record in records:
        text = record["text"]
        lines = text.split("\n")
        assert all(line == line.strip() for line in lines), record["title"]
        assert all(line.count("[") == line.count("]") for line in lines), record["title"]
        assert text.endswith("\n") and not text.startswith("\n")
        assert "  " not in text and "\n\n\n" not in text


def test_plays_are_made_of_headings_directions_and_speeches(records):
    heading = r"(ACT [IV]+\.|INDUCTION\.)?( ?SCENE [IVX]+\.)?|PROLOGUE\.|EPILOGUE\."
    block = re.compile(rf"({heading})|\[[^\n]*\]|[A-Z][A-Za-z',. -]*:(\n.+)+")
    plays = [record for record in records if "ACT I." in record["text"]]
    assert len(plays) == 37
    for play in plays:
        blocks = play["text"].strip("\n").split("\n\n")
        assert [text for text in blocks if not block.fullmatch(text)] == [], play["title"]
