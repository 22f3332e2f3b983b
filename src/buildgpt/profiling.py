"""Where a step's time goes: some steps of a run under torch's profiler, a trace and a table.

    python -m buildgpt.profiling CORE STEPS recipe.toml --set train.steps=20 ...

is `python -m CORE.train recipe.toml ...` that also writes runs/NAME/profile/. Nothing in the core
knows of it: the loop's verbs are marked from outside while it is measured, and the bits stay.
"""

import json
import os
import re
import sys
import tempfile
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

from .core import Core

WARMUP = 3  # updates before: compiling, the caches of memory and kernels
STEPS = 3  # measured, unless more are wished for
# What the name of an operator, or of a GPU's kernel, tells of its purpose; the first that fits.
PURPOSES = (
    ("loss", r"loss|cross_?entropy|log_?softmax|logsumexp"),
    ("attention", r"attention|softmax|bmm|flash|fmha|sdpa"),
    ("norms", r"(layer|rms|batch)_?norm"),
    ("matrix products", r"linear|addmm|\bmm|gemm|xmma|nvjet|cutlass"),
    ("activations", r"gelu|relu|silu|sigmoid|tanh|square"),
)
REST = "the rest"  # residual sums, embeddings, casts, and Python itself

Busy = dict[tuple[str, str], float]  # microseconds by part and purpose


@contextmanager
def profiled(core: Core, steps: int) -> Iterator[None]:
    """While this is open, core.train profiles so many steps of what it trains; 0: none."""
    plain = core.train.Trainer
    core.train.Trainer = profiling(core, plain, steps) if steps else plain
    try:
        yield
    finally:
        core.train.Trainer = plain


def profiling(core: Core, plain: Any, steps: int) -> Any:
    """A Trainer that does what `plain` does, and on rank 0 profiles so many of its updates."""

    class Profiling(plain):
        profile: Profile | None = None

        def run(self) -> Any:
            if self.runtime.is_main:
                self.profile = Profile(core, self, steps)
            return super().run()

        def update(self) -> None:
            if not self.profile:
                return super().update()
            with self.profile.one_step():
                super().update()

        def accumulate(self) -> Any:
            from torch.profiler import record_function

            with record_function("accumulate"):
                return super().accumulate()

        def finish(self) -> Any:
            if self.profile:
                self.profile.end()
            return super().finish()

        def break_off(self) -> Any:
            if self.profile:
                self.profile.end()
            return super().break_off()

    return Profiling


class Profile:
    """The measurement of one attempt at a run, and what is written about it."""

    def __init__(self, core: Core, trainer: Any, steps: int) -> None:
        self.core, self.trainer, self.steps = core, trainer, steps
        self.begins = trainer.step + WARMUP  # updates done before; one more is a rehearsal
        self.profiler: Any = None
        self.marks = ExitStack()
        self.folder = trainer.folder / "profile"
        (self.folder / "profile.json").unlink(missing_ok=True)  # an earlier attempt's

    @contextmanager
    def one_step(self) -> Iterator[None]:
        """Around an update: measure it, if it is one of those."""
        if self.trainer.step == self.begins:
            self.begin()
        if not self.profiler:
            yield
            return
        import torch

        with torch.profiler.record_function("step"):
            yield
            if self.trainer.runtime.device.type == "cuda":
                torch.cuda.synchronize()
        with without_chatter():
            self.profiler.step()
        if self.trainer.step == self.begins + 1 + self.steps:
            self.end()

    def begin(self) -> None:
        """Mark the loop's verbs, and start."""
        from torch import Tensor, profiler

        trainer = self.trainer
        for owner, name, label in (
            (trainer, "batches", "data"),
            (type(trainer.runtime), "send", "data"),
            (trainer, "replica", "forward"),
            (Tensor, "backward", "backward"),
        ):
            self.marks.enter_context(marked(owner, name, label))
        schedule = profiler.schedule(wait=0, warmup=1, active=self.steps, repeat=1)
        self.profiler = profiler.profile(schedule=schedule, on_trace_ready=self.write)
        with without_chatter():
            self.profiler.start()

    def end(self) -> None:
        """Stop measuring; where the run has ended too early, say so."""
        self.marks.close()
        if self.profiler:
            with without_chatter():
                self.profiler.stop()
            self.profiler = None
        if not (self.folder / "profile.json").exists():
            least = f"{WARMUP + 2} steps, as the first ones are left out"
            self.trainer.event("note", f"nothing was profiled: that takes at least {least}")

    def write(self, profiler: Any) -> None:
        """The trace and the table's figures, as files, and a note that says where they are."""
        events = profiler.events()
        if not intervals(events, "step"):  # ended in the rehearsal
            return
        self.folder.mkdir(exist_ok=True)
        trace = self.folder / "trace.json"
        temporary = trace.with_name(".trace.json")
        profiler.export_chrome_trace(str(temporary))
        temporary.replace(trace)
        device = self.trainer.runtime.device.type
        facts = {"trace": str(trace), "device": device} | shares(events, device)
        self.core.config.write_text(self.folder / "profile.json", json.dumps(facts) + "\n")
        last = self.trainer.step
        steps = f"steps {last - facts['steps'] + 1} to {last}"
        self.trainer.event("note", f"profiled {steps}; the trace for ui.perfetto.dev: {trace}")


@contextmanager
def marked(owner: Any, name: str, label: str) -> Iterator[None]:
    """While this is open, the profiler sees calls of owner.name under that label."""
    from torch.profiler import record_function

    plain = getattr(owner, name)

    def call(*values: Any, **named: Any) -> Any:
        with record_function(label):
            return plain(*values, **named)

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, plain)


