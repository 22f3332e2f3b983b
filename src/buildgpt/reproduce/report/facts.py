"""A run in figures and words: what --json prints and the page and the terminal show."""

import dataclasses
from typing import Any

import numpy as np

from buildgpt import __version__
from buildgpt.api import RECIPES
from buildgpt.core import Core
from buildgpt.reproduce import arithmetic

from . import findings, references
from .history import Attempt, Row, Run

MOST_SAMPLES = 6
KEPT = ("torch", "device", "device_name", "dtype", "compiled", "ranks", "parallel", "threads")


def describe(core: Core, run: Run, against: Run | None = None) -> dict[str, Any]:
    """Everything the report says of one run. What is not known is None."""
    history, parameters = run.history, run.environment.get("parameters")
    facts: dict[str, Any] = {"run": run.name, "folder": str(run.folder), "state": run.state}
    facts |= {"written": run.written, "corpus": references.corpus_of(run), "step": run.step}
    facts |= progress(run)
    facts |= {"parameters": parameters, "losses": losses(run)}
    facts["verdict"] = references.judge(run, parameters, against)
    facts["levels"] = levels(run)
    facts["hellaswag"] = history.series("hellaswag", "acc_norm")
    facts["spikes"], facts["skipped"] = findings.spikes(run), findings.skipped(run)
    facts["slow_steps"] = findings.slow_steps(run)
    facts["speed"] = speed(run)
    facts["cost"] = cost(run, facts["seconds_left"])
    facts["attempts"] = [attempt_row(run, attempt) for attempt in history.attempts]
    facts["recipe"] = dataclasses.asdict(run.recipe)
    facts |= compared_recipe(core, run)
    facts["environment"] = {key: run.environment.get(key) for key in KEPT}
    facts["environment"]["peak_memory_gb"] = history.summary.get("peak_memory_gb")
    facts["samples"] = milestones(run)
    facts["report_of"] = f"buildgpt {__version__}"
    return facts


# How far.


def progress(run: Run) -> dict[str, Any]:
    """steps, tokens, tokens_left, seconds, seconds_left: to the end, where that can be told."""
    train, step = run.recipe.train, run.step
    pace = 0.0 if run.is_done else seconds_a_step(run)
    seconds = max(run.history.clock.values(), default=0.0)
    steps = step if run.is_done else train.steps
    if pace and train.max_seconds:
        steps = min(steps, step + int(max(train.max_seconds - seconds, 0.0) / pace))
    tokens, left = step * train.tokens_per_step, (steps - step) * train.tokens_per_step
    later = 0.0 if run.is_done else (steps - step) * pace if pace else None
    found = {"steps": steps, "tokens": tokens, "tokens_left": left}
    return found | {"seconds": seconds, "seconds_left": later}


def seconds_a_step(run: Run) -> float | None:
    """The pace of the newest attempt that has one, evaluations and checkpoints included."""
    rows = list(run.history.rows["train"].values())
    for number in sorted({row["attempt"] for row in rows}, reverse=True):
        own = sorted((r["step"], r["seconds"]) for r in rows if r["attempt"] == number)
        (first, began), (last, ended) = own[0], own[-1]
        if last > first and ended > began:
            return (ended - began) / (last - first)
    return None


def losses(run: Run) -> dict[str, Any]:
    """The latest losses, and every evaluation."""
    train, val = (run.history.series(kind, "loss") for kind in ("train", "val"))
    keys = ("step", "tokens", "loss", "bits_per_byte")
    return {
        "train": train[-1]["loss"] if train else None,
        "val": val[-1]["loss"] if val else None,
        "best_val": min((row["loss"] for row in val), default=None),
        "evaluations": [{key: row.get(key) for key in keys} for row in val],
    }


def levels(run: Run) -> list[Row]:
    """The published losses for the run's corpus, and whether it has come below each."""
    val = run.history.series("val", "loss")
    return [
        level
        | {"reached_at_step": next((r["step"] for r in val if r["loss"] <= level["loss"]), None)}
        for level in references.levels_for(run)
    ]


# Speed and cost.


