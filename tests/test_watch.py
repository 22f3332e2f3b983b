"""Watching: following metrics, the picture, the curve, and the process that is watched."""

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from buildgpt import chart, watch
from buildgpt.gpt.config import Recipe, TrainConfig

SOURCE = Path(watch.__file__).parents[1]
RECIPE = Recipe(train=TrainConfig(steps=100, tokens_per_step=1024))


def line(kind: str, step: int, attempt: int = 1, **values) -> bytes:
    stamp = {"kind": kind, "attempt": attempt, "step": step, "tokens": step * 9, "seconds": step}
    return json.dumps(stamp | values).encode() + b"\n"


def update(step: int, loss: float | None, attempt: int = 1) -> bytes:
    return line("train", step, attempt, loss=loss, lr=0.1, grad_norm=1.0, tokens_per_second=1024.0)


def said(step: int, message: str, attempt: int = 1, event: str = "start", **values) -> bytes:
    return line("event", step, attempt, event=event, message=message, **values)


def sample(step: int, text: str, attempt: int = 1) -> bytes:
    return line("sample", step, attempt, text=text)


@pytest.fixture
def progress(tmp_path):
    return watch.Progress(tmp_path / "metrics.jsonl")


@pytest.fixture
def write(progress):
    """write(bytes) appends to the metrics and lets the progress follow."""

    def write(*parts: bytes) -> None:
        with progress.path.open("ab") as file:
            file.write(b"".join(parts))
        progress.follow()

    return write


# Following.


def test_no_file_yet_is_no_progress(progress):
    progress.follow()
    assert (progress.losses, progress.latest) == ({}, {})


def test_lines_are_taken_once_and_in_order(progress, write):
    write(said(0, "hello"), update(1, 4.0))
    write(update(2, 3.5), sample(2, "text"), line("val", 2, loss=3.6))
    progress.follow()
    assert progress.losses == {1: 4.0, 2: 3.5}
    assert progress.latest["step"] == 2
    assert progress.samples == {2: "text"}
    assert progress.validation["loss"] == 3.6
    assert progress.messages == ["hello"]


@given(cuts=st.lists(st.integers(0, 400), max_size=8))
def test_lines_may_arrive_in_any_pieces(cuts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pieces")
    progress = watch.Progress(folder / "metrics.jsonl")
    content = update(1, 4.0) + sample(1, "é\n") + update(2, 3.0) + said(2, "ä", summary={"a": 1})
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(content)]):
        with progress.path.open("ab") as file:
            file.write(content[start:stop])
        progress.follow()
    assert progress.losses == {1: 4.0, 2: 3.0}
    assert progress.samples == {1: "é\n"}
    assert progress.summary == {"a": 1}


def test_a_torn_line_is_skipped(progress, write):
    write(update(1, 4.0), update(2, 3.0)[:-20])
    assert progress.losses == {1: 4.0}
    write(b"\n", update(2, 3.5, attempt=2))
    assert progress.losses == {1: 4.0, 2: 3.5}


@pytest.mark.parametrize("junk", [b"\n", b"\x00\x00\x00\n", b"\xff\xfe\n", b'{"kind": "tr\n'])
def test_junk_is_skipped(progress, write, junk):
    write(update(1, 4.0), junk, update(2, 3.0))
    assert progress.losses == {1: 4.0, 2: 3.0}


def test_a_later_attempt_replaces_what_an_earlier_one_did_beyond_its_start(progress, write):
    write(said(0, "first"), *(update(step, float(step)) for step in range(1, 6)))
    write(sample(2, "old"), sample(5, "lost"), said(5, "x", event="done", summary={"step": 5}))
    write(said(3, "second", attempt=2, event="resume"))
    assert progress.losses == {1: 1.0, 2: 2.0, 3: 3.0}
    assert progress.samples == {2: "old"}
    assert progress.messages == ["second"]
    assert progress.summary == {}
    write(update(4, 9.0, attempt=2))
    assert progress.losses[4] == 9.0


def test_a_loss_that_is_no_number_is_no_point(progress, write):
    write(update(1, 4.0), update(2, None), update(3, 3.0))
    assert progress.losses == {1: 4.0, 3: 3.0}


