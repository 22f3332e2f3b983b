"""Public corpora, end to end against a hub on loopback, and raw text on parquet files made here."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import REVISION, Hub

from buildgpt.core import load_core
from buildgpt.datasets import corpora, download
from buildgpt.datasets import raw as raw_text
from buildgpt.datasets.verify import verify
from buildgpt.gpt.config import DataConfig, UsageError, UserError
from buildgpt.gpt.data import Corpus, header, open_shard
from buildgpt.gpt.tokenizer import GPT2Tokenizer

CORE = load_core()
TOKENIZER = GPT2Tokenizer()
EDU, RAW = "karpathy/fineweb-edu-100B-gpt2-token-shards", "HuggingFaceFW/fineweb-edu"
TOKENS = 20_000  # of a shard


def shard(seed: int, tokens: int = TOKENS, documents: int = 7) -> bytes:
    """A shard as llm.c's tools write it, of random ids."""
    ids = np.random.RandomState(seed).randint(0, 50256, tokens).astype("<u2")
    ids[np.arange(documents) * (tokens // documents)] = 50256
    return header(tokens) + ids.tobytes()


def web_page(number: int) -> str:
    """A text of some 40 tokens, empty now and then, as the raw corpora may have them."""
    draw = np.random.RandomState(number)
    words = draw.choice(["the", "sea", "naïve", "13", "can't", "\n\n", "海", "  of", "zzz"], 40)
    return "" if number % 50 == 9 else f"page {number} " + " ".join(words)


def parquet(folder: Path, first: int, count: int, group: int) -> bytes:
    """Rows as FineWeb has them: a text column among others, in groups."""
    numbers = range(first, first + count)
    table = {"text": [web_page(n) for n in numbers], "id": list(numbers)}
    pq.write_table(pa.table(table), folder / "x.parquet", row_group_size=group, compression="zstd")
    return (folder / "x.parquet").read_bytes()


PAGES = (700, 500, 300)  # rows of the raw files


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("parquet")
    shards = {f"edu_fineweb_train_{i:06d}.bin": shard(i) for i in range(1, 8)}
    shards |= {"edu_fineweb_val_000000.bin": shard(0), "README.md": b"#", "other.bin": b"x"}
    raw = {
        f"sample/10BT/{i:03d}_00000.parquet": parquet(folder, sum(PAGES[:i]), count, 190)
        for i, count in enumerate(PAGES)
    }
    return {EDU: shards, RAW: raw | {"README.md": b"#"}}


@pytest.fixture
def hub(files, monkeypatch):
    """The hub, which this process takes for the real one."""
    from huggingface_hub import constants

    with Hub({name: dict(inside) for name, inside in files.items()}) as server:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(download, "PAUSE", 0.0)
        monkeypatch.setattr(download, "PIECE", 1 << 12)
        yield server
        server.shutdown()


def prepare(out: Path, tokens: int = 3 * TOKENS, **more):
    return corpora.prepare(CORE, "fineweb-edu", out, tokens, **more)


def refusal(kind: type[UserError], out: Path, *wishes, **more) -> str:
    with pytest.raises(UserError) as caught:
        prepare(out, *wishes, **more)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(hub: Hub) -> list[str]:
    """What was downloaded."""
    return sorted(name for name, _ in hub.downloads())


def train_names(*numbers: int) -> list[str]:
    return [f"edu_fineweb_train_{i:06d}.bin" for i in numbers]


VAL = "edu_fineweb_val_000000.bin"


@pytest.mark.parametrize(
    ("words", "count"),
    [("10B", 10**10), ("350M", 350 * 10**6), ("1e9", 10**9), ("1.5b", 15 * 10**8), ("2,000", 2000)],
)
def test_numbers_of_tokens_are_read_as_people_write_them(words, count):
    assert corpora.parse_tokens(CORE, words) == count


@pytest.mark.parametrize("words", ["", "many", "-1", "0", "10T", "1e999", "nan", "."])
def test_what_is_no_number_of_tokens_is_refused(words):
    with pytest.raises(UsageError, match="write it as 10B, 350M or 1e9"):
        corpora.parse_tokens(CORE, words)


# Shards of tokens


@pytest.mark.parametrize(
    ("wish", "shards"), [(1, 1), (TOKENS, 1), (TOKENS + 1, 2), (3 * TOKENS, 3), (7 * TOKENS, 7)]
)
def test_as_many_shards_come_as_are_wanted_and_always_the_same_to_validate_on(
    hub, files, tmp_path, wish, shards
):
    hub.page = 3
    made = prepare(tmp_path / "fw", wish)
    assert names(hub) == sorted([VAL, *train_names(*range(1, shards + 1))])
    assert (made["train_tokens"], made["val_tokens"]) == (shards * TOKENS, TOKENS)
    assert made["documents"] == 7 * (shards + 1)
    corpus = Corpus(DataConfig(path=str(tmp_path / "fw")))
    assert corpus.tokenizer.kind == "gpt2"
    assert header(TOKENS) + corpus.val.read(0, TOKENS).tobytes() == files[EDU][VAL]
    for i, path in enumerate(corpus.train.paths, start=1):
        assert path.read_bytes() == files[EDU][train_names(i)[0]]
    assert corpus.manifest["source"] == {"repository": EDU, "revision": REVISION}
    assert [p.name for p in tmp_path.iterdir()] == ["fw"]
    assert verify(CORE, tmp_path / "fw")["tokens"] == (shards + 1) * TOKENS


def test_what_is_there_is_not_downloaded_again_and_more_can_be_added(hub, tmp_path):
    prepare(tmp_path / "fw", TOKENS)
    asked = len(hub.log)
    prepare(tmp_path / "fw", TOKENS)
    assert len(hub.log) == asked  # not even the hub is asked
    hub.log.clear()
    made = prepare(tmp_path / "fw", 3 * TOKENS)
    assert names(hub) == train_names(2, 3)
    assert made["train_tokens"] == 3 * TOKENS
    hub.log.clear()
    assert prepare(tmp_path / "fw", TOKENS)["train_tokens"] == 3 * TOKENS
    assert not hub.log


def test_a_folder_that_grows_stays_what_it_was_until_all_is_here(hub, tmp_path):
    prepare(tmp_path / "fw", TOKENS)
    hub.statuses[train_names(3)[0]] = [404] * 9
    refusal(UserError, tmp_path / "fw", 3 * TOKENS)
    assert len(Corpus(DataConfig(path=str(tmp_path / "fw"))).train) == TOKENS


@pytest.mark.parametrize("refuses", [False, True])
def test_cuts_are_gone_on_from(hub, files, tmp_path, refuses):
    hub.refuses_ranges = refuses
    for name in [VAL, *train_names(1, 2, 3)]:
        hub.cuts[name] = [8192, 0, 12288]
    prepare(tmp_path / "fw")
    wishes = [wish for name, wish in hub.downloads() if name == VAL]
    assert wishes[:3] == [None, "bytes=8192-", None if refuses else "bytes=8192-"]
    assert verify(CORE, tmp_path / "fw")["shards"] == 4


def test_an_interrupted_download_leaves_nothing_that_looks_whole_and_goes_on(hub, tmp_path):
    name = train_names(2)[0]
    hub.cuts[name] = [8192] + [0] * 99
    assert "run the same command again" in refusal(UserError, tmp_path / "fw")
    assert not (tmp_path / "fw").exists()
    hub.cuts.clear()
    hub.log.clear()
    prepare(tmp_path / "fw")
    assert (name, "bytes=8192-") in hub.downloads()
    assert len(hub.downloads()) <= 3  # what was whole stayed
    assert [p.name for p in tmp_path.iterdir()] == ["fw"]


@pytest.mark.parametrize("lie", ["bytes", "short", "long"])
def test_wrong_bytes_and_sizes_are_refused(hub, files, tmp_path, lie):
    good = files[EDU][VAL]
    hub.lies[VAL] = {"bytes": good[:-1] + b"!", "short": good[:-9], "long": good + b"!"}[lie]
    assert f"{VAL} came with " in refusal(UserError, tmp_path / "fw")
    assert not (tmp_path / "fw").exists()
    hub.lies.clear()
    prepare(tmp_path / "fw")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (header(TOKENS - 1) + shard(1)[1024:], "promises 19,999 tokens"),
        (b"x" * (1024 + 2 * TOKENS), "is not a shard of tokens"),
        (header(TOKENS) + b"\xff\xff" * TOKENS, "holds the id 65535, outside the vocabulary"),
    ],
    ids=["count", "foreign", "tokenizer"],
)
def test_a_shard_that_is_wrong_on_the_hub_is_refused(hub, tmp_path, content, sentence):
    hub.files[EDU][train_names(1)[0]] = content
    assert sentence in refusal(UserError, tmp_path / "fw", TOKENS)
    assert not (tmp_path / "fw").exists()


