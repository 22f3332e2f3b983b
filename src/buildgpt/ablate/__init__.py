"""Train a recipe's variations with several seeds, and say which changes pay and which are noise."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from buildgpt import api
from buildgpt.core import Core
from buildgpt.datasets.progress import duration, readable

from .comparing import CRITERION, MOST_SEEDS, compare, spread
from .showing import draw, show
from .training import Display, Job, environment_of, outcome, train, write_recipes
from .variations import Plan, Variation, by_switches, by_values, parse_budget, resolve

__all__ = ["ablate", "show"]


def ablate(
    core: Core,
    recipe: str,
    switches: str = "",
    vary: str = "",
    seeds: int = 3,
    budget: str = "",
    settings: list[str] | None = None,
    out: Path | None = None,
    runs: Path = api.RUNS,
    live: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train what is not trained yet, and compare; returns what results.json holds.

    Raises UsageError for wrong words, before anything is trained, and UserError if it is stopped.
    """
    require = core.config.require
    require(bool(switches) != bool(vary), "give either --switches or --vary")
    require(1 <= seeds <= MOST_SEEDS, f"--seeds must be at least 1 and at most {MOST_SEEDS}")
    path = api.find_recipe(core, recipe)
    own = core.config.load_recipe(path, settings)
    plan = by_switches(core, switches) if switches else by_values(core, own, vary)
    folder = out or runs / f"{path.stem}-{plan.key or 'switches'}"
    words = {"recipe": path.stem, "settings": settings or [], "budget": budget}
    jobs = jobs_of(core, plan, path, words, own.train.seed, seeds, folder)
    write_recipes(core, jobs)
    api.provide_data(core, own)
    display = Display(console or Console(), live, len(jobs))
    display.say(announcement(core, plan, seeds, budget, folder))
    return train_all(core, plan, jobs, words, display)


def announcement(core: Core, plan: Plan, seeds: int, budget: str, folder: Path) -> str:
    """What is about to be done."""
    count, (seconds, tokens) = len(plan.trained()), parse_budget(core, budget)
    each = f" of {readable(tokens, 'tokens')}" if tokens else ""
    each = f" of {seconds:g} s, {duration(seconds * count * seeds)} in all" if seconds else each
    return f"{count} variations x {seeds} seeds = {count * seeds} runs{each}, into {folder}"


def jobs_of(
    core: Core,
    plan: Plan,
    path: Path,
    words: dict[str, Any],
    first: int,
    seeds: int,
    out: Path,
) -> list[Job]:
    """All variations with the first seed, then with the next: a machine that gets slower with time
    is as slow for one as for another. UsageError names a variation that cannot be."""
    budget = parse_budget(core, words["budget"])

    def job(variation: Variation, seed: int) -> Job:
        settings = [*words["settings"], *variation.settings]
        try:
            recipe = resolve(core, path, settings, budget, seed)
        except core.config.UsageError as error:
            raise core.config.UsageError(f"{variation.words}: {error}") from None
        return Job(variation.name, seed, f"{variation.words}, seed {seed}", recipe, out)

    names = plan.trained().values()
    several = [variation for variation in plan.variations if variation.name in names]
    return [job(v, seed) for seed in range(first, first + seeds) for v in several]


def train_all(
    core: Core, plan: Plan, jobs: list[Job], words: dict[str, Any], display: Display
) -> dict[str, Any]:
    """Train one job after another, and write the results after each."""
    found: dict[str, dict[str, Any]] = {}
    for display.number, job in enumerate(jobs, 1):
        known = outcome(core, job)
        done = [job for job in jobs if has_loss(found.get(job.name))]
        result = known or train(core, job, environment_of(core, done), display)
        found[job.name] = result
        display.tell(job, result, anew=not known)
        results = collect(core, plan, jobs, found, words)
        text = json.dumps(results, indent=1)
        core.config.write_text(job.out / "results.json", text + "\n")
    return results | {"picture": draw(core, results, jobs[0].out)}


def collect(
    core: Core, plan: Plan, jobs: list[Job], found: dict[str, Any], words: dict[str, Any]
) -> dict[str, Any]:
    """The results so far."""
    trained = plan.trained()
    owners = {
        v.name: [j for j in jobs if j.variation == trained[v.settings]] for v in plan.variations
    }
    losses = {
        name: {j.seed: found[j.name]["val_loss"] for j in own if has_loss(found.get(j.name))}
        for name, own in owners.items()
    }
    compared = [
        {"what": c.what, "row": c.row, "worse": c.worse, "better": c.better}
        | compare(losses[c.worse], losses[c.better])
        for c in plan.comparisons
    ]
    rows = [described(v, losses[v.name], owners[v.name], found) for v in plan.variations]
    machine = machine_of(core, [job for job in jobs if job.name in found])
    kind = {"varied": plan.key, "seeds": sorted({job.seed for job in jobs})}
    whole = {"complete": len(found) == len(jobs), "criterion": CRITERION}
    return words | kind | machine | whole | {"variations": rows, "comparisons": compared}


def has_loss(result: dict[str, Any] | None) -> bool:
    """Whether a run is done and has come to something."""
    return result is not None and result["val_loss"] is not None


def described(
    variation: Variation, losses: dict[int, float], jobs: list[Job], found: dict[str, Any]
) -> dict[str, Any]:
    """One variation: its settings, losses by seed, their spread, and how far its runs came."""
    mean, deviation = spread(list(losses.values()))
    own = [found[job.name] for job in jobs if job.name in found]
    good = [result for result in own if has_loss(result)]
    figures: dict[str, Any] = {
        key: round(sum(result[key] for result in good) / len(good), 1) if good else None
        for key in ("step", "tokens", "seconds")
    }
    return {
        "name": variation.name,
        "words": variation.words,
        "settings": list(variation.settings),
        "losses": losses,
        "mean": mean,
        "deviation": deviation,
        **figures,
        "errors": sorted({result["error"] for result in own if result["error"]}),
    }


def machine_of(core: Core, done: list[Job]) -> dict[str, Any]:
    """On what the first run was trained."""
    for line in core.runlog.read_metrics(done[0].folder) if done else []:
        if "device_name" in line:
            return {key: line[key] for key in ("device_name", "threads", "dtype", "torch")}
    return {}
