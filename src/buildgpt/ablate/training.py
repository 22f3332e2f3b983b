"""Train the variations, one process after another; what is finished is not trained again."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from buildgpt import watch
from buildgpt.core import Core


@dataclass(frozen=True)
class Job:
    """One run: a variation's recipe with one seed."""

    variation: str
    seed: int
    words: str  # for people
    recipe: Any
    out: Path  # the ablation's folder

    @property
    def name(self) -> str:
        """Of its run."""
        return f"{self.variation}-seed{self.seed}"

    @property
    def file(self) -> Path:
        """Where its recipe stands."""
        return self.out / "recipes" / f"{self.name}.toml"

    @property
    def folder(self) -> Path:
        """The run's."""
        return self.out / "runs" / self.name


def write_recipes(core: Core, jobs: list[Job]) -> None:
    """Each job's recipe as a file. UsageError, before one is written, where another stands."""
    for job in jobs:
        same = not job.file.exists() or core.config.load_recipe(job.file) == job.recipe
        other = f"{job.file} is another ablation's; choose another folder with --out"
        core.config.require(same, other)
    for job in jobs:
        job.file.parent.mkdir(parents=True, exist_ok=True)
        core.config.write_text(job.file, core.config.to_toml(job.recipe))


def outcome(core: Core, job: Job) -> dict[str, Any] | None:
    """What a job has come to: val_loss, step, tokens, seconds, error; None if it is to be trained.

    `error` says why there is no loss.
    """
    if core.runlog.read_state(job.folder) != "DONE":
        return None
    summary = core.runlog.finished_summary(job.folder)
    kept = ("val_loss", "step", "tokens", "seconds", "tokens_per_second")
    error = "" if summary["val_loss"] is not None else "the validation loss is not finite"
    return {key: summary[key] for key in kept} | {"error": error}


def environment_of(core: Core, done: list[Job]) -> dict[str, str]:
    """All runs on as many threads as the first, which may have measured how many are best."""
    found = {}
    for line in core.runlog.read_metrics(done[0].folder) if done else []:
        if line.get("device") == "cpu" and "OMP_NUM_THREADS" not in os.environ:
            found["OMP_NUM_THREADS"] = str(line["threads"])
    return watch.environment(core) | found


def train(core: Core, job: Job, env: dict[str, str], display: "Display") -> dict[str, Any]:
    """Train a job to its end; returns its outcome. UserError if it was stopped, or cannot start.

    A run that was stopped before goes on; with a limit of time it begins anew, as starting the
    process twice would be taken from its time.
    """
    if job.recipe.train.max_seconds:
        shutil.rmtree(job.folder, ignore_errors=True)
    words = [f"{core.package}.train", str(job.file), "--name", job.name]
    words += ["--runs", str(job.out / "runs"), "--resume"]
    with tempfile.TemporaryFile() as errors, watch.passing_signals() as children:
        process = watch.start(watch.command(words, 1), subprocess.DEVNULL, errors, env)
        children.append(process)
        display.follow(process, job)
        status = process.wait()
        errors.seek(0)
        complaint = errors.read().decode(errors="replace").strip().removeprefix("error: ")
    state = core.runlog.read_state(job.folder)
    if state == "DONE":
        # Figures are what stays: the weights of so many runs would fill a disk.
        shutil.rmtree(job.folder / "checkpoints", ignore_errors=True)
        return outcome(core, job) or {}
    if status == 1 and state == "FAILED":
        return {"val_loss": None, "step": 0, "tokens": 0, "seconds": 0.0, "error": complaint}
    if state == "PREEMPTED" or status < 0:
        raise core.config.UserError(f"stopped in {job.words}; the same command goes on")
    raise core.config.UserError(f"{job.words}: {complaint}")


class Display:
    """Which run is under way: a line on a terminal that lives, else a line before and after."""

    def __init__(self, console: Console, live: bool, total: int) -> None:
        self.console, self.total, self.live = console, total, live
        self.number = 0

    def say(self, words: str) -> None:
        """A line that stays."""
        self.console.print(Text(words))

    def follow(self, process: subprocess.Popen, job: Job) -> None:
        """Show a run until its process ends."""
        progress = watch.Progress(job.folder / "metrics.jsonl")
        title = f"[{self.number} of {self.total}] {job.words}"
        if not self.live:
            self.say(f"{title} …")
            process.wait()
            return
        with self.drawn() as live:
            while process.poll() is None:
                progress.follow()
                total = watch.expected_steps(progress, job.recipe)
                line = watch.figures(progress, job.recipe, total)
                live.update(Group(Text(title, "bold"), line), refresh=True)
                time.sleep(watch.REFRESH_SECONDS)

    @contextmanager
    def drawn(self) -> Iterator[Live]:
        """A picture that is gone afterwards."""
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            yield live

    def tell(self, job: Job, result: dict[str, Any], anew: bool) -> None:
        """What a run has come to."""
        loss = result["val_loss"]
        words = result["error"] if loss is None else f"validation loss {loss:.4f}"
        when = f"{result['step']:,} steps, {result['seconds']:.0f} s" if anew else "already done"
        self.say(f"[{self.number} of {self.total}] {job.words}: {words} ({when})")
