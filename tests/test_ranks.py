"""Several processes on gloo: the same training as one, whatever their number, and none is lost
silently. Each test starts real processes, as torchrun would."""

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ranks import Ranks, has_reported
from safetensors.torch import load_file

from buildgpt import api
from buildgpt.gpt import checkpoint, config, runlog, train
from buildgpt.gpt.config import TrainConfig, UsageError, load_recipe, tokens_before

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

# Long enough to be disturbed, and with dropout, so that what is drawn at random counts.
LONG = ["train.steps=40", "train.checkpoint_every=5", "train.eval_every=0", "model.dropout=0.1"]
PLAIN = ["train.tokens_per_step=128"]


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@pytest.fixture
def start(tiny, runs, tmp_path):
    """start(4, "name", "train.steps=9", resume=True) starts four ranks on the tiny recipe."""
    started: list[Ranks] = []

    def start(count: int, name: str, *settings: str, resume: bool = False, place: Path = runs):
        words = [str(tiny), "--name", name, "--runs", str(place)]
        words += [word for setting in settings for word in ("--set", setting)]
        words += ["--resume"] if resume else []
        started.append(Ranks(count, words, tmp_path / f"said-{len(started)}"))
        return started[-1]

    yield start
    for ranks in started:
        ranks.kill()


@pytest.fixture
def finish(start, runs):
    """finish(4, "name", ...) lets them train to the end and returns the run's folder."""

    def finish(count: int, name: str, *settings: str, resume: bool = False) -> Path:
        ranks = start(count, name, *settings, resume=resume)
        assert ranks.wait() == [0] * count, ranks.said()
        return runs / name

    return finish


def state(run: Path) -> dict[str, torch.Tensor]:
    """Weights and optimizer state at the end."""
    newest = checkpoint.choose_checkpoint(run)
    return load_file(newest / "model.safetensors") | load_file(newest / "optimizer.safetensors")


def assert_near(run: Path, other: Path) -> None:
    """The same weights but for rounding. AdamW divides gradients by their size, so where those
    are nearly 0, rounding shows in the weights."""
    mine, theirs = (
        load_file(checkpoint.choose_checkpoint(r) / "model.safetensors") for r in (run, other)
    )
    assert mine.keys() == theirs.keys()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-3, atol=1e-4)


def assert_same_bits(run: Path, other: Path) -> None:
    mine, theirs = state(run), state(other)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []


def val_losses(run: Path) -> list[float]:
    return [line["loss"] for line in runlog.read_metrics(run) if line["kind"] == "val"]


# The same training.


@pytest.mark.parametrize("double_at", [[], [3]])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_ranks_consume_the_same_tokens(world_size, double_at, tiny, corpus):
    """All positions of the order that belong to a step, each by one rank, once."""
    words = ["train.tokens_per_step=128", "train.micro_batch=2", f"train.double_at={double_at}"]
    recipe = load_recipe(tiny, words)
    asked: list[int] = []

    def accumulate(rank: int, step: int) -> None:
        def batches(first: int, count: int):
            asked.extend(range(first, first + count))
            return torch.zeros(count, 1), torch.zeros(count, 1)

        runtime = SimpleNamespace(
            rank=rank,
            world_size=world_size,
            device="cpu",
            sign=lambda: None,
            send=lambda *tensors: tensors,
            autocast=torch.no_grad,
        )
        loss = torch.ones((), requires_grad=True)
        trainer = SimpleNamespace(
            runtime=runtime,
            recipe=recipe,
            step=step,
            tokens=lambda: tokens_before(step, recipe.train),
            micro_batch=config.divide(recipe, world_size),
            batches=batches,
            reseed=lambda: None,
            replica=lambda ids, targets, last: loss * 1,
            scaler=SimpleNamespace(scale=lambda value: SimpleNamespace(backward=lambda: None)),
        )
        train.Trainer.accumulate(trainer)  # type: ignore[arg-type]

    for step in range(5):
        for rank in range(world_size):
            accumulate(rank, step)
        sequences = sum(4 if double_at and s < 3 else 8 for s in range(step + 1))
        assert sorted(asked) == list(range(sequences))


@pytest.mark.parametrize(("count", "parallel"), [(2, "ddp"), (4, "ddp"), (2, "fsdp"), (4, "fsdp")])
def test_ranks_train_and_evaluate_like_one(count, parallel, finish, fit, runs):
    alone = fit("alone", *PLAIN)
    several = finish(count, "several", *PLAIN, f"runtime.parallel={parallel}")
    assert_near(several, alone)
    assert val_losses(several) == pytest.approx(val_losses(alone), abs=1e-5)
    assert (several / "samples.txt").read_text() == (alone / "samples.txt").read_text()
    assert checkpoint.load_run(several).model(torch.zeros(1, 3, dtype=torch.long)).isfinite().all()
    assert [p.name for p in sorted(several.iterdir())] == [p.name for p in sorted(alone.iterdir())]


