"""Downloads against a server on loopback that cuts, refuses, fails and lies."""

import errno
import hashlib
import os
from pathlib import Path

import pytest
from hub_server import Hub

from buildgpt.core import load_core
from buildgpt.datasets import download
from buildgpt.datasets.download import fetch, provide_hellaswag
from buildgpt.gpt.config import UserError

CORE = load_core()
DATA = bytes(range(256)) * 20_000  # 5 MB
MEGABYTE = 1 << 20  # a whole number of the pieces that are written at a time
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "PIECE", 1 << 14)


@pytest.fixture
def hub():
    with Hub({"o/d": {"x.bin": DATA}}) as server:
        yield server
        server.shutdown()


def get(hub: Hub, folder: Path, sha256: str = SHA256, size: int = len(DATA), **more) -> Path:
    url = f"{hub.url}/blob/o/d/x.bin"
    return fetch(url, folder / "deep" / "x.bin", sha256, CORE, size, **more)


def parts(folder: Path) -> list[int]:
    """Sizes of what is begun; nothing of it has the file's own name."""
    assert not (folder / "deep" / "x.bin").exists()
    return [path.stat().st_size for path in (folder / "deep").iterdir()]


def refusal(hub: Hub, folder: Path, **more) -> str:
    with pytest.raises(UserError) as caught:
        get(hub, folder, **more)
    assert caught.value.exit_status == 1
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("sha256", [SHA256, ""])
@pytest.mark.parametrize("size", [len(DATA), 0])
def test_a_file_arrives(hub, tmp_path, sha256, size):
    counts = []
    path = get(hub, tmp_path, sha256, size, advance=counts.append)
    assert path.read_bytes() == DATA
    assert sum(counts) == len(DATA)
    assert [p.name for p in path.parent.iterdir()] == ["x.bin"]


@pytest.mark.parametrize("size", [len(DATA), 0])
def test_a_cut_download_goes_on_where_it_was(hub, tmp_path, size):
    hub.cuts["x.bin"] = [MEGABYTE, 0, MEGABYTE]
    counts = []
    assert get(hub, tmp_path, size=size, advance=counts.append).read_bytes() == DATA
    ranges = [wish for _, wish in hub.downloads()]
    assert ranges == [None, "bytes=1048576-", "bytes=1048576-", "bytes=2097152-"]
    assert sum(counts) == len(DATA)


def test_a_server_that_refuses_ranges_sends_all_again(hub, tmp_path):
    hub.cuts["x.bin"] = [MEGABYTE, 2 * MEGABYTE]
    hub.refuses_ranges = True
    counts = []
    assert get(hub, tmp_path, advance=counts.append).read_bytes() == DATA
    assert sum(counts) == len(DATA)
    assert len(hub.downloads()) == 3


def test_after_several_cuts_in_a_row_it_gives_up_and_keeps_what_came(hub, tmp_path):
    hub.cuts["x.bin"] = [MEGABYTE] + [0] * 100
    sentence = refusal(hub, tmp_path)
    assert "the connection was cut; run the same command again to go on" in sentence
    assert parts(tmp_path) == [MEGABYTE]
    del hub.cuts["x.bin"]
    hub.log.clear()
    assert get(hub, tmp_path).read_bytes() == DATA
    assert hub.downloads() == [("x.bin", "bytes=1048576-")]


def test_a_whole_file_that_was_not_yet_renamed_is_not_downloaded_again(hub, tmp_path):
    hub.cuts["x.bin"] = [1000] + [0] * 100
    refusal(hub, tmp_path)
    (part,) = (tmp_path / "deep").iterdir()
    part.write_bytes(DATA)
    hub.log.clear()
    assert get(hub, tmp_path).read_bytes() == DATA
    assert hub.downloads() == []


def test_a_whole_file_of_unknown_size_is_recognised(hub, tmp_path):
    hub.cuts["x.bin"] = [1000] + [0] * 100
    refusal(hub, tmp_path)
    (part,) = (tmp_path / "deep").iterdir()
    part.write_bytes(DATA)
    assert get(hub, tmp_path, size=0).read_bytes() == DATA


