"""Start a training process and show what it does, by following its metrics.jsonl."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .chart import draw
from .core import Core

REFRESH_SECONDS = 0.25
SAVE_SECONDS = 110  # of the two minutes that most notices give


@dataclass
class Progress:
    """What a run's metrics say so far. Lines of a later attempt replace those of an earlier one."""

    path: Path
    read: int = 0  # bytes
    attempt: int = 0
    latest: dict[str, Any] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    samples: dict[int, str] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)

    def follow(self) -> None:
        """Take in the whole lines that were added since the last time."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.read)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self.read += len(whole)
        for line in whole.splitlines():
            try:
                self.take(json.loads(line))
            except ValueError:
                continue  # torn by a crash

    def take(self, line: dict[str, Any]) -> None:
        """Sort one line in."""
        step = line.get("step", 0)
        if line["attempt"] > self.attempt:
            self.attempt = line["attempt"]
            self.losses = {s: v for s, v in self.losses.items() if s <= step}
            self.samples = {s: v for s, v in self.samples.items() if s <= step}
            self.messages, self.summary = [], {}
        match line["kind"]:
            case "train":
                self.latest = line
                if line["loss"] is not None:
                    self.losses[step] = line["loss"]
            case "sample":
                self.samples[step] = line["text"]
            case "val":
                self.validation = line
            case "event":
                if line["event"] in ("start", "resume", "note", "skip", "preempted"):
                    self.messages.append(line["message"])
                self.summary = line.get("summary", self.summary)


def launch(
    core: Core,
    words: list[str],
    folder: Path,
    recipe: Any,
    title: str,
    plain: bool,
    ranks: int = 1,
    profile: int = 0,
) -> int:
    """Run `python -m CORE.train WORDS`: live on a terminal, else or if `plain` as plain lines.

    With `profile`, so many steps are measured (profiling.py). With several ranks torchrun starts it
    so many times. Returns its exit status. Ctrl-C makes it save and end, and this waits for that.
    """
    console = Console()
    live = console.is_terminal and not plain
    before = Progress(folder / "metrics.jsonl")
    before.follow()  # what an earlier attempt wrote is old news
    module = ["buildgpt.profiling", core.package, str(profile)]
    words = [*(module if profile else [f"{core.package}.train"]), *words]
    if ranks > 1:
        print(shlex.join(["torchrun", *torchrun(words, ranks)]), flush=True)
    with tempfile.TemporaryFile() as errors, passing_signals() as children:
        output = subprocess.DEVNULL if live else None
        process = start(command(words, ranks), output, errors, environment(core, ranks))
        children.append(process)
        if live:
            show(process, before, recipe, title, console)
        status = process.wait()
        errors.seek(0)
        complaint = errors.read().decode(errors="replace")
    if status < 0:
        complaint = ended_by(-status)
    if ranks > 1:
        status, complaint = of_all_ranks(status, complaint, core.runlog.read_state(folder))
    print(complaint, end="", file=sys.stderr, flush=True)
    return min(status, 2) if status >= 0 else 1


def command(words: list[str], ranks: int) -> list[str]:
    """The training process, or torchrun, which starts one for each rank; a module comes first."""
    if ranks > 1:
        return [sys.executable, "-m", "torch.distributed.run", *torchrun(words, ranks)]
    return [sys.executable, "-m", *words]


def torchrun(words: list[str], ranks: int) -> list[str]:
    """The words after `torchrun`: one machine, a free port, so many processes."""
    return ["--standalone", f"--nproc-per-node={ranks}", "-m", *words]


def of_all_ranks(status: int, complaint: str, state: str) -> tuple[int, str]:
    """The exit status of the ranks, which torchrun hides, and what they said: each sentence once,
    without torchrun's own report, unless a run that did not stop in order left nothing else."""
    own = [line + "\n" for line in complaint.splitlines() if line.startswith("error: ")]
    if status > 0 and re.search(r"exitcode\s*: 2 ", complaint):
        status = 2
    if status and not own and state != "PREEMPTED":
        return status, complaint
    return status, "".join(dict.fromkeys(own))


def start(command: list[str], output: Any, errors: Any, env: dict[str, str]) -> subprocess.Popen:
    """Start it in a process group of its own, so that one Ctrl-C does not reach it twice."""
    devnull = subprocess.DEVNULL
    return subprocess.Popen(
        command, stdin=devnull, stdout=output, stderr=errors, env=env, process_group=0
    )


@contextmanager
def passing_signals() -> Iterator[list[subprocess.Popen]]:
    """Pass Ctrl-C, SIGTERM and a closed terminal on to the processes that are put into the list."""
    children: list[subprocess.Popen] = []

    def pass_on(number: int, frame: Any) -> None:
        if not children:
            raise KeyboardInterrupt
        for child in children:
            if os.name != "nt":  # where a Ctrl-C reaches every process of the console anyway
                child.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    numbers = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    previous = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield children
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def ended_by(number: int) -> str:
    """What to say of a process that a signal ended at once."""
    name = signal.Signals(number).name
    return f"error: {name} ended the training at once; go on with --resume from what was saved\n"


