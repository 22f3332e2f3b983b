"""The report as one HTML file: no request leaves it, and every text in it is escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import count
from pathlib import Path
from typing import Any

from . import drawing, findings, references
from .facts import device_name
from .history import Run
from .words import amount, dollars, duration, percent, seconds_of

STYLE = Path(__file__).with_name("page.css")
FIGURES = (
    ("lr", "Learning rate", "rate"),
    ("grad_norm", "Gradient norm, before clipping", "norm"),
)


def write_page(runs: Sequence[Run], facts: Sequence[dict[str, Any]], against: Run | None) -> str:
    """The whole page for one run, or for several with a comparison before them."""
    numbers = count(1)  # of the figures
    title = "Report: " + ", ".join(run.name for run in runs)
    parts = [f"<h1>{escape(title)}</h1>"]
    if len(runs) > 1:
        parts += comparison(runs, facts, against, numbers)
    for run, known in zip(runs, facts):
        parts.append(f"<h2>{escape(run.name if len(runs) > 1 else 'Where it stands')}</h2>")
        parts += section(run, known, against, numbers)
    parts.append(footer(facts))
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE.read_text()}</style>"
    )
    body = "\n".join(parts)
    body = f"<body><main>\n{body}\n</main></body>"
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>{body}</html>\n'


def comparison(runs: Sequence[Run], facts: Any, against: Run | None, numbers: Any) -> list[str]:
    """All runs in one picture and one table."""
    picture = drawing.loss_picture(runs, against, next(numbers))
    drawn = [figure("Loss against tokens (thin: training)", picture)]
    if any(known["hellaswag"] for known in facts):
        drawn.append(figure("HellaSwag", drawing.hellaswag_picture(runs, next(numbers))))
    corpora = {known["corpus"] for known in facts}
    warning = ""
    if len(corpora) > 1:
        names = ", ".join(sorted(corpora))
        words = f"Losses on different corpora ({names}) cannot be compared."
        warning = f'<p class="verdict">{escape(words)}</p>'
    heads = (
        "run",
        "corpus",
        "state",
        "step",
        "tokens",
        "validation",
        "training",
        "tokens/s",
        "time",
    )
    rows = [
        (k["run"], k["corpus"], k["state"], amount(k["step"]), drawing.short(k["tokens"]))
        + (loss(k["losses"]["val"]), loss(k["losses"]["train"]))
        + (amount(k["speed"]["tokens_per_second"]), duration(k["seconds"]))
        for k in facts
    ]
    return ["<h2>Side by side</h2>", warning, grid(drawn), table(heads, rows)]


def section(run: Run, known: dict[str, Any], against: Run | None, numbers: Any) -> list[str]:
    """Everything about one run."""
    parts = [verdict(known), boxes(overview(known))]
    parts.append(grid(figures(run, known, against, numbers)))
    parts += [levels(known), spikes(known), slow_steps(known), attempts(known)]
    parts += [samples(known), recipe(known), environment(known)]
    return parts


def verdict(known: dict[str, Any]) -> str:
    """Whether the run is on its curve, and where that curve comes from."""
    found = known["verdict"]
    words = f"<strong>{escape(found['sentence'])}</strong>"
    if found.get("curve", {}).get("source"):
        curve = found["curve"]
        words += (
            f'<br><span class="small">Curve: {escape(curve["source"])}, {escape(curve["date"])}; '
        )
        words += f"{escape(curve['protocol'])}. This project's own: none recorded yet.</span>"
    return f'<p class="verdict">{words}</p>'


def overview(known: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures that one looks for first."""
    cost, speed = known["cost"], known["speed"]
    of = f" of {amount(known['steps'])}" if known["steps"] != known["step"] else ""
    return [
        ("state", known["state"] or "not started"),
        ("step", amount(known["step"]) + of),
        ("tokens", f"{drawing.short(known['tokens'])}, {drawing.short(known['tokens_left'])} left"),
        ("validation loss", loss(known["losses"]["val"])),
        ("training loss", loss(known["losses"]["train"])),
        ("time", duration(known["seconds"])),
        ("time left", duration(known["seconds_left"])),
        ("tokens a second", amount(speed["tokens_per_second"])),
        ("model FLOPs utilisation", percent(speed["utilisation"])),
        ("cost so far", dollars(cost["so_far"])),
        ("cost to the end", dollars(cost["in_all"])),
        ("parameters", amount(known["parameters"])),
        ("newest line", known["written"] or "none"),
    ]


def figures(run: Run, known: dict[str, Any], against: Run | None, numbers: Any) -> list[str]:
    """The pictures for which there is something to draw."""
    history = run.history
    if not history.attempts:
        return []
    drawn = [figure("Loss against tokens", drawing.loss_picture([run], against, next(numbers)))]
    if known["hellaswag"]:
        drawn.append(figure("HellaSwag", drawing.hellaswag_picture([run], next(numbers))))
    for kind in FIGURES:
        if history.series("train", kind[0]):
            drawn.append(figure(kind[1], drawing.figure_of(run, kind, next(numbers))))
    if history.rows["train"]:
        drawn.append(figure("Throughput", drawing.speed_picture(run, next(numbers))))
    if len(history.attempts) > 1:
        drawn.append(figure("Attempts", drawing.timeline_picture(run, next(numbers))))
    return drawn