def test_parts_of_a_model_train_in_bf16_on_a_cpu(finish, fit):
    """Whose layer norm takes no weights in bf16 for a stream in fp32."""
    settings = ["train.steps=3", "runtime.dtype=bf16"]
    alone, several = (
        fit("alone", *settings),
        finish(2, "several", *settings, "runtime.parallel=fsdp"),
    )
    assert val_losses(several) == pytest.approx(val_losses(alone), abs=2e-2)


def test_a_run_may_go_on_with_another_number_of_ranks(finish, fit, runs):
    """Two ranks that each hold a part, then four that hold all, then one alone."""
    whole = fit("whole", *PLAIN, "train.steps=9", "train.schedule=wsd")
    settings = [*PLAIN, "train.schedule=wsd"]
    finish(2, "run", *settings, "train.steps=3", "runtime.parallel=fsdp")
    finish(4, "run", "train.steps=6", "runtime.parallel=ddp", resume=True)
    run = fit("run", "train.steps=9", resume=True)
    whole_rates = [x["lr"] for x in runlog.read_metrics(whole) if x["kind"] == "train"]
    run_rates = {x["step"]: x["lr"] for x in runlog.read_metrics(run) if x["kind"] == "train"}
    assert len(whole_rates) == len(run_rates) == 9
    assert checkpoint.step_of(checkpoint.choose_checkpoint(run)) == 9


def test_sequences_that_begin_with_documents_are_the_same_on_ranks_and_after_a_resume(
    finish, fit, words, tmp_path
):
    for number, start in enumerate(range(0, len(words), 300)):
        (tmp_path / f"{number:03}.txt").write_text(words[start : start + 300])
    made = api.prepare([tmp_path], tmp_path / "documents")
    assert made["documents"] > 10
    aligned = [*PLAIN, f"data.path={tmp_path / 'documents'}", "data.align=documents"]
    aligned += ["train.final_lr=1"]  # the same rate, however many steps are asked for
    whole = fit("whole", *aligned)
    several = finish(2, "several", *aligned)
    assert_near(several, whole)
    fit("run", *aligned, "train.steps=5")
    assert_same_bits(fit("run", "train.steps=8", resume=True), whole)
    unaligned = fit("unaligned", *[word for word in aligned if "align=" not in word])
    with pytest.raises(AssertionError):
        assert_near(unaligned, whole)


def test_numbers_of_ranks_that_do_not_divide_a_step_are_refused(tiny):
    recipe = load_recipe(tiny, ["train.tokens_per_step=192"])  # 12 sequences
    with pytest.raises(UsageError, match=r"5 ranks .* 12 sequences .* that can: 4 and 6"):
        config.divide(recipe, 5)
    with pytest.raises(UsageError, match=r"13 ranks .* that can: 12$"):
        config.divide(recipe, 13)
    assert [config.divide(recipe, ranks) for ranks in (1, 3, 12)] == [2, 2, 1]


def test_what_a_step_draws_depends_on_seed_step_and_rank():
    def draw(seed: int, step: int, rank: int) -> float:
        recipe = SimpleNamespace(train=TrainConfig(seed=seed))
        trainer = SimpleNamespace(recipe=recipe, step=step, runtime=SimpleNamespace(rank=rank))
        train.Trainer.reseed(trainer)  # type: ignore[arg-type]
        return float(torch.rand(()))

    drawn = [draw(*place) for place in np.ndindex(3, 3, 3)]
    assert len(set(drawn)) == 27
    assert drawn == [draw(*place) for place in np.ndindex(3, 3, 3)]


# Disturbed, and going on.


def test_four_ranks_killed_again_and_again_end_in_the_same_bits(start, finish, runs):
    """Whichever rank is killed, nothing is lost beyond the last checkpoint."""
    whole, draw = finish(4, "whole", *LONG), random.Random(3)
    for round_, victim in enumerate((2, 0, 3)):
        ranks = start(4, "run", *LONG, resume=True)
        ranks.wait_for_step(runs / "run", 4 + 10 * round_ + draw.randrange(6))
        ranks.signal(victim, signal.SIGKILL)
        statuses = ranks.wait()
        assert statuses[victim] == -signal.SIGKILL
        assert [s for i, s in enumerate(statuses) if i != victim] == [1, 1, 1]
        [said] = ranks.said()
        assert re.match(rf"error: rank {victim} fell silent after step \d+; --resume goes", said)
        found = checkpoint.find_checkpoints(runs / "run")
        reached = max(line["step"] for line in runlog.read_metrics(runs / "run"))
        assert reached - (checkpoint.step_of(found[-1]) if found else 0) <= 5
    ranks = start(4, "run", *LONG, resume=True)
    ranks.wait_for_step(runs / "run", 30)
    ranks.signal(1, signal.SIGTERM)  # one rank is told, all stop at a step's end
    assert ranks.wait() == [1] * 4
    assert ranks.said() == []
    assert train.read_state(runs / "run") == "PREEMPTED"
    preempted = checkpoint.step_of(checkpoint.choose_checkpoint(runs / "run"))
    assert preempted == runlog.read_metrics(runs / "run")[-1]["step"]
    assert_same_bits(finish(4, "run", *LONG, resume=True), whole)


