"""What cpu.py measures besides speed side by side: data, start-up, memory, learning."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# What learns, and for how many seconds.
RECIPES = {"shakespeare": 75.0, "modern-shakespeare": 75.0, "modern-shakespeare-4min": 236.0}
# Layers, heads, width, context, vocabulary, micro-batch, dtype: where logits are the most of it.
LOGITS = (4, 12, 768, 1024, 50257, 4, "bf16")
# Context, sequences a step: of the 10.7M-parameter model of cpu.py, and of the demo.
STEPS = {"train ours": (256, 16), "demo": (64, 16)}


def preparing(words: argparse.Namespace, record: dict[str, Any]) -> dict[str, Any]:
    """The speed of `prepare` per second of processor time, beside tiktoken's own.

    What much text takes more than little: starting processes is no part of a speed.
    """
    from prepare import prepare, tiktoken_alone, write

    runs, rates = [], [tiktoken_alone()]
    for size in (0.02, 0.06) if words.quick else (0.1, 0.5):  # GB
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "much.txt"
            write(path, round(size * 1e9))
            runs.append(prepare(path, Path(folder) / "out"))
        rates.append(tiktoken_alone())
    more = {key: runs[1][key] - runs[0][key] for key in ("tokens", "processor_seconds")}
    own, rate = statistics.median(rates), more["tokens"] / more["processor_seconds"]
    speeds = {"tokens_per_processor_second": rate, "tiktoken_tokens_per_processor_second": own}
    return speeds | {"share_of_tiktoken": rate / own, "runs": runs}


def loading(words: argparse.Namespace, record: dict[str, Any]) -> dict[str, Any]:
    """What share of a step the loader takes, at the speeds that this record holds."""
    speeds = {
        "train ours": record.get("training", {}).get("rows", {}).get("train ours", {}).get("median")
    }
    found = {}
    for name, (context, sequences) in STEPS.items():
        seconds = seconds_of_loading(context, sequences)
        row: dict[str, Any] = {"seconds_a_step": seconds, "tokens_a_step": context * sequences}
        if speeds.get(name):
            row["share_of_step"] = seconds * speeds[name] / (context * sequences)
        found[name] = row
    return found


def seconds_of_loading(context: int, sequences: int, steps: int = 300) -> float:
    """The median seconds of a step's batch from a shard of ten million tokens."""
    import numpy as np

    from buildgpt.core import load_core

    core = load_core()
    with tempfile.TemporaryDirectory() as folder:
        writer = core.data.ShardWriter(Path(folder), "train")
        writer.add(np.random.RandomState(0).randint(0, 65, 10_000_000))
        writer.close()
        stream = core.data.Stream(sorted(Path(folder).glob("*.bin")), 65)
        batches = core.data.Batches(stream, context, seed=0)
        samples = []
        for step in range(steps):
            began = time.perf_counter()
            batches(step * sequences, sequences)
            samples.append(time.perf_counter() - began)
    return statistics.median(samples)


def starting(words: argparse.Namespace, record: dict[str, Any]) -> dict[str, Any]:
    """Seconds from calling the program to the first step done: the first call, and later ones."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            recipe: {"first": first, "later": statistics.median(rest)}
            for recipe in RECIPES
            for first, *rest in [[start(recipe, Path(folder), i) for i in range(4)]]
        }


def start(recipe: str, folder: Path, number: int) -> float:
    """Seconds until the metrics of a run's first step are there."""
    runs = folder / recipe / str(number)
    settings = [f"data.path={folder}/shakespeare", "train.steps=1", "train.log_every=1"]
    settings += ["sample.at=[]", "train.max_seconds=0", "train.checkpoint_minutes=0"]
    began = time.monotonic()
    with subprocess.Popen(
        training(recipe, runs, settings), env=source(), stdout=subprocess.DEVNULL
    ) as process:
        metrics = runs / "bench" / "metrics.jsonl"
        while '"kind": "train"' not in (metrics.read_text() if metrics.exists() else ""):
            if process.poll() not in (None, 0):
                raise RuntimeError(f"{recipe} ended with exit status {process.returncode}")
            time.sleep(0.01)
        return time.monotonic() - began


def remembering(words: argparse.Namespace, record: dict[str, Any]) -> dict[str, Any]:
    """The memory of a step with the model's own loss, and with one from all logits at once."""
    import memory

    rows = {name: memory.run([*LOGITS], whole) for name, whole in (("own", 0), ("whole", 1))}
    names = ("layers", "heads", "width", "context", "vocabulary", "micro_batch", "dtype")
    sizes = {f"{name}_gb": size / 1e9 for name, size in rows.items()}
    return dict(zip(names, LOGITS)) | sizes | {"ratio": rows["whole"] / rows["own"]}