def test_without_a_checksum_nothing_older_is_gone_on_with(hub, tmp_path):
    hub.cuts["x.bin"] = [1000] + [0] * 100
    refusal(hub, tmp_path, sha256="")
    del hub.cuts["x.bin"]
    hub.log.clear()
    assert get(hub, tmp_path, sha256="").read_bytes() == DATA
    assert hub.downloads() == [("x.bin", None)]


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        (DATA[:-1] + b"!", "came with a wrong SHA-256"),
        (DATA + b"!", "came with 5,120,001 bytes instead of 5,120,000"),
        (b"", "the connection was cut"),
        (DATA[:100], "came with 100 bytes instead of 5,120,000"),
    ],
    ids=["wrong", "long", "empty", "short"],
)
def test_wrong_bytes_and_wrong_sizes_are_not_kept(hub, tmp_path, lie, sentence):
    hub.lies["x.bin"] = lie
    assert sentence in refusal(hub, tmp_path)
    assert parts(tmp_path) in ([], [0])
    del hub.lies["x.bin"]
    assert get(hub, tmp_path).read_bytes() == DATA


def test_wrong_bytes_before_a_cut_are_found_and_forgotten(hub, tmp_path):
    hub.cuts["x.bin"] = [1000] + [0] * 100
    refusal(hub, tmp_path)
    (part,) = (tmp_path / "deep").iterdir()
    part.write_bytes(b"!" * 1000)
    del hub.cuts["x.bin"]
    assert "wrong SHA-256" in refusal(hub, tmp_path)
    assert parts(tmp_path) == []
    assert get(hub, tmp_path).read_bytes() == DATA


def test_a_busy_server_is_asked_again(hub, tmp_path):
    hub.statuses["x.bin"] = [503, 429, 500]
    assert get(hub, tmp_path).read_bytes() == DATA
    hub.statuses["x.bin"] = [503] * 100
    assert "the server answers 503" in refusal(hub, tmp_path / "other")


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_says_no_is_asked_once(hub, tmp_path, status):
    hub.statuses["x.bin"] = [status] * 100
    assert f"the server answers {status}" in refusal(hub, tmp_path)
    assert len(hub.downloads()) == 1


def test_without_a_network_one_sentence_says_how_to_go_on(tmp_path):
    with pytest.raises(UserError) as caught:
        fetch("http://127.0.0.1:9/x", tmp_path / "x", SHA256, CORE, offline="bring it yourself")
    assert str(caught.value) == (
        "cannot download http://127.0.0.1:9/x: no connection; run the same command again to go on,"
        " or without a network bring it yourself"
    )


def test_a_full_disk_keeps_what_came_and_says_so(hub, tmp_path, monkeypatch):
    class Full:
        """A file that takes 100,000 bytes."""

        def __init__(self, file) -> None:
            self.file, self.left = file, 100_000

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data: bytes) -> None:
            if len(data) > self.left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.left -= len(data)
            self.file.write(data)

    really = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, mode="r": Full(really(self, mode)))
        assert "No space left on device; what came so far is kept" in refusal(hub, tmp_path)
    assert 0 < parts(tmp_path)[0] <= 100_000
    assert get(hub, tmp_path).read_bytes() == DATA
    assert hub.downloads()[-1][1] is not None


def test_hellaswag_is_downloaded_once_and_verified(hub, tmp_path, monkeypatch, say):
    monkeypatch.setenv("BUILDGPT_HELLASWAG_URL", f"{hub.url}/blob/o/d/x.bin")
    outcome = say("prepare", "hellaswag")
    assert (outcome.status, outcome.out) == (1, "")
    assert "came with a wrong SHA-256" in outcome.err
    assert not download.HELLASWAG.exists()
    monkeypatch.setattr(download, "HELLASWAG_SHA256", SHA256)
    assert say("prepare", "hellaswag").status == 0
    assert (tmp_path / "data/hellaswag/hellaswag_val.jsonl").read_bytes() == DATA
    asked = len(hub.downloads())
    assert provide_hellaswag(CORE) == download.HELLASWAG
    assert len(hub.downloads()) == asked
