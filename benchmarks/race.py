"""The faithful GPT-2 against the modern architecture on one GPU, as `gpu.py --race`.

    PYTHONPATH=src python benchmarks/gpu.py --race --data FOLDER --state FOLDER --minutes 9

Jobs, one after another, each a whole training run: a sweep of either side's batch size and learning
rate, both for as many tokens; the faithful run, with the best of its sweep; the modern run, with
the best of its own, on a fifth of those tokens. The verdict: at how many tokens, and after how many
seconds, the modern run's validation loss is as low as the faithful run's final one.

A call takes as many jobs as fit into its minutes and can be repeated until all are done. Jobs that
are done are never run again: `race.json` in the state folder knows them. A job that does not fit
into what is left waits for the next call; one that would not fit into any call is interrupted in
time, saves a checkpoint (1.5 GB for 124M parameters) and goes on in the next. So leave the state
folder on the machine while that is yours, and bring `race.json` home: on a new machine, --from
FOLDER takes over what such a folder holds, with checkpoints or without.
"""

import argparse
import itertools
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from record import environment

from buildgpt.api import find_recipe
from buildgpt.core import load_core

MILLION = 1_000_000
POINTS = 10  # validations in a run
RESERVE = 30.0  # seconds for saving a checkpoint and ending
TOKENS_AIM, SECONDS_AIM = 0.2, 0.25