def levels(known: dict[str, Any]) -> str:
    """The published losses, and when the run came below each."""
    rows = [
        (
            f"{v['label']} on {references.named(v['corpus'])}",
            f"{v['loss']:.4f}",
            f"step {v['reached_at_step']:,}" if v["reached_at_step"] else "not yet",
            f"{v['source']}, {v['date']}; {v['protocol']}",
        )
        for v in known["levels"]
    ]
    if known["hellaswag"]:
        best = max(row["acc_norm"] for row in known["hellaswag"])
        for v in references.load()["hellaswag"]:
            reached = "yes" if best >= v["acc_norm"] else "not yet"
            told = f"{', '.join(filter(None, (v['source'], v['date'])))}; {v['protocol']}"
            rows.append((f"{v['label']} on HellaSwag", f"{v['acc_norm']:.2%}", reached, told))
    heads = ("reference", "value", "reached", "source and protocol")
    return titled("References", table(heads, rows)) if rows else ""


def spikes(known: dict[str, Any]) -> str:
    """Loss spikes and skipped updates."""
    rows = [
        (amount(s["step"]), loss(s["loss"]), loss(s["expected"]), norm(s["grad_norm"]), s["cause"])
        for s in known["spikes"]
    ]
    heads = ("step", "loss", "usual", "gradient norm", "likely cause")
    body = table(heads, rows) if rows else "<p>None.</p>"
    if known["skipped"]:
        body += "<p>Skipped updates:</p>"
        body += table(
            ("step", "what was said"),
            [(amount(s["step"] + 1), s["message"]) for s in known["skipped"]],
        )
    return titled("Loss spikes", body)


def slow_steps(known: dict[str, Any]) -> str:
    """For each likely cause how many slow steps there were, and the slowest."""
    rows = [
        (
            amount(r["times"]),
            f"{seconds_of(r['seconds'])}, up to step {r['step']:,}",
            seconds_of(r["usual"]),
            r["cause"],
        )
        for r in findings.by_cause(known["slow_steps"])
    ]
    body = table(("how many", "the slowest", "usual", "likely cause"), rows)
    return titled("Slow steps", body if rows else "<p>None.</p>")


def attempts(known: dict[str, Any]) -> str:
    """Starts, restarts and how each ended."""
    rows = [
        (
            amount(a["attempt"]),
            f"{a['from_step']:,} to {a['to_step']:,}",
            duration(a["seconds"]),
            f"{a['ranks'] or '?'} × {a['device'] or 'unknown'}",
            a["ending"] + (f": {a['message']}" if a["message"] else ""),
        )
        for a in known["attempts"]
    ]
    return (
        titled("Attempts", table(("attempt", "steps", "time", "on", "ended"), rows)) if rows else ""
    )


def samples(known: dict[str, Any]) -> str:
    """The same prompt continued at milestones."""
    parts = [
        f"<h4>Step {amount(s['step'])}</h4><pre>{escape(s['text'])}</pre>" for s in known["samples"]
    ]
    return titled("Samples", "".join(parts)) if parts else ""


def recipe(known: dict[str, Any]) -> str:
    """What differs from a bundled recipe, and all of it on demand."""
    if known["bundled"] is None:
        return titled("Recipe", "<p>Imported weights: nothing was trained here.</p>")
    rows = [(d["key"], shown(d["run"]), shown(d["bundled"])) for d in known["differences"]]
    words = f"It is the bundled recipe {known['bundled']}." if not rows else ""
    words = words or f"What differs from the bundled recipe {known['bundled']}:"
    body = f"<p>{escape(words)}</p>"
    body += table(("key", "this run", known["bundled"]), rows) if rows else ""
    every = [
        (f"{section}.{key}", shown(value))
        for section, values in known["recipe"].items()
        for key, value in values.items()
    ]
    whole = (
        f"<details><summary>The whole recipe</summary>{table(('key', 'value'), every)}</details>"
    )
    return titled("Recipe", body + whole)


def environment(known: dict[str, Any]) -> str:
    """What it ran on, and where price and utilisation come from."""
    told = known["environment"]
    rows = [
        (key.replace("_", " "), shown(value)) for key, value in told.items() if value is not None
    ]
    cost, speed = known["cost"], known["speed"]
    name = device_name(told) or "this device"
    per_token = f"{speed['flops_per_token']:.4g} FLOPs a token"
    if speed["peak_flops"]:
        peak = f"{speed['peak_flops'] / 1e12:.0f} TFLOP/s a device"
        rows.append(("utilisation", f"{per_token} against a peak of {peak}"))
    else:
        rows.append(("utilisation", f"unknown: {per_token}, but no peak is known for {name}"))
    if cost["price"] is None:
        rows.append(("price", f"unknown for {name}"))
    else:
        source = f"{cost['price_date']}, {cost['price_source']}"
        rows.append(("price", f"{cost['price']:.2f} dollars a device-hour, {source}"))
    rows.append(("device-hours", f"{cost['device_hours']:.2f}"))
    return titled("Environment", table(("", ""), rows))


def footer(facts: Sequence[dict[str, Any]]) -> str:
    """Who made this."""
    return f'<p class="small">Made by {escape(facts[0]["report_of"])}, from metrics.jsonl.</p>'


# Pieces of a page. What they take is text, which they escape; `body` and `svg` are HTML already.


def titled(title: str, body: str) -> str:
    return f"<section><h3>{escape(title)}</h3>{body}</section>"


def figure(title: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>"


def grid(drawn: Iterable[str]) -> str:
    return f'<div class="figures">{"".join(drawn)}</div>'


def boxes(pairs: Iterable[tuple[str, str]]) -> str:
    inner = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs)
    return f'<dl class="facts">{inner}</dl>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls by itself where the screen is narrow."""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    head = f"<thead><tr>{top}</tr></thead>" if any(heads) else ""
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def loss(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"


def norm(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def shown(value: Any) -> str:
    """A recipe's value as one reads it."""
    return "(empty)" if value in ("", ()) else f"{value:,}" if type(value) is int else str(value)
