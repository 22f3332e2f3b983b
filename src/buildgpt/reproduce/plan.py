"""What a recipe needs, before a cent is spent: memory, micro-batch, time, bill, disk.

Everything follows from the recipe and gpus.toml by arithmetic; nothing is downloaded, no GPU is
needed. Only `measure` trains, some steps here.
"""

import difflib
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from buildgpt import api
from buildgpt.core import Core

from .arithmetic import flops_per_token, load_gpus
from .measure import measure, measured_words, within_limit
from .memory import (
    FP32,
    count,
    largest_micro_batch,
    memory,
    sequences_per_step,
    value_bytes,
    with_vocabulary,
)

LADDER_GB = (6, 8, 12, 16, 24, 40, 80, 141)
GB = 1e9
# Evaluation has the forward pass alone, a third of a training step's FLOPs.
EVALUATION_SHARE = 1 / 3
LAUNCH_SECONDS = 1e-3  # of one layer's kernels, forward and backward
# AdamW reads weight, gradient and two moments and writes three of them, 4 bytes each.
UPDATE_BYTES = 28
SMALL_MODEL = 50_000_000  # parameters; a smaller one leaves a GPU waiting for its next kernel


def plan(
    core: Core,
    name: str,
    settings: list[str],
    gpu: str = "",
    gpus: int = 1,
    prices: Path | None = None,
    measured: bool = False,
    program: str = "buildgpt",
) -> dict[str, Any]:
    """The plan of a recipe on one kind of GPU, or, without `gpu`, on all that gpus.toml knows.

    Holds the keys of `outline`, and those of `choose` at the top or, for all, in a list `choices`;
    `measured` adds what `measure` gives. Raises UsageError for a GPU that is not known, or a
    number of them that does not divide the sequences of a step.
    """
    recipe = with_vocabulary(core, core.config.load_recipe(api.find_recipe(core, name), settings))
    check_ranks(core, recipe, gpus)
    known = load_gpus(prices)
    assumed = known.pop("assumed")
    check_gpu(core, gpu, known)
    result = {"recipe": name} | outline(core, recipe, gpus, assumed["memory_share"])
    rows = [choose(core, recipe, k, assumed | known[k], gpus) for k in ([gpu] if gpu else known)]
    if gpu:
        result |= rows[0] | {"command": command(recipe, name, settings, rows[0], program)}
    else:
        result["choices"] = rows
    return result | ({"measured": measure(core, recipe, gpus)} if measured else {})


def check_gpu(core: Core, gpu: str, known: dict[str, Any]) -> None:
    """UsageError for a GPU that gpus.toml does not know; names the nearest and all."""
    if gpu and gpu not in known:
        nearest = difflib.get_close_matches(gpu, known, n=1, cutoff=0.0)[0]
        raise core.config.UsageError(
            f"--gpu {gpu} is not known; the nearest is '{nearest}', of: {', '.join(known)};"
            " describe your own in a file for --prices"
        )


def check_ranks(core: Core, recipe: Any, ranks: int) -> None:
    """UsageError unless so many ranks divide the sequences of a step; names the nearest that do."""
    core.config.require(ranks >= 1, "--gpus must be at least 1")
    sequences = sequences_per_step(core, recipe)
    if sequences % ranks == 0:
        return
    near = core.config.divisors_around(sequences, ranks)
    raise core.config.UsageError(
        f"{ranks} GPUs do not divide the {sequences:,} sequences of a step; the nearest that do:"
        f" {' and '.join(map(str, near))}"
    )


# What does not depend on the GPU.


def outline(core: Core, recipe: Any, ranks: int, share: float) -> dict[str, Any]:
    """Parameters, FLOPs, tokens, disk, and what fits into how much memory."""
    train, flops = recipe.train, flops_per_token(recipe.model, recipe.modern, recipe.train)
    tokens = core.config.tokens_before(train.steps, train)
    parameters = count(core, recipe)
    return {
        "parameters": parameters.true,
        "parameters_without_embeddings": parameters.without_embeddings,
        "flops_per_token": flops,
        "flops": flops * tokens,
        "tokens": tokens,
        "steps": train.steps,
        "tokens_per_step": train.tokens_per_step,
        "max_seconds": train.max_seconds,
        "gpus": ranks,
        "disk_gb": in_gb(disk(core, recipe)),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / GB, 1),
        "ladder": [ladder_row(core, recipe, ranks, card, share) for card in LADDER_GB],
    }