@dataclass(frozen=True)
class Side:
    """One of the two: its recipe and what is tried for it."""

    name: str
    recipe: str
    tokens: int  # of the long run
    sweep_tokens: int  # of each short one
    batches: tuple[int, ...]  # tokens a step
    rates: tuple[tuple[str, ...], ...]  # settings
    settings: tuple[str, ...] = ()

    def candidates(self, budget: int) -> list[list[str]]:
        """Batch size and learning rate, all of one batch size before the next, for the budget."""
        pairs = itertools.product(self.batches, self.rates)
        every = [[f"train.tokens_per_step={batch}", *rate] for batch, rate in pairs]
        return every[: max(1, budget // self.sweep_tokens)]


def sides(words: argparse.Namespace) -> tuple[Side, Side]:
    """The faithful side and the modern one."""
    if words.tiny:
        tiny = ("model.layers=1", "model.heads=2", "model.width=16", "model.context=16")
        tiny += ("train.micro_batch=4", "runtime.device=cpu", "sample.at=[]", "sample.every=0")
        rates = (("train.lr=1e-3",), ("train.lr=1e-2",))
        first = Side("faithful", "gpt2-124m", 5120, 1280, (128,), rates, tiny)
        return first, Side("modern", words.modern, 1280, 1280, (64,), rates, tiny)
    batches = (131072, 65536, 262144)
    rates = tuple((f"train.lr={rate}",) for rate in (1.2e-3, 6e-4, 2.4e-3))
    whole = ("runtime.device=cuda", "sample.at=[]", "sample.every=0")
    first = Side("faithful", "gpt2-124m", 260 * MILLION, 26 * MILLION, batches, rates, whole)
    both = ("train.double_at=[]", *whole)
    ours = tuple(
        (f"train.lr={6e-3 * factor}", f"train.matrix_lr={0.02 * factor}")
        for factor in (1.0, 0.6, 1.6)
    )
    batches = (65536, 32768, 131072)
    return first, Side(
        "modern", words.modern, 52 * MILLION, 26 * MILLION, batches, ours, (*both, *words.set)
    )


class Race:
    """What is done, and what comes next."""

    def __init__(self, words: argparse.Namespace, data: Path, clock: Any) -> None:
        self.words, self.data, self.clock = words, data, clock
        self.sides = sides(words)
        self.state = words.state
        self.state.mkdir(parents=True, exist_ok=True)
        if words.source:
            take_over(words.source, self.state)
        stored = self.state / "race.json"
        self.jobs: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {}

    def run(self) -> dict[str, Any]:
        """As many jobs as fit; returns the record. A sweep's run may diverge, which says enough of
        its settings; one of the two that race may not, and is not done then."""
        failed = ""
        while job := self.next():
            name, side, tokens, settings = job
            if not self.fits(name, side, tokens):
                print(f"{name} waits for the next call", flush=True)
                break
            found = self.train(name, side, tokens, settings)
            if found is None:
                print(f"{name} is interrupted; the next call goes on with it", flush=True)
                break
            if not found["step"] or (name == side.name and found["val_loss"] is None):
                failed = f"{name} failed, for the reason above; the next call tries it again"
                print(failed, flush=True)
                break
            self.jobs[name] = found
            core = load_core()
            core.config.write_text(self.state / "race.json", json.dumps(self.jobs, indent=1) + "\n")
            print(f"{name}: validation loss {found.get('val_loss')}", flush=True)
        left = self.next() is not None
        return {"jobs": self.jobs, "verdict": verdict(self.jobs), "left": left, "failed": failed}

    def next(self) -> tuple[str, Side, int, list[str]] | None:
        """The first job that is not done: its name, side, tokens and settings."""
        for side in self.sides:
            for number, settings in enumerate(side.candidates(self.words.sweep * MILLION)):
                name = f"{side.name}-sweep-{number}"
                if name not in self.jobs:
                    return name, side, side.sweep_tokens, settings
        for side in self.sides:
            if side.name not in self.jobs:
                return side.name, side, side.tokens, self.best(side)
        return None

    def best(self, side: Side) -> list[str]:
        """The settings of the lowest loss in a side's sweep."""
        found = [job for name, job in self.jobs.items() if name.startswith(f"{side.name}-sweep")]
        lowest = min(
            found, key=lambda job: math.inf if job["val_loss"] is None else job["val_loss"]
        )
        return lowest["settings"]

    def fits(self, name: str, side: Side, tokens: int) -> bool:
        """Whether to begin a job now: it ends in time, or would not in any call either."""
        if (self.state / "runs" / name).exists():
            return self.clock.left() > 2 * RESERVE  # it was interrupted: go on
        done = [job for key, job in self.jobs.items() if key.startswith(side.name)]
        done = [job for job in done if job["tokens"]]
        if not done:
            return True  # nothing is known yet
        seconds = tokens * max(job["seconds"] / job["tokens"] for job in done) + RESERVE
        fresh = self.clock.passed() < 60  # as much time as a call ever has
        return seconds < self.clock.left() or fresh

    def train(self, name: str, side: Side, tokens: int, settings: list[str]) -> dict | None:
        """Run a job, or go on with it; None if the time was over first."""
        runs = self.state / "runs"
        wishes = [*side.settings, *settings, *self.length(side, tokens, settings)]
        wishes += [f"data.path={self.data}", "data.tokenizer=gpt2", "data.val_tokens=0"]
        wishes += ["data.align=none"]  # a book is a document: few begin
        wishes += ["train.hellaswag_every=0", "train.checkpoint_every=0"]
        wishes += ["train.checkpoint_minutes=0", "train.keep_checkpoints=1"]
        words = [word for wish in wishes for word in ("--set", wish)]
        recipe = find_recipe(load_core(), side.recipe)
        command = [sys.executable, "-m", "buildgpt.gpt.train", str(recipe), *words, "--name", name]
        resume = ["--resume"] if (runs / name).exists() else []
        status = end_in_time([*command, "--runs", str(runs), *resume], self.clock.left() - RESERVE)
        core = load_core()
        state = core.runlog.read_state(runs / name)
        if status < 0 or state in ("PREEMPTED", "RUNNING"):
            return None
        found = story(core.runlog.read_metrics(runs / name))  # empty where it could not begin
        # Checkpoints are large, and nobody needs them any more.
        shutil.rmtree(runs / name, ignore_errors=True)
        return {"settings": settings, "recipe": side.recipe, "exit_status": status} | found

    def length(self, side: Side, tokens: int, settings: list[str]) -> list[str]:
        """Steps, warm-up, and when to validate."""
        batch = int(settings[0].partition("=")[2])
        steps = max(1, tokens // batch)
        warm = [f"train.warmup_steps={steps // 20}"] if side.name == "faithful" else []
        return [f"train.steps={steps}", f"train.eval_every={max(1, steps // POINTS)}", *warm]


def take_over(source: Path, state: Path) -> None:
    """What another state folder holds and this one lacks."""
    for name in ("race.json", "runs"):
        old, new = source / name, state / name
        if old.is_dir() and not new.exists():
            shutil.copytree(old, new)
        elif old.is_file() and not new.exists():
            shutil.copyfile(old, new)


def end_in_time(command: list[str], seconds: float) -> int:
    """Run a command; when the time is over ask it to stop, which saves. Its exit status."""
    process = subprocess.Popen(command, env=environment())
    try:
        return process.wait(timeout=max(seconds, 1.0))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout=RESERVE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def story(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """A run's curves and its end. Seconds are those of training: attempts follow one another."""
    keys = {"train": ("step", "tokens", "seconds", "loss"), "val": ("step", "tokens", "seconds")}
    keys["val"] += ("loss", "scored")
    curves = {
        kind: [{key: line.get(key) for key in names} for line in lines if line["kind"] == kind]
        for kind, names in keys.items()
    }
    events = [line for line in lines if line["kind"] == "event"]
    summary = next((line["summary"] for line in events if line["event"] == "done"), {})
    names = ("val_loss", "tokens", "seconds", "tokens_per_second", "peak_memory_gb", "step")
    last = lines[-1] if lines else {}
    told = {name: summary.get(name, last.get(name)) for name in names}
    told |= {name: told[name] or 0 for name in ("tokens", "seconds")}
    train = curves["train"]
    few = train[:: max(1, len(train) // 200)]
    return told | {"curve": few, "validation": curves["val"]}


def verdict(jobs: dict[str, Any]) -> dict[str, Any] | None:
    """Where the modern run has reached the faithful run's final loss; None before both are done."""
    if not {"faithful", "modern"} <= jobs.keys() or jobs["faithful"]["val_loss"] is None:
        return None
    faithful, modern = jobs["faithful"], jobs["modern"]
    reached = [p for p in modern["validation"] if p["loss"] and p["loss"] <= faithful["val_loss"]]
    swept = {
        side: sum(j["tokens"] for n, j in jobs.items() if n.startswith(f"{side}-sweep"))
        for side in ("faithful", "modern")
    }
    found: dict[str, Any] = {
        "faithful_loss": faithful["val_loss"],
        "modern_loss": modern["val_loss"],
        "swept_tokens": swept,
        "wanted": {"tokens": TOKENS_AIM, "seconds": SECONDS_AIM},
    }
    if not reached:
        return found | {"tokens": None, "seconds": None, "met": False}
    shares = {key: reached[0][key] / faithful[key] for key in ("tokens", "seconds")}
    met = shares["tokens"] <= TOKENS_AIM and shares["seconds"] <= SECONDS_AIM
    return found | shares | {"met": met}


def table(record: dict[str, Any]) -> str:
    """The race in words."""
    lines = ["\nrace: validation loss, tokens, seconds, settings"]
    for name, job in record["jobs"].items():
        loss = "?" if job["val_loss"] is None else f"{job['val_loss']:.4f}"
        lines.append(
            f"  {name:20} {loss}  {job['tokens']:>12,}  {job['seconds']:>7.1f}"
            f"  {' '.join(job['settings'])}"
        )
    found = record["verdict"]
    if record["failed"]:
        return "\n".join([*lines, record["failed"]])
    if found is None:
        return "\n".join([*lines, "not done yet: call it again"])
    if found["tokens"] is None:
        return "\n".join([*lines, "the modern run did NOT reach the faithful one's loss"])
    words = f"{found['tokens']:.1%} of its tokens, {found['seconds']:.1%} of its time"
    met = "met" if found["met"] else "NOT met"
    return "\n".join([*lines, f"the faithful run's loss is reached with {words}: aim {met}"])


Report = Callable[[dict[str, Any]], None]


def race(words: argparse.Namespace, data: Path, clock: Any, report: Report) -> bool:
    """What `gpu.py --race` does; whether the jobs so far came to something."""
    began = time.monotonic()
    record = Race(words, data, clock).run()
    report(record | {"seconds_of_this_call": time.monotonic() - began})
    print(table(record))
    return not record["failed"]
