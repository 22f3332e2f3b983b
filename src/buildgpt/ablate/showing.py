"""The results of an ablation: a table, a picture, or a chart of characters."""

import importlib.util
import io
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from buildgpt.core import Core
from buildgpt.datasets.progress import readable

COLOURS = {"helps": "green", "hurts": "red", "within noise": "yellow"}
DRAWN = {"helps": "#10a37f", "hurts": "#c44e52", "within noise": "#7d8590"}
BLUE = "#3b82c4"
BAR = 40  # characters


def show(results: dict[str, Any], console: Console) -> None:
    """Every variation with its loss and, where it is compared, the gain; then how to read it."""
    by_row = {found["row"]: found for found in results["comparisons"]}
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("")
    for head in ("loss (sd)", "tokens", "gain of the change"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in results["variations"]:
        found = by_row.get(row["name"])
        cells = (gain(found), verdict(found)) if found else ("", Text("baseline", "dim"))
        tokens = readable(row["tokens"], "").strip() if row["tokens"] else ""
        table.add_row(Text(row["words"]), loss(row), tokens, *cells)
    console.print(table)
    for row in results["variations"]:
        for error in row["errors"]:
            console.print(Text(f"{row['words']}: {error}", "yellow"))
    console.print(Text(results["criterion"], "dim"))
    if results["picture"]:
        console.print(Text(f"the picture: {results['picture']}"))
    else:
        console.print(Text(bars(results)))
        console.print(Text("for a picture: pip install 'buildgpt[reproduce]'", "dim"))


def loss(row: dict[str, Any]) -> str:
    """A variation's mean loss and the spread over its seeds."""
    if row["mean"] is None:
        return "failed" if row["errors"] else ""
    spread = f" ({row['deviation']:.4f})" if row["deviation"] is not None else ""
    return f"{row['mean']:.4f}{spread}"


def gain(found: dict[str, Any]) -> str:
    """A gain and its interval."""
    if found["mean"] is None:
        return ""
    half = f" ± {found['half_width']:.4f}" if found["half_width"] is not None else ""
    return f"{found['mean']:+.4f}{half}"


def verdict(found: dict[str, Any]) -> Text:
    """What a gain comes to, in its colour."""
    return Text(found["verdict"], COLOURS.get(found["verdict"], ""))


def bars(results: dict[str, Any]) -> str:
    """The gains as bars of characters, losses in gain to the left of the axis."""
    rows = [found for found in results["comparisons"] if found["mean"] is not None]
    most = max((abs(found["mean"]) for found in rows), default=0.0) or 1.0
    widest = max((len(found["what"]) for found in rows), default=0)
    lines = []
    for found in rows:
        length = round(abs(found["mean"]) / most * BAR / 2)
        left, right = ("█" * length, "") if found["mean"] < 0 else ("", "█" * length)
        bar = f"{left:>{BAR // 2}}│{right:<{BAR // 2}}"
        lines.append(f"{found['what']:<{widest}} {bar} {gain(found)}")
    return "\n".join(lines)


def draw(core: Core, results: dict[str, Any], folder: Path) -> str:
    """Draw the results into the folder; returns the picture's path, empty without matplotlib."""
    rows = [found for found in results["comparisons"] if found["mean"] is not None]
    if importlib.util.find_spec("matplotlib") is None or not rows:
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1.4 + 0.3 * len(rows)), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    points = numeric(results)
    if points:
        figure.set_size_inches(6, 4)
        curve(axes, results, points)
    else:
        gains(axes, rows)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    title = f"{results['recipe']}, {len(results['seeds'])} seeds"
    axes.set_title(f"{title}, {results['budget']} each" if results["budget"] else title)
    file, path = io.BytesIO(), folder / "ablation.png"
    figure.savefig(file, format="png")
    core.config.write_bytes(path, file.getvalue())
    return str(path)


def gains(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Each gain with its interval, and a dot for each seed's difference."""
    for place, found in enumerate(rows):
        colour = DRAWN.get(found["verdict"], BLUE)
        values = list(found["differences"].values())
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.35, markersize=4)
        half = found["half_width"] or 0.0
        axes.errorbar(found["mean"], place, xerr=half, fmt="o", color=colour, capsize=3)
    axes.axvline(0, color="#7d8590", linewidth=1)
    axes.set_yticks(range(len(rows)), [label(found) for found in rows])
    axes.invert_yaxis()
    axes.set_xlabel("gain in nats a token, with its 95 % interval")


def label(found: dict[str, Any]) -> str:
    """A gain's name, without what matplotlib would take for a formula."""
    words = f"{found['what']}: {found['verdict']}"
    return words.replace("$", r"\$")


def numeric(results: dict[str, Any]) -> list[tuple[float, dict[str, Any]]]:
    """(value, variation) of a key that is varied over numbers; empty for others."""
    if not results["varied"]:
        return []
    rows = [row for row in results["variations"] if row["mean"] is not None]
    try:
        found = [(float(row["settings"][0].partition("=")[2]), row) for row in rows]
    except ValueError:
        return []
    return sorted(found, key=lambda pair: pair[0])


def curve(axes: Any, results: dict[str, Any], points: list[tuple[float, dict[str, Any]]]) -> None:
    """The loss against the value, a dot for each seed and the mean with its standard deviation."""
    for value, row in points:
        losses = list(row["losses"].values())
        axes.plot([value] * len(losses), losses, "o", color=BLUE, alpha=0.35, markersize=4)
    values, means = [v for v, _ in points], [row["mean"] for _, row in points]
    deviations = [row["deviation"] or 0.0 for _, row in points]
    axes.errorbar(values, means, yerr=deviations, fmt="o-", color=BLUE, capsize=3)
    if min(values) > 0 and max(values) / min(values) >= 4:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(results["varied"])
    axes.set_ylabel("validation loss; bars: one deviation")