def test_more_than_there_is_is_refused_before_anything_comes(hub, tmp_path):
    sentence = refusal(UsageError, tmp_path / "fw", 10**9)
    assert sentence == (
        "fineweb-edu has 140k tokens to train on, fewer than 1B tokens; ask for fewer --tokens"
    )
    assert not hub.downloads()


@pytest.mark.parametrize("raw", [False, True])
def test_a_small_disk_is_told_before_anything_comes(hub, tmp_path, monkeypatch, raw):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    sentence = refusal(UserError, tmp_path / "fw", raw=raw)
    assert " needs " in sentence
    assert "where 1 kB are free; free some, ask for fewer --tokens, or choose" in sentence
    assert not hub.downloads()


@pytest.mark.parametrize("raw", [False, True])
def test_without_a_network_the_sentence_says_how_to_go_on(tmp_path, monkeypatch, raw):
    """HF_HUB_OFFLINE is set in these tests."""
    sentence = refusal(UserError, tmp_path / "fw", raw=raw)
    assert sentence.startswith(f"cannot reach {RAW if raw else EDU} on the hub: ")
    wanted = "prepare parquet files that you have" if raw else "copy its edu_fineweb_*.bin files"
    assert f"without a network, {wanted}" in sentence
    assert list(tmp_path.iterdir()) == []