def test_what_training_writes_can_be_followed(trained):
    progress = watch.Progress(trained / "metrics.jsonl")
    progress.follow()
    assert list(progress.losses) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert list(progress.samples) == [0, 3, 8]
    assert progress.summary["step"] == 8
    assert progress.messages[0].startswith("training ")


# The picture.

SIZES = [(60, 20), (80, 24), (120, 40)]


def drawn(progress: watch.Progress, size: tuple[int, int], recipe: Recipe = RECIPE) -> list[str]:
    """The picture as lines of text, as a terminal of that size would show it."""
    width, height = size
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None)
    picture = watch.picture(progress, recipe, "demo", SimpleNamespace(width=width, height=height))
    console.print(picture)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("samples", [0, 1, 3, 12])
@pytest.mark.parametrize("loss", [4.0, 12345.678, None])
def test_the_picture_fits_the_terminal(progress, write, size, samples, loss):
    write(said(0, "training 10,000 parameters on a very long list of things " * 3))
    write(said(0, "torch.compile is off: there is no C++ compiler", event="note"))
    write(*(update(step, loss and loss / step) for step in range(1, 60)))
    text = "ROMEO:\n" + "long " * 60 + "\n\n" + "wide 宽宽宽 " * 30 + "\n" + "line\n" * 30
    write(*(sample(step, text) for step in range(samples)))
    write(line("val", 50, loss=1.5))
    lines = drawn(progress, size)
    assert len(lines) <= size[1] - 1
    assert all(len(text) <= size[0] for text in lines)


@pytest.mark.parametrize("size", SIZES)
def test_the_picture_before_anything_is_known(progress, size):
    lines = drawn(progress, size)
    assert len(lines) <= size[1] - 1
    assert lines[0].startswith("starting")
    assert any("step 0" in text for text in lines)


def test_the_picture_shows_curve_figures_and_samples(progress, write):
    write(said(0, "training 7 parameters"), update(10, 4.25), update(50, 2.5))
    write(line("val", 50, loss=2.75), sample(0, "noise"), sample(50, "verse"))
    text = "\n".join(drawn(progress, (100, 40)))
    for part in ("training 7 parameters", "4.25", "2.50", "step 50", "1,024 tokens/s", "val 2.75"):
        assert part in text
    assert "50 s left" in text  # 50 steps of 1,024 tokens at 1,024 tokens/s
    assert text.index("noise") < text.index("verse")
    write(said(100, "done", event="done", summary={"step": 100}))
    assert "done" in "\n".join(drawn(progress, (100, 40)))


def test_a_validation_loss_that_is_no_number_is_left_out(progress, write):
    write(update(1, 2.0), line("val", 1, loss=None, bits_per_byte=None, scored=9))
    progress.follow()
    assert not any("val" in text for text in drawn(progress, (80, 24)))


def test_a_budget_shortens_what_is_expected(progress, write):
    write(update(50, 4.0))
    budget = Recipe(train=TrainConfig(steps=1000, tokens_per_step=1024, max_seconds=60))
    assert watch.expected_steps(progress, budget) == 60
    assert watch.expected_steps(progress, RECIPE) == 100


def test_the_picture_of_a_run_that_was_stopped_says_how_to_go_on(progress, write):
    write(said(0, "training"), update(5, 4.0))
    write(said(5, "stopped by SIGINT; go on with --resume", event="preempted"))
    assert "go on with --resume" in "\n".join(drawn(progress, (80, 24)))


# The curve.

POINTS = st.lists(
    st.tuples(st.integers(0, 10_000), st.floats(-1e6, 1e6)), max_size=50, unique_by=lambda p: p[0]
).map(sorted)


@given(POINTS, st.integers(9, 120), st.integers(2, 30), st.floats(0, 1e5))
def test_a_curve_has_its_size_whatever_the_points(points, width, height, right):
    lines = chart.draw(points, width, height, right)
    assert len(lines) == height
    for text in lines:
        _label, _, cells = text.partition("│")
        assert len(cells) == width - chart.LABEL - 2
        assert all(0x2800 <= ord(cell) <= 0x28FF for cell in cells)
    drawn = any(cell > "\u2800" for text in lines for cell in text.partition("│")[2])
    assert drawn == bool(points)


