"""A run that is killed at any moment and resumed ends in the same bits as one that was not."""

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from buildgpt.gpt import checkpoint, runlog, train
from buildgpt.gpt.config import UsageError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

# Dropout makes the bits depend on the random numbers' state, Adam's moments on the optimizer's.
SETTINGS = ["model.dropout=0.1", "train.steps=12", "train.checkpoint_every=2"]


class Countdown:
    """Kills this process with SIGKILL after so many calls and returns of Python and C functions.

    That reaches every moment between two of them, the same one in every run of the test.
    """

    def __init__(self, events: int) -> None:
        self.left = events

    def start(self) -> None:
        sys.setprofile(self.count)

    def stop(self) -> None:
        sys.setprofile(None)

    def count(self, frame: object, event: str, argument: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def attempt(tiny, runs):
    """attempt("name", before) resumes the run in a process of its own, after before() in it.

    Returns the process's id; status(id) waits for its exit status, negative for a signal.
    """

    def attempt(name: str, before: Callable[[], None] = lambda: None) -> int:
        child = os.fork()
        if child:
            return child
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            before()
            train.train(tiny, name, runs, SETTINGS, resume=True)
            sys.setprofile(None)
            os._exit(0)
        except BaseException:
            sys.setprofile(None)
            traceback.print_exc()
        finally:
            os._exit(70)

    return attempt


def status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def count_in_saves(countdown: Countdown) -> None:
    """Let the countdown run only while a checkpoint is saved."""
    save = checkpoint.save_checkpoint

    def counted(*words, **more):
        countdown.start()
        try:
            return save(*words, **more)
        finally:
            countdown.stop()

    checkpoint.save_checkpoint = counted


def contents(run: Path) -> dict[str, torch.Tensor]:
    """Weights and optimizer state of a run's newest checkpoint."""
    newest = checkpoint.choose_checkpoint(run)
    return load_file(newest / "model.safetensors") | load_file(newest / "optimizer.safetensors")


def check_what_a_kill_left(run: Path) -> None:
    """Each checkpoint that counts is whole, whatever the moment."""
    for folder in checkpoint.find_checkpoints(run):
        for name in ("model.safetensors", "optimizer.safetensors"):
            assert checkpoint.read_tensors(folder, name)
        assert checkpoint.read_state(folder)["step"] == checkpoint.step_of(folder)
    assert train.read_state(run) in ("", "RUNNING", "DONE")


def check_end(run: Path, whole: dict[str, torch.Tensor]) -> None:
    found = contents(run)
    assert train.read_state(run) == "DONE"
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)


@pytest.fixture
def whole(fit):
    """The end of a run that nothing disturbed."""
    return contents(fit("whole", *SETTINGS))


def events_of_a_run(attempt, inside_saves: bool) -> int:
    """How many calls and returns there are to be killed at."""
    reading, writing = os.pipe()

    def measure() -> None:
        countdown = Countdown(1 << 62)
        count_in_saves(countdown) if inside_saves else countdown.start()
        leave = os._exit

        def tell(code: int) -> None:
            os.write(writing, str((1 << 62) - countdown.left).encode())
            leave(code)

        os._exit = tell

    assert status(attempt("measured", measure)) == 0
    return int(os.read(reading, 100))


@pytest.mark.parametrize("inside_saves", [False, True])
def test_killed_at_any_moment_and_resumed_it_ends_in_the_same_bits(
    inside_saves, attempt, whole, runs
):
    draw = random.Random(1)
    events = events_of_a_run(attempt, inside_saves)
    assert events > 1000
    kills = resumed = chain = 0
    while kills < 14:
        run = runs / f"chain-{chain}"
        resumed += bool(checkpoint.find_checkpoints(run))
        countdown = Countdown(draw.randrange(1, events))
        before = (lambda c=countdown: count_in_saves(c)) if inside_saves else countdown.start
        ended = status(attempt(run.name, before))
        assert ended in (0, -signal.SIGKILL)
        kills += ended != 0
        check_what_a_kill_left(run)
        if ended == 0:
            check_end(run, whole)
            chain += 1
    assert resumed > 5
    assert status(attempt(f"chain-{chain}")) == 0
    check_end(runs / f"chain-{chain}", whole)