def test_what_is_already_there_needs_no_network(hub, tmp_path):
    prepare(tmp_path / "fw")
    hub.shutdown()
    hub.server_close()
    assert prepare(tmp_path / "fw")["train_tokens"] == 3 * TOKENS


def test_another_folder_is_left_alone(hub, tmp_path):
    (tmp_path / "fw").mkdir()
    (tmp_path / "fw" / "mine.txt").write_text("dear to me")
    sentence = refusal(UsageError, tmp_path / "fw")
    assert sentence.endswith(f"is not made from {EDU}; choose another --out or delete it")
    assert [p.name for p in (tmp_path / "fw").iterdir()] == ["mine.txt"]


def test_a_shard_that_is_gone_or_cut_comes_again(hub, tmp_path):
    prepare(tmp_path / "fw")
    one, two, _ = [tmp_path / "fw" / name for name in train_names(1, 2, 3)]
    one.unlink()
    two.write_bytes(two.read_bytes()[:-2])
    hub.log.clear()
    prepare(tmp_path / "fw")
    assert names(hub) == train_names(1, 2)
    assert verify(CORE, tmp_path / "fw")["shards"] == 4


# --verify


def test_verify_finds_what_opening_does_not(hub, tmp_path, say):
    out = tmp_path / "fw"
    prepare(out)
    assert "4 shards, 80,000 tokens, all as" in say("prepare", out, "--verify").out
    path = out / train_names(2)[0]
    good = path.read_bytes()
    path.write_bytes(good[:-2] + b"\x01\x00")
    Corpus(DataConfig(path=str(out)))
    outcome = say("prepare", out, "--verify")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == (
        f"error: {path} is not as manifest.json says: its sha256 differ;"
        " delete it and prepare the corpus again\n"
    )
    path.write_bytes(good[:-2] + b"\xff\xff")
    assert "outside the vocabulary of 50257" in say("prepare", out, "--verify").err
    path.unlink()
    assert "cannot read the shard" in say("prepare", out, "--verify").err
    (out / "manifest.json").unlink()
    assert "no manifest.json to verify it by" in say("prepare", out, "--verify").err


@pytest.mark.parametrize("key", ["tokens", "documents", "sha256"])
def test_verify_finds_a_manifest_that_disagrees(hub, tmp_path, key):
    prepare(tmp_path / "fw", TOKENS)
    path = tmp_path / "fw" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["splits"]["val"]["shards"][0][key] = 3
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=f"its {key} differ"):
        verify(CORE, tmp_path / "fw")


# Raw text


def naive(wanted: int, val_documents: int) -> tuple[list[int], list[int], int]:
    """All of the raw corpus, one page after another; the stop is where 128 rows end."""
    val: list[int] = []
    train: list[int] = []
    number = empty = 0
    for count in PAGES:
        first = number
        for row in range(count):
            into = val if number < val_documents else train
            text = web_page(number)
            into += [50256, *TOKENIZER.encode(text)] if text else []
            empty += not text
            number += 1
            in_group = row % 190 + 1
            ended = in_group % 128 == 0 or in_group == 190 or number == first + count
            if ended and len(train) >= wanted:
                return train, val, empty
    return train, val, empty


