"""Some real training steps here, and what the whole run would take at this pace.

The core trains in a process of its own, on random tokens in a temporary folder that is gone
afterwards.
"""

import dataclasses
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from buildgpt import api
from buildgpt.core import Core
from buildgpt.watch import environment

from .arithmetic import flops_per_token, price
from .doctor import MATMUL_SIZE, matmul_flops, memory_amounts
from .memory import memory

STEPS, WARMUP = 20, 3
STUDENT_T = 2.093  # 97.5 % of Student's distribution with STEPS - 1 degrees of freedom lie below
STEP_SECONDS = 2.0  # a measured step is made about so long at most, by fewer tokens
PESSIMISM = 0.4  # the share of the matmul peak by which the length of a step is foreseen
POLL_SECONDS = 0.05


def measure(core: Core, recipe: Any, ranks: int = 1) -> dict[str, Any]:
    """Train STEPS steps on this device and extrapolate to the whole run on `ranks` like it.

    Returns device, dtype, threads, devices, steps, micro_batch, tokens_per_step, seconds_per_step,
    tokens_per_second, hours and its 95 % interval hours_low to hours_high, dollars (None without a
    price). Raises UserError if the memory is too small or training fails.
    """
    device = api.device_for(core, recipe)
    micro_batch, rounds = measured_shape(core, recipe, device)
    with tempfile.TemporaryDirectory() as folder:
        path = write_data(core, recipe, Path(folder), micro_batch, rounds)
        lines = train(core, path, Path(folder))
    start = next(line for line in lines if line["kind"] == "event" and "torch" in line)
    ends = [line["seconds"] for line in lines if line["kind"] == "train"]
    tokens = micro_batch * rounds * recipe.model.context
    times = [after - before for before, after in zip(ends[WARMUP - 1 :], ends[WARMUP:])]
    name = start.get("device_name", start["device"])
    result = {"device": name, "dtype": start["dtype"], "threads": start["threads"]}
    result |= {"devices": ranks, "steps": STEPS, "micro_batch": micro_batch}
    result["tokens_per_step"] = tokens
    return result | extrapolate(recipe, times, tokens, ranks, name)