def disk(core: Core, recipe: Any) -> dict[str, int]:
    """Bytes of the shards, two a token, and of the checkpoints: weights and moments in fp32.

    A new checkpoint is written before the oldest is deleted. Of data that is here its true size.
    """
    train, folder = recipe.train, Path(recipe.data.path or "-")
    here = sum(path.stat().st_size for path in folder.glob("*.bin"))
    tokens = core.config.tokens_before(train.steps, train) + recipe.data.val_tokens
    parameters = count(core, recipe)
    one = FP32 * (parameters.held + parameters.moments)
    return {"data": here or 2 * tokens, "checkpoints": one * (train.keep_checkpoints + 1)}


def ladder_row(core: Core, recipe: Any, ranks: int, card: int, share: float) -> dict[str, Any]:
    """The largest micro-batch for cards of so many GB, 0 if none, and what it (or 1) takes."""
    micro_batch = largest_micro_batch(core, recipe, ranks, card * GB * share)
    need = sum(memory(recipe, micro_batch or 1, ranks, core=core).values())
    return {"card_gb": card, "micro_batch": micro_batch, "memory_gb": round(need / GB, 3)}


def in_gb(parts: dict[str, int]) -> dict[str, float]:
    """Bytes by part as GB, to the megabyte."""
    return {name: round(value / GB, 3) for name, value in parts.items()}


# What does: time and bill.


def choose(core: Core, recipe: Any, key: str, gpu: dict[str, Any], ranks: int) -> dict[str, Any]:
    """What the recipe comes to on so many GPUs of a kind.

    Holds: gpu, name, gpus, card_gb, usable_gb, fits, micro_batch, memory_gb and memory by part on
    each (of a micro-batch of 1 if nothing fits), advice; tokens_per_second of all, basis, hours,
    dollars, spot_dollars, all None if nothing fits, the last two also without a price; price.
    """
    micro_batch = fitting(core, recipe, gpu, ranks)
    parts = in_gb(memory(recipe, micro_batch or 1, ranks, core=core))
    row: dict[str, Any] = {"gpu": key, "name": gpu.get("name", key), "gpus": ranks}
    row |= {"card_gb": gpu["memory_gb"], "fits": micro_batch > 0, "micro_batch": micro_batch}
    row |= {"memory_gb": round(sum(parts.values()), 3), "memory": parts}
    row["advice"] = "" if micro_batch else smallest_change(core, recipe, gpu, ranks)
    unknown = dict.fromkeys(("tokens_per_second", "basis", "hours", "dollars", "spot_dollars"))
    row |= {"usable_gb": round(gpu["memory_gb"] * gpu["memory_share"], 3)}
    row |= {"price": gpu.get("price", {})}
    return row | (cost(core, recipe, gpu, ranks, micro_batch) if micro_batch else unknown)


def fitting(core: Core, recipe: Any, gpu: dict[str, Any], ranks: int) -> int:
    """The largest micro-batch that fits on each of these GPUs, 0 if none does."""
    if shards(recipe, ranks) and product_dtype(recipe, gpu) == "fp16":
        return 0  # the core's FSDP scales no losses
    return largest_micro_batch(core, recipe, ranks, gpu["memory_gb"] * GB * gpu["memory_share"])


def shards(recipe: Any, ranks: int) -> bool:
    """Whether each rank holds a part of the weights only."""
    return recipe.runtime.parallel == "fsdp" and ranks > 1


def product_dtype(recipe: Any, gpu: dict[str, Any]) -> str:
    """The dtype of matrix products on this GPU: the wished one, fp16 where it lacks bf16."""
    wish = recipe.runtime.dtype.replace("auto", "bf16")
    return wish if wish in gpu["peak_tflops"] else "fp16"


def cost(
    core: Core, recipe: Any, gpu: dict[str, Any], ranks: int, micro_batch: int
) -> dict[str, Any]:
    """Speed, time and bill, with where they come from."""
    speed, basis = throughput(core, recipe, gpu, ranks, micro_batch)
    hours, price = within_limit(recipe, work(core, recipe) / speed / 3600), gpu.get("price", {})
    dollars, spot = (
        round(hours * ranks * price[kind], 2) if kind in price else None
        for kind in ("on_demand", "spot")
    )
    found = {"tokens_per_second": round(speed), "basis": basis, "hours": round(hours, 4)}
    return found | {"dollars": dollars, "spot_dollars": spot}


