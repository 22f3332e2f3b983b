"""The report in a terminal, in 80 columns."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from buildgpt.chart import draw

from . import drawing, findings
from .history import Run
from .page import loss, overview
from .words import duration, seconds_of

WIDTH, CHART = 80, 9
MOST = 5  # findings of each kind


def show(runs: Sequence[Run], facts: Sequence[dict[str, Any]], console: Console) -> None:
    """Every run's state, curve, verdict and findings."""
    if len(runs) > 1:
        console.print(side_by_side(facts))
    for run, known in zip(runs, facts):
        console.print(f"\n{run.name}", style="bold", markup=False)
        curve(run, known, console)
        console.print(figures(known))
        say(console, known["verdict"]["sentence"], "bold")
        for words in remarks(known):
            say(console, f"- {words}")


def say(console: Console, words: str, style: str = "") -> None:
    """A sentence as it is: what it quotes is no markup."""
    console.print(Text(words, style))


def curve(run: Run, known: dict[str, Any], console: Console) -> None:
    """The validation loss, or the training loss where there are too few evaluations to draw."""
    kind = "val" if len(run.history.series("val", "loss")) > 2 else "train"
    points = [(row["step"], row["loss"]) for row in run.history.series(kind, "loss")]
    highest = max(drawing.settled(points), default=0.0)
    points = [point for point in points if point[1] <= highest]  # without the first fall
    if len(points) > 1:
        name = "validation" if kind == "val" else "training"
        say(console, f"{name} loss, by step", "dim")
        width = min(console.width, WIDTH)
        say(console, "\n".join(draw(points, width, CHART, known["steps"])), "cyan")


def figures(known: dict[str, Any]) -> Table:
    """The figures that one looks for first, in two columns."""
    pairs = overview(known)
    half = (len(pairs) + 1) // 2
    grid = Table.grid(padding=(0, 2, 0, 0))
    for left, right in zip(pairs[:half], [*pairs[half:], ("", "")]):
        grid.add_row(
            *(Text(word, "dim" if i % 2 == 0 else "") for i, word in enumerate((*left, *right)))
        )
    return grid


def remarks(known: dict[str, Any]) -> list[str]:
    """What else is to be said, a line each."""
    words = []
    for row in known["hellaswag"][-1:]:
        words.append(f"HellaSwag: {row['acc_norm']:.2%} (chance 25 %, GPT-2 124M 29.55 %)")
    spikes = known["spikes"]
    words += [f"{len(spikes):,} loss spikes; the newest {MOST}:"] if len(spikes) > MOST else []
    for row in spikes[-MOST:]:
        jump = f"{loss(row['loss'])} instead of {loss(row['expected'])}"
        words.append(f"loss spike at step {row['step']:,}, {jump}: {row['cause']}")
    for row in findings.by_cause(known["slow_steps"])[:MOST]:
        times = f" ({row['times']:,} times)" if row["times"] > 1 else ""
        took = f"{seconds_of(row['seconds'])} instead of {seconds_of(row['usual'])}{times}"
        words.append(f"slow step up to {row['step']:,}, {took}: {row['cause']}")
    if len(known["attempts"]) > 1:
        told = ", ".join(f"{a['ending']} at step {a['to_step']:,}" for a in known["attempts"])
        words.append(f"{len(known['attempts'])} attempts: {told}")
    return words


def side_by_side(facts: Sequence[dict[str, Any]]) -> Table:
    """A line for each run."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for head in ("run", "state", "step", "validation", "training", "time"):
        table.add_column(head)
    for k in facts:
        figures_of = (loss(k["losses"]["val"]), loss(k["losses"]["train"]), duration(k["seconds"]))
        cells = (k["run"], k["state"], f"{k['step']:,}", *figures_of)
        table.add_row(*(Text(cell) for cell in cells))
    return table