def test_killed_from_outside_and_resumed_it_ends_in_the_same_bits(attempt, whole, runs):
    """The moments are the scheduler's; whichever they are, the end is the same."""
    draw = random.Random(2)
    began = time.monotonic()
    assert status(attempt("measured")) == 0
    duration = time.monotonic() - began
    for _ in range(8):
        child = attempt("run")
        time.sleep(draw.random() * duration)
        os.kill(child, signal.SIGKILL)
        assert status(child) in (0, -signal.SIGKILL)
        check_what_a_kill_left(runs / "run")
    assert status(attempt("run")) == 0
    check_end(runs / "run", whole)


def test_attempts_that_were_killed_stay_in_the_metrics(attempt, runs):
    def die_in_step_6() -> None:
        original = train.Trainer.update

        def update(self):
            if self.step == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            original(self)

        train.Trainer.update = update

    assert status(attempt("run", die_in_step_6)) == -signal.SIGKILL
    assert train.read_state(runs / "run") == "RUNNING"
    assert status(attempt("run")) == 0
    done = [
        (line["attempt"], line["step"])
        for line in runlog.read_metrics(runs / "run")
        if line["kind"] == "train"
    ]
    assert done == [(1, s) for s in range(1, 6)] + [(2, s) for s in range(5, 13)]


def test_resume_before_the_first_checkpoint_starts_at_the_beginning_and_says_so(
    fit, attempt, whole, runs, capsys
):
    def die_in_step_2() -> None:
        train.Trainer.report = lambda self: os.kill(os.getpid(), signal.SIGKILL)

    assert status(attempt("run", die_in_step_2)) == -signal.SIGKILL
    assert checkpoint.find_checkpoints(runs / "run") == []
    capsys.readouterr()
    fit("run", *SETTINGS, resume=True)
    said = f"{runs / 'run'} has no complete checkpoint: starting at the beginning"
    assert said in capsys.readouterr().out.splitlines()
    check_end(runs / "run", whole)


def test_resume_of_a_run_that_was_never_begun_starts_it_and_says_so(fit, runs, whole, capsys):
    fit("new", *SETTINGS, resume=True)
    assert "starting at the beginning" in capsys.readouterr().out
    check_end(runs / "new", whole)


def test_resume_of_a_finished_run_does_nothing_and_says_so(tiny, runs, capsys):
    summary = train.train(tiny, "run", runs)
    before = {p: p.read_bytes() for p in runs.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert train.train(tiny, "run", runs, resume=True) == summary
    assert capsys.readouterr().out == f"{runs / 'run'} is finished; there is nothing to resume\n"
    assert {p: p.read_bytes() for p in runs.rglob("*") if p.is_file()} == before


def test_a_name_that_exists_is_refused_without_resume(fit, runs):
    run = fit()
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(UsageError, match="exists; go on with --resume, or choose another --name"):
        fit()
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("missing", ["optimizer.safetensors", "complete.json", "state.json"])
def test_resume_falls_back_to_the_older_complete_checkpoint(missing, attempt, whole, runs):
    def die_in_step_9() -> None:
        original = train.Trainer.update

        def update(self):
            if self.step == 8:
                os.kill(os.getpid(), signal.SIGKILL)
            original(self)

        train.Trainer.update = update

    assert status(attempt("run", die_in_step_9)) == -signal.SIGKILL
    assert checkpoint.step_of(checkpoint.choose_checkpoint(runs / "run")) == 8
    (runs / "run" / "checkpoints" / "step_000008" / missing).unlink()
    assert status(attempt("run")) == 0
    resumed = next(x for x in runlog.read_metrics(runs / "run") if x.get("event") == "resume")
    assert resumed["step"] == 6
    check_end(runs / "run", whole)


def test_resume_of_imported_weights_says_how_to_train_from_them(exported, corpus, runs):
    from buildgpt import api

    run = api.import_run(str(exported), "imported", runs)
    settings = [f"data.path={corpus}", "train.steps=5"]
    with pytest.raises(UsageError, match=r"train\.init_from=imported"):
        train.train(run / "recipe.toml", "imported", runs, settings, resume=True)
    assert (run / "state").read_text() == "DONE\n"