@pytest.fixture
def small(monkeypatch):
    """Few documents to validate on, and shards of 5,000 tokens."""
    monkeypatch.setattr(raw_text, "VAL_DOCUMENTS", 100)
    monkeypatch.setattr(CORE.data.ShardWriter.__init__, "__defaults__", (5000,))


def raw_folder(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


@pytest.mark.parametrize("wanted", [1, 30_000, 0])
def test_raw_text_is_encoded_as_a_naive_loop_does(hub, tmp_path, small, wanted):
    made = prepare(tmp_path / "fw", wanted, raw=True, processes=1)
    train, val, empty = naive(wanted or 10**9, 100)
    corpus = Corpus(DataConfig(path=str(tmp_path / "fw")))
    assert corpus.train.read(0, len(corpus.train)).tolist() == train
    assert corpus.val.read(0, len(corpus.val)).tolist() == val
    assert (made["train_tokens"], made["val_tokens"]) == (len(train), len(val))
    assert corpus.manifest["empty_documents"] == empty > 0
    assert made["documents"] == (train + val).count(50256)
    assert corpus.manifest["source"]["complete"] == (wanted == 0)
    assert [p.name for p in tmp_path.iterdir()] == ["fw"]
    assert all(open_shard(path).size <= 5000 for path in (tmp_path / "fw").glob("*.bin"))
    assert verify(CORE, tmp_path / "fw")["tokens"] == len(train) + len(val)


def test_the_number_of_processes_changes_nothing(hub, tmp_path, small):
    for processes in (0, 1, 3):  # 0: so little text is encoded without a pool
        folder = tmp_path / str(processes) / "fw"
        prepare(folder, 20_000, raw=True, processes=processes)
    folders = [raw_folder(tmp_path / str(n) / "fw") for n in (0, 1, 3)]
    assert folders[0] == folders[1] == folders[2]


def test_a_finished_raw_folder_is_not_made_again(hub, tmp_path, small):
    prepare(tmp_path / "fw", 5000, raw=True)
    asked = len(hub.log)
    prepare(tmp_path / "fw", 5000, raw=True)
    assert len(hub.log) == asked
    sentence = refusal(UsageError, tmp_path / "fw", 30_000, raw=True)
    assert "raw text cannot be added to; choose another --out" in sentence
    prepare(tmp_path / "all", 0, raw=True)
    prepare(tmp_path / "all", 10**9, raw=True)  # more than there is: there is no more to come


@pytest.mark.parametrize("calls", [1, 3, 8])
def test_an_interrupted_raw_prepare_ends_in_the_same_bytes(
    hub, tmp_path, small, monkeypatch, calls
):
    """Interrupted again and again: each attempt takes in a few tasks and is then cut off."""
    prepare(tmp_path / "whole" / "fw", 0, raw=True)
    monkeypatch.setattr(raw_text, "SAVE_EVERY", 0.0)
    add = raw_text.Journal.add
    for _ in range(50):
        left = [calls]

        def some(self, task, done, left=left):
            add(self, task, done)
            left[0] -= 1
            if left[0] == 0:
                self.writers["train"].add([7] * 3000)  # reached the disk, not the journal
                raise KeyboardInterrupt

        monkeypatch.setattr(raw_text.Journal, "add", some)
        try:
            prepare(tmp_path / "fw", 0, raw=True)
            break
        except KeyboardInterrupt:
            assert not (tmp_path / "fw").exists()
    assert raw_folder(tmp_path / "fw") == raw_folder(tmp_path / "whole" / "fw")


def test_a_full_disk_in_the_middle_of_encoding_loses_nothing(hub, tmp_path, small, monkeypatch):
    prepare(tmp_path / "whole" / "fw", 0, raw=True)
    monkeypatch.setattr(raw_text, "SAVE_EVERY", 0.0)
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 9:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        sentence = refusal(UserError, tmp_path / "fw", 0, raw=True)
    assert sentence == (
        f"cannot write {tmp_path}/fw: No space left on device; what is done is kept: mend that and"
        " run the same command again"
    )
    assert not (tmp_path / "fw").exists()
    prepare(tmp_path / "fw", 0, raw=True)
    assert raw_folder(tmp_path / "fw") == raw_folder(tmp_path / "whole" / "fw")


KILLED = """
import sys
from pathlib import Path
from buildgpt.core import load_core
from buildgpt.datasets import corpora, raw
if __name__ == "__main__":
    core = load_core()
    raw.VAL_DOCUMENTS, raw.SAVE_EVERY = 100, 0.0
    core.data.ShardWriter.__init__.__defaults__ = (5000,)
    corpora.prepare(core, "fineweb-edu", Path(sys.argv[1]), 0, raw=True, processes=2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_raw_prepare_ends_in_the_same_bytes(hub, tmp_path, small, environment):
    """SIGKILL while the processes of the pool are at work; they end with the main one."""
    prepare(tmp_path / "whole" / "fw", 0, raw=True)
    (tmp_path / "go.py").write_text(KILLED)
    environment |= {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url}
    command = [sys.executable, tmp_path / "go.py", tmp_path / "fw"]
    journal = tmp_path / ".fw.raw.tmp" / "fw" / "journal.json"
    child = subprocess.Popen(command, env=environment)
    wait_until(lambda: journal.exists() and json.loads(journal.read_text())["train"]["shards"])
    workers = Path(f"/proc/{child.pid}/task/{child.pid}/children")
    pids = workers.read_text().split() if workers.exists() else []
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "fw").exists()
    wait_until(lambda: not any(is_running(pid) for pid in pids))
    (journal.parent / ".journal.json.tmp1").write_bytes(b"{")  # as a kill while it was saved leaves
    subprocess.run(command, env=environment, check=True, timeout=120)
    assert raw_folder(tmp_path / "fw") == raw_folder(tmp_path / "whole" / "fw")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fw", "go.py", "whole"]


def is_running(pid: str) -> bool:
    """Whether a process of this id does anything yet; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition) -> None:
    """Up to a minute."""
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("never came true")