def learning(words: argparse.Namespace, record: dict[str, Any]) -> dict[str, Any]:
    """The validation loss of each recipe after its seconds, compiling included, by seeds."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "shakespeare"
        if words.text:
            wishes = ["prepare", str(words.text), "--out", str(data), "--tokenizer", "char"]
            subprocess.run(
                [*program(), *wishes], check=True, env=source(), stdout=subprocess.DEVNULL
            )
        found = {}
        for recipe, seconds in RECIPES.items():
            settings = [f"data.path={data}", f"train.max_seconds={words.seconds or seconds}"]
            runs = [learn(recipe, Path(folder), seed, settings) for seed in range(words.seeds)]
            found[recipe] = together(runs) | {
                "text": words.text.name if words.text else "the bundled plays"
            }
        return found


def learn(recipe: str, folder: Path, seed: int, settings: list[str]) -> dict[str, Any]:
    """A whole run's summary, the seconds of its whole command, and its curve."""
    from buildgpt.core import load_core

    runs = folder / "runs" / recipe / str(seed)
    wishes = [*settings, f"train.seed={seed}", "data.val_tokens=0", "sample.at=[]"]
    began = time.monotonic()
    output = subprocess.run(
        training(recipe, runs, wishes), check=True, env=source(), stdout=subprocess.PIPE, text=True
    )
    took = time.monotonic() - began
    keys, lines = ("step", "seconds", "loss"), load_core().runlog.read_metrics(runs / "bench")
    curve = [{key: line[key] for key in keys} for line in lines if line["kind"] == "train"]
    summary = json.loads(output.stdout.splitlines()[-1]) | {"run": recipe}
    summary |= {"seed": seed, "command_seconds": round(took, 1)}
    return summary | {"curve": curve[:: max(1, len(curve) // 100)]}


def together(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs that differ by seed as one: the first one, but with the mean loss, and all losses."""
    losses = [run["val_loss"] for run in runs]
    keys = ("seed", "step", "seconds", "command_seconds", "val_loss")
    seeds = [{key: run[key] for key in keys} for run in runs]
    return runs[0] | {"val_loss": statistics.mean(losses), "seeds": seeds}


def training(recipe: str, runs: Path, settings: list[str]) -> list[str]:
    """The command that trains a recipe into the folder `bench` of `runs`."""
    words = [word for setting in settings for word in ("--set", setting)]
    return [
        *(*program(), "train", recipe, "--name", "bench"),
        *("--runs", str(runs), *words, "--json"),
    ]


def program() -> list[str]:
    """How to call this checkout's command line."""
    return [sys.executable, "-m", "buildgpt"]


def source() -> dict[str, str]:
    """The environment in which it is found."""
    return os.environ | {"PYTHONPATH": str(HERE.parent / "src")}


PARTS: dict[str, Callable] = {
    "preparing": preparing,
    "loading": loading,
    "starting": starting,
    "memory": remembering,
    "learning": learning,
}


def lines(record: dict[str, Any]) -> list[str]:
    """These parts in words."""
    found = []
    for name in PARTS:
        if "error" in record.get(name, {}):
            found.append(f"\n{name} failed: {record[name]['error']}")
        elif name in record:
            found += [f"\n{name}", *WORDS[name](record[name])]
    return found


def preparing_words(row: dict[str, Any]) -> list[str]:
    """prepare beside tiktoken."""
    rate, share = row["tokens_per_processor_second"], row["share_of_tiktoken"]
    return [f"  {rate:,.0f} tokens a second of processor time, {share:.0%} of tiktoken's own"]


def loading_words(rows: dict[str, Any]) -> list[str]:
    """The loader's time."""
    shares = {n: f", {r['share_of_step']:.2%} of it" for n, r in rows.items() if len(r) > 2}
    return [
        f"  {n:20} {1e6 * r['seconds_a_step']:.0f} us a step{shares.get(n, '')}"
        for n, r in rows.items()
    ]


def starting_words(rows: dict[str, Any]) -> list[str]:
    """Until the first step."""
    return [
        f"  {n:20} {r['later']:.1f} s to the first step (the first time {r['first']:.1f} s)"
        for n, r in rows.items()
    ]


def memory_words(row: dict[str, Any]) -> list[str]:
    """The loss's memory."""
    return [
        f"  {row['own_gb']:.2f} GB a step, {row['whole_gb']:.2f} GB with the loss from all logits"
    ]


def learning_words(rows: dict[str, Any]) -> list[str]:
    """The losses."""
    found = []
    for name, row in rows.items():
        losses = ", ".join(f"{seed['val_loss']:.4f}" for seed in row["seeds"])
        found.append(f"  {name:24} validation loss {losses} after {row['seconds']:.1f} s")
    return found


WORDS: dict[str, Callable] = {
    "preparing": preparing_words,
    "loading": loading_words,
    "starting": starting_words,
    "memory": memory_words,
    "learning": learning_words,
}
