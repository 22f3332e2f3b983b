"""How far a piece of work is, in words."""

import io
import threading

import pytest

from buildgpt.datasets import progress
from buildgpt.datasets.progress import Progress, Stopped, duration, readable


@pytest.mark.parametrize(
    ("amount", "unit", "words"),
    [
        (0, "B", "0 B"),
        (999, "B", "999 B"),
        (20_200_000_000, "B", "20.2 GB"),
        (400_002_048, "B", "400 MB"),
        (10**10, "tokens", "10B tokens"),
        (350_000_000, "tokens", "350M tokens"),
        (1234, "tokens", "1.2k tokens"),
    ],
)
def test_amounts_are_short(amount, unit, words):
    assert readable(amount, unit) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (9000, "2.5 h")],
)
def test_times_are_short(seconds, words):
    assert duration(seconds) == words


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_piped_it_says_a_line_now_and_then(clock, capsys):
    with Progress("corpus", 1000e6, "B") as shown:
        shown.add(200e6, skipped=True)  # of an earlier process: no sign of the pace
        clock[0] += 5
        shown.add(50e6)
        assert capsys.readouterr().err == ""
        clock[0] += 5
        shown.add(50e6)
        said = "corpus: 300 MB of 1 GB, 30 %, 10 MB/s, 70 s left\n"
        assert capsys.readouterr().err == said
        shown.to(500e6)
        assert capsys.readouterr().err == ""
        assert shown.words().startswith("corpus: 500 MB of 1 GB, 50 %")


def test_on_a_terminal_all_that_runs_is_kept_up_to_date(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("one", 10, "B") as one, Progress("two", 10, "B") as two:
        one.add(1)
        two.add(5)
        progress.live.refresh()
    assert "one: 1 B of 10 B, 10 %" in terminal.getvalue()
    assert "two: 5 B of 10 B, 50 %" in terminal.getvalue()
    assert (progress.shown, progress.live) == ([], None)


def test_whoever_works_on_after_the_end_is_stopped():
    with Progress("corpus", 10, "B") as shown:
        shown.add(1)
    with pytest.raises(Stopped):
        shown.add(1)


def test_threads_may_share_one():
    with Progress("corpus", 4000, "B") as shown:
        work = [
            threading.Thread(target=lambda: [shown.add(1) for _ in range(1000)]) for _ in "1234"
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert shown.done == 4000