def test_another_revision_is_not_mixed_in(hub, tmp_path, small, monkeypatch):
    monkeypatch.setattr(raw_text, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(raw_text.Journal, "next_file", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(tmp_path / "fw", 0, raw=True)
    journal = tmp_path / ".fw.raw.tmp" / "fw" / "journal.json"
    journal.write_text(journal.read_text().replace(REVISION, "f" * 40))
    sentence = refusal(UserError, tmp_path / "fw", 0, raw=True)
    assert f"the corpus has changed since {journal.parent} was begun" in sentence


def test_no_thread_outlives_a_failure(hub, tmp_path, small):
    hub.cuts["000_00000.parquet"] = [0] * 99
    refusal(UserError, tmp_path / "fw", 0, raw=True)
    assert not [t for t in threading.enumerate() if "ThreadPoolExecutor" in t.name]


# The command line


def test_the_command_line_prepares_a_corpus(hub, tmp_path, say, monkeypatch):
    monkeypatch.setattr(corpora, "SAMPLE_TOKENS", TOKENS)
    outcome = say("prepare", "fineweb-edu", "--sample")
    assert outcome.out.splitlines() == [
        "data/fineweb-edu: 20,000 tokens to train on, 20,000 held out, 50,257 ids (gpt2)",
        "train on it: buildgpt train gpt2-124m",
    ]
    assert (
        "--name x --set data.path=x" in say("prepare", "fineweb-edu", "--out", "x", "--sample").out
    )
    made = json.loads(say("prepare", "fineweb-edu", "--tokens", "40k", "--json").out)
    assert made["train_tokens"] == 2 * TOKENS


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fineweb", "--tokens", "many"], "--tokens many: write it as 10B, 350M or 1e9"),
        (["fineweb", "--tokens", "1B", "--sample"], "give either --tokens or --sample"),
        (["fineweb", "--tokenizer", "byte"], "fineweb comes in GPT-2's tokens; leave --tokenizer"),
        (["x.txt", "--raw"], "go with fineweb-edu and fineweb, not with x.txt"),
        (["hellaswag", "--sample"], "go with fineweb-edu and fineweb, not with hellaswag"),
    ],
)
def test_words_that_do_not_go_together_are_refused(say, words, sentence):
    outcome = say("prepare", *words)
    assert (outcome.status, outcome.out) == (2, "")
    assert sentence in outcome.err