@contextmanager
def without_chatter() -> Iterator[None]:
    """Leave out what torch's profiler says on stderr whenever it starts or stops."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        own = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(own, 2)
            os.close(own)
            file.seek(0)
            for line in file:
                if not line.startswith(b"USDT:"):
                    os.write(2, line)


def shares(events: Any, device: str) -> dict[str, Any]:
    """Milliseconds of a step by part: {"steps", "step_ms", "parts": [[part, detail, ms], ...]}.

    On a CPU these are the wall clock's, what operators do themselves by their purpose. On a GPU
    they are the kernels', by what has launched them; what is left of the step, the GPU waited.
    """
    ranges = {label: intervals(events, label) for label in ("data", "forward", "backward")}
    steps, collected = intervals(events, "step"), intervals(events, "accumulate")
    wall = length(steps)
    busy: Busy = defaultdict(float)
    for event in events:
        part = part_of(event.time_range.start, ranges, steps, collected)
        if part and str(event.device_type) == "DeviceType.CPU":
            for purpose, time in times(event, device):
                busy[part, purpose if part in ("forward", "backward") else ""] += time
    on_gpu = device == "cuda" and sum(busy.values()) > 0
    if on_gpu:
        busy["GPU waiting", ""] = max(wall - sum(busy.values()), 0.0)
    else:
        fill_up(busy, ranges, wall, length(collected))
    count = len(steps)
    parts = [[*key, round(busy[key] / count / 1000, 4)] for key in in_order(busy)]
    return {"steps": count, "step_ms": round(wall / count / 1000, 4), "parts": parts}


def fill_up(busy: Busy, ranges: dict[str, Any], wall: float, collected: float) -> None:
    """Make each part as long as the wall clock says, Python's time being with the rest."""
    whole = {label: length(found) for label, found in ranges.items()}
    for part, total in whole.items():
        rest = REST if part != "data" else ""
        busy[part, rest] = 0
        busy[part, rest] = total - sum(time for (p, _), time in busy.items() if p == part)
    busy["optimizer", ""] = wall - collected
    busy["other", ""] = collected - sum(whole.values())


def intervals(events: Any, label: str) -> list[tuple[float, float]]:
    """(start, end) in microseconds of each range of that label, in order."""
    found = [e.time_range for e in events if e.name == label and e.is_user_annotation]
    return sorted((r.start, r.end) for r in found)


def length(found: list[tuple[float, float]]) -> float:
    """How long they are together; none lies in another."""
    return sum(end - start for start, end in found)


def part_of(time: float, ranges: dict[str, Any], steps: Any, collected: Any) -> str:
    """Which part of a step is under way; whatever follows the gradients is the optimizer."""
    inside = [label for label, found in ranges.items() if covers(found, time)]
    if inside or not covers(steps, time):
        return inside[0] if inside else ""
    return "other" if covers(collected, time) else "optimizer"


def covers(found: list[tuple[float, float]], time: float) -> bool:
    """Whether the time lies in one of these intervals, which are in order."""
    index = bisect_right(found, (time, float("inf"))) - 1
    return index >= 0 and time <= found[index][1]


def times(event: Any, device: str) -> list[tuple[str, float]]:
    """(purpose, microseconds) of what an operator does itself; on a GPU, of each of its kernels."""
    if device == "cuda":
        return [(purpose(event, kernel.name), kernel.duration) for kernel in event.kernels]
    return [] if event.is_user_annotation else [(purpose(event), event.self_cpu_time_total)]


def purpose(event: Any, kernel: str = "") -> str:
    """What it is done for: as its name tells, or that of the nearest operator around it that does,
    or else the kernel's."""
    while event is not None:
        if told(event.name):
            return told(event.name)
        event = event.cpu_parent
    return told(kernel) or REST


@cache
def told(name: str) -> str:
    """The purpose that a name tells of; empty if none."""
    return next((what for what, pattern in PURPOSES if re.search(pattern, name, re.I)), "")


def in_order(busy: Busy) -> list[tuple[str, str]]:
    """The parts as a step goes, each one's purposes the longest first, what is left last."""
    order = ("data", "forward", "backward", "optimizer", "other", "GPU waiting")
    return sorted(busy, key=lambda key: (order.index(key[0]), key[1] == REST, -busy[key]))


def show(facts: dict[str, Any], console: Any) -> None:
    """The figures as a table."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), title="where a step's time went")
    for head in ("", "ms", "share"):
        table.add_column(head, justify="right" if head else "left")
    totals: dict[str, float] = defaultdict(float)
    for part, _, ms in facts["parts"]:
        totals[part] += ms
    for part, detail, ms in facts["parts"]:
        if part in totals:
            table.add_row(part, *amount(totals.pop(part), facts["step_ms"]), style="bold")
        if detail:
            table.add_row(f"  {detail}", *amount(ms, facts["step_ms"]))
    table.add_row("a step", *amount(facts["step_ms"], facts["step_ms"]), style="bold")
    console.print(table)
    what = "its kernels' time" if facts["device"] == "cuda" else "time on the clock"
    console.print(f"the mean of {facts['steps']} steps, {what}; the trace: {facts['trace']}")
    console.print("(open it at ui.perfetto.dev)", style="dim")


def amount(ms: float, whole: float) -> tuple[str, str]:
    """Milliseconds, and their share of the whole."""
    return f"{ms:.2f}", f"{100 * ms / max(whole, 1e-9):.0f} %"


def main(words: list[str]) -> int:
    """CORE STEPS and what the core's train takes; returns its exit status."""
    core = Core(words[0])
    with profiled(core, int(words[1])):
        return core.train.main(words[2:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