def environment(core: Core, ranks: int = 1) -> dict[str, str]:
    """This process's, with the places of the core and of this package first, and no modules from
    the current folder.

    Several ranks share the processor's cores, unless OMP_NUM_THREADS says otherwise; told to stop,
    they get SAVE_SECONDS to save before torchrun kills them, which of itself gives them 30.
    """
    place = str(core.folder.parents[core.package.count(".")])
    ours = str(Path(__file__).parents[1])  # profiling.py is there, whosever the core is
    places = dict.fromkeys([place, ours, *filter(None, [os.environ.get("PYTHONPATH")])])
    path = os.pathsep.join(places)
    # A sample may hold characters that an old console's encoding lacks.
    encoding = os.environ.get("PYTHONIOENCODING", "").partition(":")[0] + ":replace"
    more = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": encoding}
    more["PYTHONSAFEPATH"] = "1"  # no module is taken from the current folder
    shared = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // ranks))}
    shared["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(SAVE_SECONDS)
    return (shared if ranks > 1 else {}) | os.environ | more


def show(
    process: subprocess.Popen, progress: Progress, recipe: Any, title: str, console: Console
) -> None:
    """Draw the run until the process ends; the last picture stays."""
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        running = True
        while running:
            running = process.poll() is None
            progress.follow()
            live.update(picture(progress, recipe, title, console.size), refresh=True)
            if running:
                time.sleep(REFRESH_SECONDS)


def picture(progress: Progress, recipe: Any, title: str, size: Any) -> RenderableType:
    """The loss curve, the figures, and how the samples change; fits into the terminal."""
    width, height = min(size.width, 100), size.height - 1
    chart_height = max(4, min(10, height // 3))
    total = expected_steps(progress, recipe)
    curve = draw(list(progress.losses.items()), width - 4, chart_height, total)
    caption = Text("\n".join(progress.messages[-3:]) or "starting …", "dim")
    chart = Panel(
        Text("\n".join(curve), "cyan"), title=title, subtitle="training loss", width=width
    )
    captions = len(caption.wrap(Console(width=width), width))
    rest = height - chart_height - 4 - captions
    samples = sample_lines(progress.samples, width, rest)
    return Group(caption, chart, figures(progress, recipe, total), *samples)


def expected_steps(progress: Progress, recipe: Any) -> float:
    """How many steps the run will have: the recipe's, or as many as its time allows."""
    steps, limit = recipe.train.steps, recipe.train.max_seconds
    latest = progress.latest
    if not limit or not latest.get("tokens_per_second"):
        return steps
    left = max(limit - latest["seconds"], 0.0)
    pace = recipe.train.tokens_per_step / latest["tokens_per_second"]
    return min(steps, latest["step"] + left / pace)


def seconds_left(progress: Progress, recipe: Any, total: float) -> float | None:
    """Until the last step; None while unknown."""
    latest = progress.latest
    if not latest.get("tokens_per_second"):
        return None
    pace = recipe.train.tokens_per_step / latest["tokens_per_second"]
    return max(total - latest["step"], 0.0) * pace


def figures(progress: Progress, recipe: Any, total: float) -> RenderableType:
    """One line: step, loss, speed, a bar and the time left."""
    latest, left = progress.latest, seconds_left(progress, recipe, total)
    step = progress.summary.get("step", latest.get("step", 0))
    done = 1.0 if progress.summary else step / max(total, 1)
    words = [f"step {step:,}"]
    if latest.get("loss") is not None:
        words += [f"loss {latest['loss']:.2f}", f"{latest['tokens_per_second']:,.0f} tokens/s"]
    if progress.validation.get("loss") is not None:
        words.append(f"val {progress.validation['loss']:.2f}")
    line = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=1.0, completed=min(done, 1.0), width=16)
    ending = "done" if progress.summary else f"{left:.0f} s left" if left is not None else ""
    line.add_row(Text("  ".join(words), "bold"), bar, ending)
    return line


def sample_lines(samples: dict[int, str], width: int, height: int) -> list[RenderableType]:
    """The newest sample in full and, above it, the beginnings of earlier ones, as room allows."""
    steps = sorted(samples)
    if not steps or height < 3:
        return []
    *earlier, newest = steps
    room = max(height - min(8, height // 2), 0) // 3
    earlier = earlier[:room]
    lines: list[RenderableType] = []
    for step in earlier:
        lines += [Text(f"step {step:,}", "yellow"), excerpt(samples[step], 2, width)]
    lines.append(Text(f"step {newest:,}", "bold green"))
    return [*lines, excerpt(samples[newest], max(height - 3 * len(earlier) - 1, 1), width)]


def excerpt(text: str, lines: int, width: int) -> Text:
    """The first lines of a text that are not empty, each cut to the width."""
    kept = [line for line in text.splitlines() if line.strip()][:lines]
    return Text("\n".join(f"  {line[: width - 2]}" for line in kept), no_wrap=True)
