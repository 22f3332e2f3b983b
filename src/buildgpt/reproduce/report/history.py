"""A run as it lies on the disk, its attempts merged: what the report is made of."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from buildgpt.core import Core
from buildgpt.watch import Progress

Row = dict[str, Any]
KINDS = ("train", "val", "hellaswag", "sample")
NEEDED = {"train": ("loss",), "sample": ("text",), "event": ("event", "message")}  # keys of a kind
ENDINGS = ("done", "preempted", "failed")


@dataclass
class Attempt:
    """One process's share of a run; `seconds` is its own time, steps done again included."""

    number: int
    first_step: int
    last_step: int
    seconds: float = 0.0
    environment: Row = field(default_factory=dict)
    ending: str = ""  # one of ENDINGS, or empty
    message: str = ""


@dataclass
class History(Progress):
    """All lines of a run's metrics; those of a later attempt replace those of an earlier one.

    rows: kind -> step -> line, for KINDS. events: every event of every attempt. timeline:
    (seconds that the machine has worked, step) for every line, where repeated steps count again.
    """

    rows: dict[str, dict[int, Row]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    events: list[Row] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    timeline: list[tuple[float, int]] = field(default_factory=list)
    clock: dict[int, float] = field(default_factory=dict)  # step -> seconds, as the run counts them
    base: float = 0.0  # what the run's clock showed when this attempt began
    spent: float = 0.0  # by all earlier attempts

    def take(self, line: Any) -> None:
        """Sort one line in; what is no line of metrics is left out."""
        if not is_line(line):
            return
        if line["attempt"] > self.attempt:
            self.begin(line)
        super().take(line)
        kind, step = line["kind"], line["step"]
        if kind in self.rows:
            self.rows[kind][step] = line
        if kind == "event":
            self.note(line)
        self.count(line)

    def begin(self, line: Row) -> None:
        """An attempt: forget what earlier ones did beyond its first step, but not their time."""
        step = line["step"]
        self.rows = {
            kind: {s: row for s, row in rows.items() if s <= step}
            for kind, rows in self.rows.items()
        }
        self.clock = {s: seconds for s, seconds in self.clock.items() if s <= step}
        self.base = max(self.clock.values(), default=0.0) if step else 0.0
        self.spent = sum(attempt.seconds for attempt in self.attempts)
        self.attempts.append(Attempt(line["attempt"], step, step))

    def note(self, line: Row) -> None:
        """An event: what the attempt ran on, or how it ended."""
        attempt = self.attempts[-1]
        self.events.append(line)
        if line["event"] in ("start", "resume"):
            attempt.environment = line
        if line["event"] in ENDINGS:
            attempt.ending, attempt.message = line["event"], line.get("message", "")

    def count(self, line: Row) -> None:
        """Add to the clocks."""
        attempt, step = self.attempts[-1], line["step"]
        attempt.last_step = max(attempt.last_step, step)
        attempt.seconds = max(attempt.seconds, line["seconds"] - self.base)
        self.clock[step] = line["seconds"]
        self.timeline.append((self.spent + attempt.seconds, step))

    def series(self, kind: str, key: str) -> list[Row]:
        """The lines of a kind in which a figure is known, by step."""
        rows = self.rows[kind]
        return [rows[step] for step in sorted(rows) if rows[step].get(key) is not None]


def is_line(line: Any) -> bool:
    """Whether this is a line as training writes them: its figures are numbers, or not known."""
    match line:
        case {"kind": str(), "attempt": int(), "step": int(), "seconds": int() | float(), **rest}:
            words = ("event", "message", "text")
            figures = ("loss", "lr", "grad_norm", "tokens_per_second", "acc", "acc_norm")
            return (
                all(isinstance(rest.get(key), int | float | None) for key in figures)
                and all(isinstance(rest.get(key), str | None) for key in words)
                and all(key in rest for key in NEEDED.get(line["kind"], ()))
            )
    return False


@dataclass(frozen=True)
class Run:
    """A run's folder, read."""

    folder: Path
    name: str
    state: str  # RUNNING, PREEMPTED, FAILED or DONE; empty before the first start
    recipe: Any
    tokenizer: str  # its kind
    history: History
    written: str  # when the newest line was written; empty where there is none

    @property
    def environment(self) -> Row:
        """What the newest attempt that said so ran on."""
        told = [a.environment for a in self.history.attempts if a.environment]
        return told[-1] if told else {}

    @property
    def step(self) -> int:
        """Updates done, as far as the metrics say."""
        return max(self.history.clock, default=0)

    @property
    def is_done(self) -> bool:
        return self.state == "DONE"


def open_run(core: Core, source: str, runs: Path) -> Run:
    """Read the run of that name or folder. Raises UserError where there is none."""
    folder = core.checkpoint.find_run(source, runs)
    path = folder / "metrics.jsonl"
    history = History(path)
    history.follow()
    written = ""
    if path.exists():
        written = datetime.fromtimestamp(path.stat().st_mtime).isoformat(" ", "seconds")
    recipe = core.config.load_recipe(folder / "recipe.toml")
    state = core.runlog.read_state(folder)
    name = folder.resolve().name
    return Run(folder, name, state, recipe, tokenizer_kind(folder), history, written)


def tokenizer_kind(folder: Path) -> str:
    """The kind of tokenizer a run was trained with; empty while it has none."""
    try:
        stored = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        return str(stored["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