def dots(lines: list[str]) -> set[tuple[int, int]]:
    """Where a curve has its dots: (column, row), two and four to a character."""
    found = set()
    for row, text in enumerate(lines):
        for column, cell in enumerate(text.partition("│")[2]):
            for across in range(2):
                for down in range(4):
                    if ord(cell) & chart.DOTS[across][down]:
                        found.add((2 * column + across, 4 * row + down))
    return found


def test_a_falling_loss_falls_from_corner_to_corner():
    lines = chart.draw([(0, 4.0), (100, 1.0)], 38, 8, 100)
    found = dots(lines)
    assert min(found) == (0, 0)
    assert max(found) == (59, 31)
    assert {column for column, _ in found} == set(range(60))  # without a gap
    rows = [row for _, row in sorted(found)]
    assert rows == sorted(rows)
    assert lines[0].startswith("  4.00 │")
    assert lines[-1].startswith("  1.00 │")


def test_a_curve_that_has_half_the_way_to_go_takes_half_the_width():
    found = dots(chart.draw([(0, 4.0), (50, 1.0)], 38, 8, 100))
    assert max(column for column, _ in found) == 30


def test_a_label_never_outgrows_its_place():
    assert [chart.label(v) for v in (1.234, 999.999, 12345.0, -9999.0)] == [
        "1.23",
        "1e+03",
        "1e+04",
        "-1e+04",
    ]


def test_a_constant_and_a_single_point_are_drawn():
    assert dots(chart.draw([(0, 2.0), (10, 2.0)], 20, 4)) == {(x, 0) for x in range(24)}
    assert len(dots(chart.draw([(5, 2.0)], 20, 4, 10))) == 1


# The process that is watched. Its core is a stand-in that does not take seconds to import.

STAND_IN = """
    import json, os, signal, sys, time
    from pathlib import Path

    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)

    def log(**values):
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"attempt": 1, "step": 1, "seconds": 1.0} | values) + "\\n")

    def stop(number, frame):
        signal.signal(number, signal.SIG_DFL)  # a second one stops at once
        time.sleep(0.3)
        print(f"saved after {signal.Signals(number).name}", flush=True)
        log(kind="event", event="preempted", message="saved; go on with --resume")
        sys.exit(1)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    if hasattr(os, "getpgrp"):
        (folder / "group").write_text(str(os.getpgrp()))
    log(kind="event", event="start", message="hello")
    log(kind="train", loss=4.0, tokens_per_second=10.0)
    log(kind="sample", text="a sample")
    print("step 1", flush=True)
    match sys.argv[2]:
        case "wait":
            time.sleep(100)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "complain":
            sys.exit("error: a sentence")
        case status:
            sys.exit(int(status))
"""
WATCHER = """
    import sys
    from pathlib import Path
    from buildgpt import watch
    from buildgpt.core import load_core
    from buildgpt.gpt.config import Recipe

    folder = Path(sys.argv[1]).absolute()
    core = load_core(Path("stand_in"))
    words = [str(folder), sys.argv[2]]
    sys.exit(watch.launch(core, words, folder, Recipe(), "demo", plain=len(sys.argv) > 3))
"""


@pytest.fixture
def watching(tmp_path, environment):
    """watching("wait") starts a process that launches the stand-in and watches it."""
    (tmp_path / "stand_in").mkdir()
    (tmp_path / "stand_in" / "__init__.py").touch()
    (tmp_path / "stand_in" / "train.py").write_text(textwrap.dedent(STAND_IN))
    (tmp_path / "watcher.py").write_text(textwrap.dedent(WATCHER))

    def watching(*words: str, **more) -> subprocess.Popen:
        command = [sys.executable, "watcher.py", "run", *words]
        pipe = subprocess.PIPE
        streams = {"stdout": pipe, "stderr": pipe, "text": True} | more
        return subprocess.Popen(command, cwd=tmp_path, env=environment, **streams)

    return watching


def wait_for(path, content: str, process: subprocess.Popen) -> None:
    while process.poll() is None and not (path.exists() and content in path.read_text()):
        time.sleep(0.02)


@pytest.mark.parametrize(("word", "status"), [("0", 0), ("1", 1), ("2", 2), ("70", 2)])
def test_the_status_of_the_training_is_that_of_the_program(watching, word, status):
    process = watching(word)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (status, "step 1\n", "")


