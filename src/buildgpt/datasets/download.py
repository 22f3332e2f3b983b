"""Everything that is downloaded: single files, and models by name from the Hugging Face hub."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from buildgpt.core import Core

HELLASWAG = Path("data/hellaswag/hellaswag_val.jsonl")
# The 10,042 items as the authors' repository has them (Zellers et al. 2019).
HELLASWAG_URL = "https://raw.githubusercontent.com/rowanz/hellaswag/master/data/hellaswag_val.jsonl"
HELLASWAG_SHA256 = "0aa3b88843990f3f10a97b9575c94d7b71fb2205240ba04ae4884d9e9c992588"

TRIES = 6  # in a row without a byte more
PAUSE = 1.0  # seconds before the second try, twice as long before each further one
PIECE = 1 << 20  # bytes
SECONDS_TO_CONNECT, SECONDS_OF_SILENCE = 20, 60
NOTHING_THERE = 416  # the file ends where we would go on
TRANSIENT = (408, 429, 500, 502, 503, 504)  # statuses that a later try may not meet


class Cut(Exception):
    """The connection ended before the file did, or could not be made; what came so far is kept."""


def fetch(
    url: str,
    path: Path,
    sha256: str,
    core: Core,
    size: int = 0,
    headers: dict[str, str] | None = None,
    advance: Callable[[int], None] = lambda count: None,
    offline: str = "copy the file there by hand",
) -> Path:
    """Download a file to `path`, which appears whole and verified or not at all; returns it.

    A download that was cut goes on where it was, also in a later process. `size` is the file's in
    bytes, 0 if unknown; `advance` is told how many bytes more are here (fewer, if it begins
    again). Raises UserError: no network (`offline` says how to go on), a full disk, wrong bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{sha256[:12]}.part")
    if not sha256:
        part.unlink(missing_ok=True)  # it may be of another version
    advance(size_of(part))
    try:
        receive_all(url, part, core, size, headers or {}, advance, offline)
        check(url, part, core, size, sha256)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise core.config.UserError(
            f"cannot write {path}: {error.strerror}; what came so far is kept: mend that and run"
            " the same command again"
        ) from None
    return path


def size_of(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def receive_all(
    url: str,
    part: Path,
    core: Core,
    size: int,
    headers: dict[str, str],
    advance: Callable[[int], None],
    offline: str,
) -> None:
    """Try until all is here; UserError after several tries in a row that brought nothing."""
    tries = 0
    while not size or size_of(part) < size:
        before = size_of(part)
        try:
            return receive(url, part, core, size, headers, advance)
        except Cut as cut:
            tries = 0 if size_of(part) > before else tries + 1
            if tries == TRIES:
                kept = " (what came so far is kept)" if size_of(part) else ""
                raise core.config.UserError(
                    f"cannot download {url}: {cut}; run the same command again to go on{kept}, or"
                    f" without a network {offline}"
                ) from None
            time.sleep(PAUSE * 2 ** max(tries - 1, 0))


def receive(
    url: str,
    part: Path,
    core: Core,
    size: int,
    headers: dict[str, str],
    advance: Callable[[int], None],
) -> None:
    """One request for what is missing, written as it comes. Raises Cut if it ended early."""
    import requests

    have = size_of(part)
    wanted = (
        headers | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    )
    limits = (SECONDS_TO_CONNECT, SECONDS_OF_SILENCE)
    try:
        with requests.get(url, headers=wanted, stream=True, timeout=limits) as answer:
            if have and answer.status_code == NOTHING_THERE:
                return  # all is here already; its size and checksum will tell
            refuse_status(url, answer, core)
            if have and not continues(answer, have):  # all of it comes again
                advance(-have)
                have = 0
            expected = size or have + int(answer.headers.get("Content-Length") or 0)
            with part.open("ab" if have else "wb") as file:
                for data in answer.iter_content(PIECE):
                    file.write(data)
                    have += len(data)
                    advance(len(data))
                    if size and have > size:
                        return  # of another size than promised: no need for the rest
    except requests.RequestException as error:
        raise Cut(reason_of(error)) from None
    if have < expected:
        raise Cut("the connection was cut")


def refuse_status(url: str, answer: Any, core: Core) -> None:
    """Raise Cut for a status that may pass, UserError for one that will not."""
    if answer.status_code in TRANSIENT:
        raise Cut(f"the server answers {answer.status_code} {answer.reason}")
    if answer.status_code not in (200, 206):
        raise core.config.UserError(
            f"cannot download {url}: the server answers {answer.status_code} {answer.reason}"
        )


def continues(answer: Any, have: int) -> bool:
    """Whether the answer goes on after what is here; a server may ignore that wish."""
    begins = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    return answer.status_code == 206 and begins


def reason_of(error: Exception) -> str:
    """What was wrong with a connection, in a few words."""
    name = type(error).__name__
    known = {
        "ConnectionError": "no connection",
        "ConnectTimeout": "no connection in time",
        "ReadTimeout": "the server fell silent",
        "ChunkedEncodingError": "the connection was cut",
        "SSLError": "no safe connection",
        "ProxyError": "the proxy does not let it pass",
    }
    return known.get(name, name)


def check(url: str, part: Path, core: Core, size: int, sha256: str) -> None:
    """Raise UserError, and forget what came, unless its size and SHA-256 are the right ones."""
    came = size_of(part)
    if size in (0, came) and sha256 in ("", core.config.sha256(part)):
        return
    part.unlink()
    wrong = f"{came:,} bytes instead of {size:,}" if size not in (0, came) else "a wrong SHA-256"
    raise core.config.UserError(
        f"{url} came with {wrong}, so it was not kept; run the same command again, and if that"
        " does not help, the file has changed or something on the way changes it"
    )


def provide_hellaswag(core: Core) -> Path:
    """The file of HellaSwag's validation items, downloaded once; BUILDGPT_HELLASWAG_URL may name
    another place that has it."""
    if not HELLASWAG.exists():
        url = os.environ.get("BUILDGPT_HELLASWAG_URL", HELLASWAG_URL)
        offline = f"copy hellaswag_val.jsonl to {HELLASWAG} by hand"
        fetch(url, HELLASWAG, HELLASWAG_SHA256, core, offline=offline)
    return HELLASWAG


NEEDED = ["config.json", "model.safetensors"]  # never a pickle
USEFUL = ["vocab.json"]


def local_folder(core: Core, source: str) -> Path:
    """The folder `source`, or for hf:owner/name the folder that it was downloaded to.

    Raises UserError, with the way to go on offline, where it cannot be had.
    """
    if not source.startswith("hf:"):
        return Path(source)
    error = core.config.UserError
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise error("downloading needs huggingface_hub: pip install 'buildgpt[hub]'") from None
    name = source.removeprefix("hf:")
    try:
        return Path(snapshot_download(name, allow_patterns=[*NEEDED, *USEFUL]))
    except Exception as problem:  # the library's errors for no network, no such name, no access
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise error(
            f"cannot download {name}: {reason}; without a network, copy its"
            f" {' and '.join(NEEDED)} into a folder here and give that folder instead"
        ) from None