def work(core: Core, recipe: Any) -> float:
    """Tokens to train on, and those of the validation losses at their share."""
    train = recipe.train
    evaluations = 1 + (train.steps // train.eval_every if train.eval_every else 0)
    scored = evaluations * recipe.data.val_tokens
    return core.config.tokens_before(train.steps, train) + EVALUATION_SHARE * scored


def throughput(
    core: Core, recipe: Any, gpu: dict[str, Any], ranks: int, micro_batch: int
) -> tuple[float, str]:
    """Tokens a second of all GPUs together, and in words where the figure comes from.

    Measured figures are of each GPU; they are multiplied by the number of GPUs.
    """
    for row in gpu.get("measured", []):
        if is_size(core, recipe.model, row.get("model", "")):
            by, date = row.get("by", "a program not named"), row.get("date", "some time")
            words = f"measured with {by} on each of {row.get('gpus', 1)}, {date}"
            words += f": {row.get('source', 'assumed')}"
            other = "one alone" if ranks == 1 else f"each of {ranks}"
            linear = "" if ranks == row.get("gpus", 1) else f"; {other} taken for as fast"
            return row["tokens_per_second"] * ranks, words + linear
    seconds = step_seconds(core, recipe, gpu, ranks, micro_batch)
    share = f"estimated from {gpu['utilisation']:.0%} of the peak"
    links = f", links between GPUs at {gpu['link_utilisation']:.0%}" if ranks > 1 else ""
    return recipe.train.tokens_per_step / seconds, share + links


def is_size(core: Core, model: Any, name: str) -> bool:
    """Whether a model has the shape of one of GPT-2's sizes, with its context."""
    shape = {key: getattr(model, key) for key in ("layers", "heads", "width")}
    return shape == core.config.SIZES.get(name) and model.context == 1024


def step_seconds(
    core: Core, recipe: Any, gpu: dict[str, Any], ranks: int, micro_batch: int
) -> float:
    """Estimated: products at a share of the peak, then the update, then the exchange of gradients.

    A small model's products wait for their kernels to be launched, some hundred a layer forward
    and backward, at some 10 us each.
    A ring sends 2 (R - 1) / R of the gradients' bytes over each link. FSDP sends (R - 1) / R of
    them, and as often as there are micro-steps the weights, for the forward and backward pass.
    """
    held, sharded = count(core, recipe).held, shards(recipe, ranks)
    peak = gpu["peak_tflops"][product_dtype(recipe, gpu)] * 1e12 * gpu["utilisation"]
    each = flops_per_token(recipe.model, recipe.modern, recipe.train)
    flops = each * recipe.train.tokens_per_step / ranks
    update = UPDATE_BYTES * held / (ranks if sharded else 1)
    micro_steps = sequences_per_step(core, recipe) // (micro_batch * ranks)
    gathered = 2 * value_bytes(core, recipe, "cuda") * micro_steps
    sent = (FP32 + gathered if sharded else 2 * FP32) * held * (ranks - 1) / ranks
    link = gpu["link_gb_s"] * GB * gpu["link_utilisation"]
    launching = LAUNCH_SECONDS * recipe.model.layers * micro_steps
    return max(flops / peak, launching) + update / (gpu["bandwidth_gb_s"] * GB) + sent / link


def smallest_change(core: Core, recipe: Any, gpu: dict[str, Any], ranks: int) -> str:
    """The first of a few changes, small ones first, that makes it fit, as words to type."""
    tables = tomllib.loads(core.config.to_toml(recipe))
    for change, ranks_then in changes(core, recipe, ranks):
        try:
            changed = core.config.build_recipe(tables, "", change)
        except core.config.UsageError:
            continue  # the shorter context, say, does not go into tokens_per_step
        if fitting(core, changed, gpu, ranks_then):
            more = [f"--gpus {ranks_then}"] if ranks_then != ranks else []
            return " ".join([*more, *(f"--set {setting}" for setting in change)])
    return ""


def changes(core: Core, recipe: Any, ranks: int) -> list[tuple[list[str], int]]:
    """Settings and a number of GPUs that need less: shards, fp32 shards, context, size."""
    sequences, model = sequences_per_step(core, recipe), recipe.model
    more = [r for r in (ranks, 2, 4, 8) if r >= max(ranks, 2) and sequences % r == 0]
    found = [(["runtime.parallel=fsdp"], r) for r in more]
    found += [(["runtime.parallel=fsdp", "runtime.dtype=fp32"], r) for r in more]
    found += [([f"model.context={model.context // d}"], ranks) for d in (2, 4, 8)]
    sizes = [(n, s) for n, s in core.config.SIZES.items() if s["width"] < model.width]
    return found + [([f"model.size={name}"], ranks) for name, _ in reversed(sizes)]


def command(recipe: Any, name: str, settings: list[str], row: dict[str, Any], program: str) -> str:
    """The exact words that train it so; if nothing fits, those that plan it with the advice."""
    if row["fits"] and row["micro_batch"] != recipe.train.micro_batch:
        settings = [s for s in settings if not s.startswith("train.micro_batch=")]
        settings = [*settings, f"train.micro_batch={row['micro_batch']}"]
    gpus = ["--gpus", str(row["gpus"])] if row["gpus"] > 1 else []
    words = [name, *gpus, *(word for setting in settings for word in ("--set", setting))]
    if row["fits"]:
        return f"{program} train {shlex.join(words)}"
    return f"{program} plan {shlex.join(words)} --gpu {row['gpu']} {row['advice']}".rstrip()


# In words.


def show(result: dict[str, Any], console: Console) -> None:
    """The plan for people, at 80 columns."""
    one = "gpu" in result
    many = "one GPU" if result["gpus"] == 1 else f"{result['gpus']} GPUs"
    places = f"{result['gpus']} x {result['name']}" if one else f"{many} of each kind"
    console.print(Text.assemble((result["recipe"], "bold"), f" on {places}\n"))
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(style="bold", no_wrap=True)
    for name, words in (answers(result) if one else []) + the_run(result):
        lines.add_row(name, Text(words))
    console.print(lines, "")
    if one:
        both = Table.grid(padding=(0, 8, 0, 0))
        both.add_row(memory_table(result), ladder_table(result))
        console.print(both, f"\n{result['command']}", soft_wrap=True, highlight=False, markup=False)
    else:
        console.print(choices_table(result), "")
        for sentence in legend(result):
            console.print(sentence, style="dim", highlight=False)


def answers(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Fits? How long? How much?"""
    need = size(result["memory_gb"])
    card = f"the {result['usable_gb']:.1f} GB usable of {result['card_gb']}"
    if not result["fits"]:
        advice = f"try {result['advice']}" if result["advice"] else "no small change would do"
        why = f"even a micro-batch of 1 takes {need}, more than {card}"
        if result["memory_gb"] <= result["usable_gb"]:
            why = "FSDP needs bf16 or fp32, and of these this card is quick in none"
        return [("fits?", f"no: {why}; {advice}")]
    fits = f"yes: {need} of {card}, at train.micro_batch = {result['micro_batch']}"
    time = f"{duration(result['hours'])} at {result['tokens_per_second']:,} tokens/s"
    if result["parameters"] < SMALL_MODEL:
        time += "; longer, as so small a model leaves a GPU idle: --measure"
    return [("fits?", fits), ("time", f"{time}\n{result['basis']}"), ("bill", bill(result))]


def bill(result: dict[str, Any]) -> str:
    """What it costs, at which price, of when and from where."""
    price = result["price"]
    kinds = [("on demand", "on_demand", "dollars"), ("on spot", "spot", "spot_dollars")]
    parts = [
        f"${result[total]:,.2f} {words} at ${price[kind]:.2f} a GPU-hour"
        for words, kind, total in kinds
        if kind in price
    ]
    if not parts:
        return "unknown: no price in gpus.toml; give one with --prices FILE"
    source = f"{price.get('source', 'assumed')}, looked up {price.get('date', 'some time')}"
    return "; ".join(parts) + f"\n{source}"


def the_run(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Disk, model and tokens, which are the same on all GPUs; and what was measured."""
    data, kept = (result["disk_gb"][part] for part in ("data", "checkpoints"))
    free = size(result["disk_free_gb"])
    little = "" if result["disk_free_gb"] > data + kept else ": too little"
    disk = f"{size(data)} of data, {size(kept)} of checkpoints ({free} free here{little})"
    model = f"{result['parameters']:,} parameters, {result['parameters_without_embeddings']:,}"
    model += f" without embeddings\n{result['flops_per_token'] / 1e6:,.0f} MFLOP a token"
    steps = f"{result['steps']:,} steps of {result['tokens_per_step']:,}"
    flops = f"{result['flops']:.2e}".replace("e+", "e")
    rows = [("disk", f"{size(data + kept)}: {disk}"), ("model", model)]
    rows += [("run", f"{result['tokens']:,} tokens in {steps}: {flops} FLOP")]
    if result["max_seconds"]:
        rows.append(("limit", f"train.max_seconds = {result['max_seconds']:g} may end it before"))
    if "measured" in result:
        rows.append(("measured", measured_words(result["measured"])))
    return rows


def size(gigabytes: float) -> str:
    """An amount of memory: '24.5 GB', '31 MB'."""
    return f"{gigabytes:,.1f} GB" if gigabytes >= 1 else f"{1000 * gigabytes:.0f} MB"


def duration(hours: float) -> str:
    """Hours as seconds, minutes, hours or days, whichever is short to read."""
    if hours < 0.05:
        return f"{hours * 3600:.0f} s"
    if hours < 1.5:
        return f"{hours * 60:.0f} minutes"
    return f"{hours:.1f} hours" if hours < 72 else f"{hours / 24:.1f} days"


def dollars(amount: float | None) -> str:
    """Whole dollars, with cents where it is little, "?" if unknown."""
    if amount is None:
        return "?"
    return f"${amount:,.0f}" if amount >= 10 else f"${amount:.2f}"


def memory_table(result: dict[str, Any]) -> Table:
    """Where the memory goes."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_footer=True)
    batch = result["micro_batch"] or 1
    table.add_column(f"each GPU, batch {batch}", footer="all")
    table.add_column("GB", justify="right", footer=f"{result['memory_gb']:.3f}")
    for name, value in result["memory"].items():
        if value:
            table.add_row(name, f"{value:.3f}")
    return table


def ladder_table(result: dict[str, Any]) -> Table:
    """What fits on smaller and larger cards."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("GPUs of", "largest micro-batch", "takes GB"):
        table.add_column(name, justify="right")
    for row in result["ladder"]:
        batch = str(row["micro_batch"] or "none")
        table.add_row(f"{row['card_gb']} GB", batch, f"{row['memory_gb']:.1f}")
    return table


def choices_table(result: dict[str, Any]) -> Table:
    """One line a GPU."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("GPU", "batch", "GB", "tokens/s", "hours", "bill", "on spot"):
        table.add_column(name, justify="left" if name == "GPU" else "right", no_wrap=True)
    for row in result["choices"]:
        batch, need = str(row["micro_batch"] or "none"), f"{row['memory_gb']:.1f}"
        if not row["fits"]:
            table.add_row(row["name"], batch, need, style="dim")
            continue
        star = "*" if row["basis"].startswith("measured") else " "
        speed, hours = f"{row['tokens_per_second']:,}{star}", f"{row['hours']:,.1f}"
        money = (dollars(row[key]) for key in ("dollars", "spot_dollars"))
        table.add_row(row["name"], batch, need, speed, hours, *money)
    return table


def legend(result: dict[str, Any]) -> list[str]:
    """What the table's columns are, and where its figures come from."""
    rows = [row for row in result["choices"] if row["fits"]]
    starred = any(row["basis"].startswith("measured") for row in rows)
    guesses = {row["basis"] for row in rows if row["basis"].startswith("estimated")}
    dates = sorted({row["price"]["date"] for row in rows if "date" in row["price"]})
    sentences = [
        "batch: the largest train.micro_batch that fits, with the same tokens per step."
        " GB: what it takes on each GPU."
    ]
    sentences += [f"No star: {guess}." for guess in sorted(guesses)]
    sentences += ["*: measured by others, not with this program; see --gpu."] * starred
    sentences += [f"Prices were looked up {' to '.join(sorted({dates[0], dates[-1]}))}."] * bool(
        dates
    )
    names = ", ".join(row["gpu"] for row in result["choices"])
    return [*sentences, f"One of them, with the sources: --gpu NAME, of {names}."]