def test_parts_of_a_model_are_put_together_in_the_same_bits(start, finish, runs):
    """fsdp, preempted in the middle."""
    settings = [*LONG, "runtime.parallel=fsdp", "train.steps=14"]
    whole = finish(2, "whole", *settings)
    ranks = start(2, "run", *settings)
    ranks.wait_for_step(runs / "run", 6)
    for rank in range(2):
        ranks.signal(rank, signal.SIGTERM)
    assert ranks.wait() == [1, 1]
    assert train.read_state(runs / "run") == "PREEMPTED"
    assert_same_bits(finish(2, "run", *settings, resume=True), whole)


def test_a_rank_that_hangs_ends_the_job_and_is_named(start, runs):
    ranks = start(3, "run", *LONG, "train.tokens_per_step=96", "runtime.timeout_seconds=5")
    ranks.wait_for_step(runs / "run", 7)
    ranks.signal(1, signal.SIGSTOP)
    assert ranks.wait_for(0, 2) == [1, 1]
    [said] = ranks.said()
    assert re.match(
        r"error: rank 1 fell silent after step \d+; --resume goes on from .*step_", said
    )
    assert train.read_state(runs / "run") == "FAILED"


def test_an_error_of_one_rank_is_said_once_and_ends_all(start, runs):
    """Rank 0 alone writes, so it alone finds that it cannot."""
    (runs / "run").mkdir(parents=True)
    (runs / "run" / "checkpoints").write_text("a file in the way")
    ranks = start(2, "run", *LONG)
    assert ranks.wait() == [1, 1]
    [said] = ranks.said()
    assert "checkpoints" in said
    assert train.read_state(runs / "run") == "FAILED"


def test_ranks_that_do_not_see_the_same_runs_are_refused(start, fit, tmp_path, runs, tiny):
    """Two machines without a shared folder: one finds a checkpoint, the other does not."""
    fit("run", "train.steps=4")
    port = free_port()
    processes = []
    for rank, place in enumerate((runs, tmp_path / "elsewhere")):
        words = [str(tiny), "--name", "run", "--runs", str(place), "--resume"]
        env = os.environ | {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0"}
        env |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        env["PYTHONPATH"] = str(Path(train.__file__).parents[2])
        command = [sys.executable, "-m", "buildgpt.gpt.train", *words, "--set", "train.steps=6"]
        processes.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1]
    assert all("give --runs a folder that all machines share" in words for words in said)


# The command line.


def test_gpus_starts_torchrun_and_says_so(cli, tiny, tmp_path):
    done = cli("train", tiny, "--ranks", "2", "--name", "two", "--json", "--set", "train.steps=2")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(
        f"torchrun --standalone --nproc-per-node=2 -m buildgpt.gpt.train {tiny}"
    )
    assert json.loads(lines[-1])["step"] == 2
    started = runlog.read_metrics(tmp_path / "runs" / "two")[0]
    assert (started["ranks"], started["parallel"]) == (2, "ddp")
    again = cli("train", tiny, "--gpus", "2", "--name", "two")
    assert again.returncode == 2
    assert again.stderr == "error: runs/two exists; go on with --resume, or choose another --name\n"
    odd = cli("train", tiny, "--gpus", "3", "--name", "odd")
    assert odd.returncode == 2
    assert re.fullmatch(r"error: 3 ranks cannot share .* that can: 2 and 4\n", odd.stderr)


def test_a_run_whose_ranks_were_all_killed_has_failed(cli, environment, tiny, tmp_path):
    """None of them can say so, but whoever started them does; and a run that goes on is left."""
    words = ["train", str(tiny), "--ranks", "2", "--name", "two", "--set", "train.steps=100000"]
    command = [sys.executable, "-m", "buildgpt", *words]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    run = tmp_path / "runs" / "two"
    while not has_reported(run, 3):
        assert process.poll() is None
        time.sleep(0.01)
    second = cli("train", tiny, "--name", "two", "--resume")
    assert (second.returncode, train.read_state(run)) == (1, "RUNNING")
    assert second.stderr == "error: runs/two is being trained by another process\n"
    for pid in ranks_below(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert (process.returncode, train.read_state(run)) == (1, "FAILED")


def ranks_below(process: int) -> list[int]:
    """The processes that torchrun has started for a process of ours."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout
    parents = {int(pid): int(parent) for pid, parent in map(str.split, listed.splitlines())}
    launchers = [pid for pid, parent in parents.items() if parent == process]
    return [pid for pid, parent in parents.items() if parent in launchers]