def measured_shape(core: Core, recipe: Any, device: Any) -> tuple[int, int]:
    """Sequences a micro-batch and micro-batches a step: the recipe's, or fewer if that is long."""
    micro_batch = core.config.divide(recipe, 1)
    sequences = recipe.train.tokens_per_step // recipe.model.context
    dtype, _ = core.runtime.choose_dtype(recipe.runtime.dtype, device)
    peak = matmul_flops(device, dtype, MATMUL_SIZE[device.type])
    flops = flops_per_token(recipe.model, recipe.modern) * recipe.model.context
    possible = max(1, int(STEP_SECONDS * PESSIMISM * peak / flops))  # sequences in that time
    kind = "cuda" if device.type == "cuda" else "cpu"
    free = (memory_amounts() or (math.inf, 0))[0]
    for size in range(min(micro_batch, possible), 0, -1):
        parts = memory(recipe, size, 1, kind, core)
        need = sum(parts.values()) - parts["evaluation"]  # there is none
        if sequences % size == 0 and need < free:
            return size, min(sequences // size, max(1, possible // size))
    raise core.config.UserError(
        f"one sequence takes {need / 1e9:.1f} GB and {free / 1e9:.1f} GB are free here:"
        " measure a smaller model, such as with --set model.size=124M"
    )


def write_data(core: Core, recipe: Any, folder: Path, micro_batch: int, rounds: int) -> Path:
    """Random tokens and a recipe that only trains on them; returns the recipe's path."""
    import numpy as np

    model, data = recipe.model, folder / "data"
    data.mkdir()
    tokens = max(4 * micro_batch, 16) * model.context + 1
    drawn = np.random.default_rng(0).integers(0, model.vocab_size, tokens)
    splits = {}
    for split in core.data.SPLITS:
        writer = core.data.ShardWriter(data, split)
        writer.add(drawn)
        splits[split] = writer.close()
    # Any tokenizer with so many ids will do: nothing is encoded.
    characters = map(chr, range(0x10000, 0x10000 + model.vocab_size - 1))
    core.data.write_manifest(data, core.tokenizer.CharTokenizer(characters), splits)
    changed = {"init_from": "", "max_seconds": 0.0, "log_every": 1, "mirror": ""}
    changed |= dict.fromkeys(("eval_every", "hellaswag_every", "checkpoint_every"), 0)
    changed |= {"steps": 10**6, "micro_batch": micro_batch, "warmup_steps": 0}
    changed["tokens_per_step"] = micro_batch * rounds * model.context
    shortened = dataclasses.replace(
        recipe,
        data=core.config.DataConfig(path=str(data)),
        train=dataclasses.replace(recipe.train, **changed),
        sample=core.config.SampleConfig(),
    )
    path = folder / "measure.toml"
    core.config.write_text(path, core.config.to_toml(shortened))
    return path


def train(core: Core, recipe: Path, folder: Path) -> list[dict[str, Any]]:
    """Train until enough steps are in the metrics, then end the process; returns the metrics."""
    words = [str(recipe), "--name", "measure", "--runs", str(folder / "runs")]
    command = [sys.executable, "-m", f"{core.package}.train", *words]
    output, errors = subprocess.DEVNULL, subprocess.PIPE
    process = subprocess.Popen(
        command, stdout=output, stderr=errors, env=environment(core), text=True
    )
    try:
        while process.poll() is None:
            lines = core.runlog.read_metrics(folder / "runs" / "measure")
            if sum(line["kind"] == "train" for line in lines) >= WARMUP + STEPS:
                return lines
            time.sleep(POLL_SECONDS)
    finally:
        process.kill()  # at once: there is nothing to be saved
        _, complaint = process.communicate()
    last = (complaint.strip().splitlines() or ["it ended without a word"])[-1]
    raise core.config.UserError(f"measuring failed: {last.removeprefix('error: ')}")


def extrapolate(
    recipe: Any, times: list[float], tokens: int, ranks: int, device: str
) -> dict[str, Any]:
    """From seconds of steps of so many tokens to the whole run, with the mean's 95 % interval.

    The interval is that of the steps' spread alone: a machine that is busier later, or a pace that
    changes as it gets warm, is not in it.
    """
    mean = statistics.mean(times)
    error = STUDENT_T * statistics.stdev(times) / math.sqrt(len(times))
    steps = recipe.train.steps * recipe.train.tokens_per_step / tokens / ranks
    low, middle, high = (
        within_limit(recipe, max(t, 0.0) * steps / 3600) for t in (mean - error, mean, mean + error)
    )
    cost = price(device)
    return {
        "seconds_per_step": round(mean, 5),
        "tokens_per_second": round(tokens / mean, 1),
        "hours": round(middle, 4),
        "hours_low": round(low, 4),
        "hours_high": round(high, 4),
        "dollars": round(middle * ranks * cost[0], 2) if cost else None,
    }


def within_limit(recipe: Any, hours: float) -> float:
    """The hours, or those of train.max_seconds where that ends the run before."""
    return min(hours, recipe.train.max_seconds / 3600 or math.inf)


def measured_words(result: dict[str, Any]) -> str:
    """The measurement in a sentence."""
    low, high = (f"{result[key]:,.3g}" for key in ("hours_low", "hours_high"))
    many = f" on {result['devices']} of it" if result["devices"] > 1 else ""
    return (
        f"{result['steps']} steps of {result['tokens_per_step']:,} tokens took"
        f" {result['seconds_per_step']:.3f} s each on {result['device']} ({result['dtype']}):"
        f" {result['tokens_per_second']:,.0f} tokens/s, {result['hours']:,.3g} hours for the whole"
        f" run{many} (95 %: {low} to {high})"
    )
