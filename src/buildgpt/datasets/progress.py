"""How far a long piece of work is, and how long it will still take."""

import sys
import threading
import time
from typing import Any

EVERY = 10.0  # seconds between plain lines


class Stopped(Exception):
    """Nobody waits for this work any more."""


shown: list["Progress"] = []  # on the terminal, a line each
live: Any = None  # what draws them


class Progress:
    """A line that is kept up to date on a terminal, else a line now and then; both on stderr.

    `total` and what is added are in one unit: bytes ("B") or tokens. Threads may share one; once
    it is stopped, whoever adds to it gets Stopped.
    """

    def __init__(self, what: str, total: float, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self.skipped = 0.0  # skipped: done before, so no sign of the pace
        self.lock, self.stopped = threading.Lock(), False
        self.began = self.said = time.monotonic()

    def __enter__(self) -> "Progress":
        global live
        shown.append(self)
        if sys.stderr.isatty() and not live:
            live = start_live()
        return self

    def __exit__(self, *_: object) -> None:
        global live
        self.stopped = True
        shown.remove(self)
        if live and not shown:
            live.stop()
            live = None

    def add(self, amount: float, skipped: bool = False) -> None:
        """So much more is done; `skipped` if it was there before."""
        if self.stopped:
            raise Stopped
        with self.lock:
            self.done += amount
            self.skipped += amount if skipped else 0
            self.show()

    def to(self, done: float) -> None:
        """So much is done in all."""
        self.add(done - self.done)

    def show(self) -> None:
        """Say where it stands, if it is time to."""
        if live:
            live.update(plain("\n".join(progress.words() for progress in shown)))
        elif time.monotonic() - self.said >= EVERY:
            self.said = time.monotonic()
            print(self.words(), file=sys.stderr, flush=True)

    def words(self) -> str:
        """'fineweb-edu: 3.2 of 20.2 GB, 16 %, 45.1 MB/s, 6 min left'."""
        seconds = time.monotonic() - self.began
        rate = (self.done - self.skipped) / max(seconds, 1e-9)
        amount = (
            f"{self.what}: {readable(self.done, self.unit)} of {readable(self.total, self.unit)}"
        )
        share = f"{100 * min(self.done / max(self.total, 1), 1):.0f} %"
        left = duration((self.total - self.done) / rate) if rate > 0 else "unknown time"
        return f"{amount}, {share}, {readable(rate, self.unit)}/s, {left} left"


def start_live() -> Any:
    """A line on the terminal that is written over and over."""
    from rich.console import Console
    from rich.live import Live

    started = Live(console=Console(stderr=True), refresh_per_second=4, transient=True)
    started.start()
    return started


def plain(words: str) -> Any:
    """Words for the terminal, whatever brackets a file's name may hold."""
    from rich.text import Text

    return Text(words, no_wrap=True, overflow="ellipsis")


def readable(amount: float, unit: str) -> str:
    """20_200_000_000, "B" -> '20.2 GB'; 350_000_000, "tokens" -> '350M tokens'."""
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if amount >= size:
            number = f"{amount / size:.1f}".removesuffix(".0")
            if unit == "B":
                return f"{number} {prefix}B"
            return f"{number}{'B' if prefix == 'G' else prefix} {unit}"
    return f"{amount:.0f} {unit}"


def duration(seconds: float) -> str:
    """40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
