"""The folder of a run: metrics that are only ever appended, its state, its lock, its clock."""

import errno
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .config import TrainConfig, UserError, write_text

# How each kind of line is said. A sample's text comes below it.
WORDS = {
    "train": "step {step:6,}  loss {loss:.4f}  lr {lr:.2e}  norm {grad_norm:.2f}"
    "  {tokens_per_second:,.0f} tokens/s",
    "val": "step {step:6,}  validation loss {loss:.4f}, {bits_per_byte:.3f} bits a byte",
    "hellaswag": "step {step:6,}  HellaSwag {acc_norm:.2%} (acc_norm; acc {acc:.2%})",
    "sample": "step {step:6,}  a sample",
    "event": "{message}",
}


class Log:
    """metrics.jsonl, appended and never truncated, and the same in words on stdout.

    A line holds kind, attempt, step, tokens, seconds and what it measures. After a crash steps
    repeat under a higher attempt; readers keep the latest and skip a torn last line.
    """

    def __init__(self, folder: Path, is_main: bool) -> None:
        self.path, self.is_main = folder / "metrics.jsonl", is_main
        self.attempt = 1 + max((line["attempt"] for line in read_metrics(folder)), default=0)
        torn = self.path.exists() and self.path.read_bytes()[-1:] not in (b"", b"\n")
        if self.is_main and torn:
            self.append("\n")  # after a line that a crash has torn

    def append(self, text: str) -> None:
        """Add to the file, in one write."""
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(text)

    def write(self, kind: str, **values: Any) -> None:
        """Append one line and say it. A number that is none is null there."""
        if not self.is_main:
            return
        line = {k: known(v) if isinstance(v, float) else v for k, v in values.items()}
        self.append(json.dumps({"kind": kind, "attempt": self.attempt} | line) + "\n")
        words = WORDS[kind].format(**values)
        words += "".join(f"\n    | {text}" for text in values.get("text", "").splitlines())
        try:
            print(words, flush=True)
        except BrokenPipeError:  # nobody listens any more; the file goes on
            sys.stdout = open(os.devnull, "w")


def known(value: float) -> float | None:
    """A number as JSON knows it: None for a nan or an infinity."""
    return value if math.isfinite(value) else None


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl that are whole, in order."""
    lines = []
    path = folder / "metrics.jsonl"
    for text in (
        path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    ):
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue  # torn by a crash
    return lines


class Clock:
    """How long the run has taken, all attempts together, and the pace of this one."""

    def __init__(self, started: float, before: float, step: int, pace: float = 0.0) -> None:
        self.started, self.before, self.first = started, before, step
        self.earlier_pace = pace  # of the attempt before, until this one has its own
        self.warm_at = 0.0  # when the first step, which may compile, was done
        self.stepping = 0.0  # seconds spent in updates alone, the first not counted
        self.tokens = 0  # of those updates
        self.recent: list[float] = []  # seconds of each update since they were last asked for

    def seconds(self) -> float:
        """Since the first attempt's process began, pauses between attempts not counted."""
        return self.before + time.monotonic() - self.started

    def count(self, step: int, tokens: int, began: float) -> None:
        """Take note of an update of so many tokens that began then and is done, the step-th."""
        self.recent.append(time.monotonic() - began)
        if step == self.first + 1:
            self.warm_at = self.seconds()
        else:
            self.stepping += self.recent[-1]
            self.tokens += tokens

    def step_seconds(self) -> dict[str, float]:
        """The mean and the longest of the updates since this was last asked."""
        recent, self.recent = self.recent, []
        mean, longest = sum(recent) / max(len(recent), 1), max(recent, default=0.0)
        return {"step_seconds": round(mean, 6), "slowest_step_seconds": round(longest, 6)}

    def pace(self, step: int) -> float:
        """Seconds a step, all included; 0 while unknown."""
        steps = step - self.first - 1
        return (self.seconds() - self.warm_at) / steps if steps > 0 else self.earlier_pace

    def possible_steps(self, step: int, train: TrainConfig) -> float:
        """The recipe's steps, or as many as its time allows at the pace so far."""
        left, pace = train.max_seconds - self.seconds(), self.pace(step)
        if not pace:
            return train.steps if left > 0 else step
        return min(train.steps, step + max(left, 0.0) / pace)

    def speed(self) -> float:
        """Tokens a second of training in this attempt; 0 while unknown."""
        return self.tokens / self.stepping if self.stepping else 0.0


def read_state(folder: Path) -> str:
    """RUNNING, PREEMPTED, FAILED or DONE; empty before the first start."""
    path = folder / "state"
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def write_state(folder: Path, state: str) -> None:
    """RUNNING, PREEMPTED, FAILED or DONE, for whoever starts runs."""
    write_text(folder / "state", state + "\n")


def finished_summary(folder: Path) -> dict[str, Any]:
    """The summary that a finished run left in its metrics."""
    summaries = [line["summary"] for line in read_metrics(folder) if "summary" in line]
    return (summaries[-1] if summaries else {}) | {"run": str(folder)}


@contextmanager
def locked(folder: Path, is_main: bool) -> Iterator[None]:
    """Keep other processes from training the same run, by a lock on its metrics.

    The system takes it back when the process ends, however that happens.
    """
    if not is_main:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.jsonl").open("a") as file:
        try:
            lock(file)
        except OSError:
            raise UserError(f"{folder} is being trained by another process") from None
        yield


def lock(file: Any, wait: bool = False) -> None:
    """Take the system's lock on an open file; OSError if another process has it, or wait for it.

    Some network file systems have no locks; there nothing guards a run.
    """
    if sys.platform == "win32":
        import msvcrt

        file.seek(2**30)  # Windows locks a place, which nobody can write to: one far off
        msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK):
                raise