def test_a_complaint_is_passed_on(watching):
    process = watching("complain")
    assert process.communicate(timeout=60)[1] == "error: a sentence\n"
    assert process.returncode == 1


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_a_training_that_was_killed_is_told(watching):
    process = watching("die")
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert error.startswith("error: SIGKILL ended the training")
    assert "--resume" in error
    assert error.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
@pytest.mark.parametrize(
    ("sent", "passed"), [("SIGINT", "SIGINT"), ("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGTERM")]
)
def test_a_signal_is_passed_on_and_its_saving_waited_for(watching, tmp_path, sent, passed):
    process = watching("wait", "plain")
    wait_for(tmp_path / "run" / "metrics.jsonl", "a sample", process)
    process.send_signal(getattr(signal, sent))
    out, err = process.communicate(timeout=60)
    assert out == f"step 1\nsaved after {passed}\n"
    assert (process.returncode, err) == (1, "")


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_on_a_terminal_the_picture_is_live_and_ctrl_c_reaches_the_training_once(watching, tmp_path):
    import pty

    master, slave = pty.openpty()

    def take_the_terminal() -> None:
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = watching(
        "wait", stdin=slave, stdout=slave, stderr=slave, text=False, preexec_fn=take_the_terminal
    )
    os.close(slave)
    shown = b""
    while b"a sample" not in shown:
        shown += os.read(master, 1 << 16)
    assert os.getpgid(process.pid) != int((tmp_path / "run" / "group").read_text())
    os.write(master, b"\x03")
    while True:
        try:
            shown += os.read(master, 1 << 16)
        except OSError:  # the other end is closed
            break
    assert process.wait(timeout=60) == 1
    assert b"training loss" in shown
    assert b"saved; go on with --resume" in shown
    assert b"ended the training at once" not in shown
    assert b"step 1\n" not in shown  # plain lines are for pipes
    assert b"Traceback" not in shown


# Several ranks.

TORCHRUN = """W1124 13:48:22 torch/distributed/elastic closing signal SIGTERM
error: 3 ranks cannot share
error: 3 ranks cannot share
  exitcode  : {} (pid: 8935)
"""


@pytest.mark.parametrize("code", [1, 2])
def test_what_ranks_say_is_said_once_with_their_exit_status(code):
    found = watch.of_all_ranks(1, TORCHRUN.format(code), "")
    assert found == (code, "error: 3 ranks cannot share\n")


def test_torchrun_s_report_of_an_orderly_stop_is_left_out():
    report = "Traceback\n  SignalException: got signal: 2\n"
    assert watch.of_all_ranks(1, report, "PREEMPTED") == (1, "")
    assert watch.of_all_ranks(0, "a warning\n", "DONE") == (0, "")


def test_a_crash_that_no_rank_explains_is_shown_whole():
    report = "Traceback\n  KeyError: 'x'\n"
    assert watch.of_all_ranks(1, report, "FAILED") == (1, report)


def test_ranks_that_are_told_to_stop_have_time_to_save(core, monkeypatch):
    """More than the 30 seconds that torchrun gives of itself."""
    monkeypatch.delenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", raising=False)
    several, alone = watch.environment(core, 8), watch.environment(core)
    assert int(several["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]) > 60
    assert "TORCH_ELASTIC_SHUTDOWN_TIMEOUT" not in alone
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "5")
    assert watch.environment(core, 8)["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == "5"


# What an editable installation of a package in two places does: a finder, and no place on sys.path.
INSTALLED = """
import importlib.util, sys

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "buildgpt":
            folder = {source!r} + "/buildgpt"
            places = {{"submodule_search_locations": [folder]}}
            return importlib.util.spec_from_file_location(name, folder + "/__init__.py", **places)

sys.meta_path.append(Finder)
from buildgpt.cli import main
main()
"""


def test_training_starts_wherever_the_package_was_installed(tiny):
    place = tiny.parent
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = INSTALLED.format(source=str(SOURCE))
    words = ["train", str(tiny), "--name", "x", "--set", "train.steps=2"]
    command = [sys.executable, "-P", "-c", code, *words]
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (place / "runs" / "x" / "state").read_text() == "DONE\n"