def speed(run: Run) -> dict[str, Any]:
    """tokens_per_second (this attempt's), and utilisation, its share of the hardware's peak."""
    rows = run.history.series("train", "tokens_per_second")
    rate = (rows[-1]["tokens_per_second"] or None) if rows else None
    environment = run.environment
    device, dtype = device_name(environment), environment.get("dtype", "")
    recipe = run.recipe
    per_token = arithmetic.flops_per_token(recipe.model, recipe.modern, recipe.train)
    peak = arithmetic.peak_flops(device, dtype) if device else None
    used = rate and peak and rate * per_token / (peak * environment.get("ranks", 1))
    return {
        "tokens_per_second": rate,
        "flops_per_token": per_token,
        "peak_flops": peak,
        "utilisation": used,
    }


def device_name(environment: Row) -> str:
    """What an attempt ran on, as its maker calls it."""
    return environment.get("device_name") or environment.get("device") or ""


def cost(run: Run, seconds_left: float | None) -> dict[str, Any]:
    """Device-hours, and dollars so far and in all. None where the price is not known."""
    tries = run.history.attempts
    hours = [a.seconds * a.environment.get("ranks", 1) / 3600 for a in tries]
    prices = [arithmetic.price(device_name(attempt.environment)) for attempt in tries]
    found: dict[str, Any] = {"device_hours": sum(hours), "so_far": None, "in_all": None}
    found["price"] = found["price_date"] = found["price_source"] = None
    if not prices or prices[-1] is None:
        return found
    found["price"], found["price_date"], found["price_source"] = prices[-1]
    if all(prices):
        found["so_far"] = sum(p[0] * h for p, h in zip(prices, hours) if p)
    if found["so_far"] is not None and seconds_left is not None:
        ranks = tries[-1].environment.get("ranks", 1)
        found["in_all"] = found["so_far"] + seconds_left / 3600 * ranks * found["price"]
    return found


def attempt_row(run: Run, attempt: Attempt) -> Row:
    """One line of the timeline."""
    environment = attempt.environment
    last = attempt is run.history.attempts[-1]
    ending, message = attempt.ending, attempt.message if attempt.ending != "done" else ""
    if not ending:
        going = last and run.state in ("RUNNING", "")
        ending = "running" if going else "ended without a word"
        message = "" if going else "a crash, a kill or a lost machine"
    row: Row = {"attempt": attempt.number, "from_step": attempt.first_step}
    row |= {"to_step": attempt.last_step, "seconds": attempt.seconds}
    row |= {"ranks": environment.get("ranks"), "device": device_name(environment) or None}
    return row | {"ending": ending, "message": message}


# The recipe.


def compared_recipe(core: Core, run: Run) -> dict[str, Any]:
    """bundled: the recipe of the run's name, else the nearest; differences: [{key, run, bundled}].

    None and nothing for imported weights, which have no recipe of their own.
    """
    if run.is_done and not run.history.attempts:
        return {"bundled": None, "differences": []}
    found = {path.stem: differences(run, core.config.load_recipe(path)) for path in bundled()}
    name = run.name if run.name in found else min(found, key=lambda stem: len(found[stem]))
    return {"bundled": name, "differences": found[name]}


def bundled() -> list[Any]:
    """The recipes of the package."""
    return sorted(RECIPES.glob("*.toml"))


def differences(run: Run, other: Any) -> list[Row]:
    """The keys in which a run's recipe is not another one, whose vocabulary may be left open."""
    own, theirs = dataclasses.asdict(run.recipe), dataclasses.asdict(other)
    return [
        {"key": f"{section}.{key}", "run": value, "bundled": theirs[section][key]}
        for section, values in own.items()
        for key, value in values.items()
        if value != theirs[section][key] and (key, theirs[section][key]) != ("vocab_size", 0)
    ]


def milestones(run: Run) -> list[Row]:
    """Some samples: the first, the newest, and between them ever further apart."""
    rows = run.history.series("sample", "text")
    if len(rows) > MOST_SAMPLES:
        places = np.geomspace(1, len(rows), MOST_SAMPLES).round().astype(int) - 1
        rows = [rows[place] for place in sorted({*map(int, places)})]
    return [{"step": row["step"], "text": row["text"]} for row in rows]
