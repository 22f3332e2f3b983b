"""What a recipe needs, before a cent is spent: memory, micro-batch, time, bill, disk.

Everything follows from the recipe and gpus.toml by arithmetic; nothing is downloaded, no GPU is
needed. Shapes: B micro-batch, T context, n = B T tokens, C width, L layers, H heads, V vocabulary,
W the vocabulary widened to a multiple of 128, N parameters (with W), R ranks, and s bytes a value
in the dtype of products: 2 for bf16 and fp16, 4 for fp32.
"""

import dataclasses
import difflib
import inspect
import shlex
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from buildgpt import api
from buildgpt.core import Core, load_core
from buildgpt.datasets import text

from .arithmetic import flops_per_token, load_gpus

LADDER_GB = (6, 8, 12, 16, 24, 40, 80, 141)
GB = 1e9
FP32 = 4  # bytes of a weight, a gradient, each of AdamW's two moments, a value of the norms
# Evaluation has the forward pass alone, a third of a training step's FLOPs.
EVALUATION_SHARE = 1 / 3
# AdamW reads weight, gradient and two moments and writes three of them, 4 bytes each.
UPDATE_BYTES = 28


def plan(
    core: Core,
    name: str,
    settings: list[str],
    gpu: str = "",
    gpus: int = 1,
    prices: Path | None = None,
    program: str = "buildgpt",
) -> dict[str, Any]:
    """The plan of a recipe on one kind of GPU, or, without `gpu`, on all that gpus.toml knows.

    Holds the keys of `outline`, and those of `choose` at the top or, for all, a list `choices` of
    them. Raises UsageError for a GPU that is not known, or a number of them that does not divide
    the sequences of a step.
    """
    recipe = with_vocabulary(core, core.config.load_recipe(api.find_recipe(core, name), settings))
    check_ranks(core, recipe, gpus)
    known = load_gpus(prices)
    assumed = known.pop("assumed")
    result = outline(core, recipe, gpus, assumed) | {"recipe": name}
    if not gpu:
        rows = [choose(core, recipe, key, known[key], assumed, gpus) for key in known]
        return result | {"choices": rows}
    if gpu not in known:
        nearest = difflib.get_close_matches(gpu, known, n=1, cutoff=0.0)[0]
        raise core.config.UsageError(
            f"--gpu {gpu} is not known; the nearest is '{nearest}', of: {', '.join(known)};"
            " describe your own in a file for --prices"
        )
    row = choose(core, recipe, gpu, known[gpu], assumed, gpus)
    return result | row | {"commands": commands(recipe, name, settings, row, program)}


def with_vocabulary(core: Core, recipe: Any) -> Any:
    """The recipe with its true vocabulary: its own, its data's, its tokenizer's, Shakespeare's."""
    size = recipe.model.vocab_size or vocabulary(core, recipe.data)
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, vocab_size=size))


def vocabulary(core: Core, data: Any) -> int:
    """How many ids the data's tokenizer has, as far as this can be known without the data."""
    folder = Path(data.path)
    manifest = core.data.read_manifest(folder) if data.path else None
    if manifest:
        return core.tokenizer.build_tokenizer(manifest["tokenizer"]).vocab_size
    if data.tokenizer:
        return core.tokenizer.build_tokenizer({"kind": data.tokenizer}).vocab_size
    if folder.name == text.SHAKESPEARE.name.partition(".")[0]:
        texts = (document.content for document in text.shakespeare())
        return core.tokenizer.CharTokenizer("".join(texts)).vocab_size
    raise core.config.UsageError(
        f"the recipe names no tokenizer and there is no data in {data.path or 'data.path'!r} to"
        " tell how large the vocabulary is; add --set model.vocab_size=50257, say"
    )


def check_ranks(core: Core, recipe: Any, ranks: int) -> None:
    """UsageError unless so many ranks divide the sequences of a step; names the nearest that do."""
    core.config.require(ranks >= 1, "--gpus must be at least 1")
    sequences = sequences_per_step(recipe)
    if sequences % ranks == 0:
        return
    divisors = [d for d in range(1, sequences + 1) if sequences % d == 0]
    below = max(d for d in divisors if d < ranks)
    above = min((d for d in divisors if d > ranks), default=below)
    nearest = str(below) if above == below else f"{below} and {above}"
    raise core.config.UsageError(
        f"{ranks} GPUs do not divide the {sequences:,} sequences of a step; the nearest that do:"
        f" {nearest}"
    )


def sequences_per_step(recipe: Any) -> int:
    """All ranks together."""
    return recipe.train.tokens_per_step // recipe.model.context


# Memory.


@dataclass(frozen=True)
class Parameters:
    """How many parameters the model has, and how many it holds with its padded vocabulary."""

    true: int
    held: int  # N
    products: int  # of which autocast makes narrow copies
    block: int
    root: int  # outside of the blocks
    embedding: int
    widened: int  # W


@lru_cache
def count(core: Core, model: Any) -> Parameters:
    """Build the model without any memory for it, and count."""
    import torch

    with torch.device("meta"):
        gpt = core.model.GPT(model)
    held = sum(p.numel() for p in gpt.parameters())
    linear = [m for m in gpt.modules() if isinstance(m, torch.nn.Linear)]
    embedding = gpt.token_embedding.weight.numel()
    products = sum(p.numel() for m in linear for p in m.parameters()) + embedding
    block = sum(p.numel() for p in gpt.blocks[0].parameters())
    root, widened = held - block * model.layers, gpt.token_embedding.num_embeddings
    return Parameters(gpt.parameter_count(), held, products, block, root, embedding, widened)


@dataclass(frozen=True)
class Case:
    """A training step of which the memory is asked for."""

    core: Core
    recipe: Any
    parameters: Parameters
    size: int  # s: bytes a value in matrix products
    micro_batch: int
    ranks: int
    device: str

    @property
    def tokens(self) -> int:
        """n: of a micro-batch."""
        return self.micro_batch * self.recipe.model.context

    @property
    def shards(self) -> bool:
        """Whether each rank holds a part of the weights only."""
        return self.recipe.runtime.parallel == "fsdp" and self.ranks > 1

    @property
    def accumulates(self) -> bool:
        """Whether there are several micro-steps in a step."""
        return sequences_per_step(self.recipe) > self.micro_batch * self.ranks

    @property
    def compiles_logits(self) -> bool:
        """Whether torch.compile has the loss: by default on a GPU; with FSDP only the blocks."""
        wish = self.recipe.runtime.compile
        return (wish == "on" or (wish == "auto" and self.device == "cuda")) and not self.shards


def memory(
    recipe: Any, micro_batch: int, ranks: int, device: str = "cuda", core: Core | None = None
) -> dict[str, int]:
    """Bytes that torch allocates on each rank at the peak of a training step, by part.

    Derived from what the core's model does in eager mode, and for logits from what torch.compile
    makes of it where the recipe compiles. `device` is "cuda" or "cpu". Left out: the CUDA context,
    the work space of libraries, gaps between blocks of memory, and dropout's masks (it is 0 in
    every bundled recipe).
    """
    core = core or load_core()
    recipe = with_vocabulary(core, recipe)
    parameters, size = count(core, recipe.model), value_bytes(core, recipe, device)
    case = Case(core, recipe, parameters, size, micro_batch, ranks, device)
    held = FP32 * parameters.held // (ranks if case.shards else 1)
    parts = {"weights": held, "gradients": held, "optimizer": 2 * held, "casts": casts(case)}
    parts |= {"exchange": exchange(case), "activations": activations(case), "logits": logits(case)}
    spare = parts["activations"] + parts["logits"]  # free again when the validation loss is taken
    return parts | {"evaluation": max(0, evaluation(case) - spare)}


def value_bytes(core: Core, recipe: Any, device: str) -> int:
    """s: bytes a value in matrix products; "auto" is narrow on every GPU with tensor cores."""
    import torch

    dtype = recipe.runtime.dtype
    if dtype == "auto":
        dtype = "bf16" if device == "cuda" else core.runtime.best_dtype(torch.device(device))
    return FP32 if dtype == "fp32" else 2


def casts(case: Case) -> int:
    """The narrow copies of weights that autocast makes in a micro-step.

    The backward pass needs them, so all stay. With FSDP the blocks arrive narrow, and only the
    head, which is the embedding, is copied.
    """
    if case.size == FP32:
        return 0
    return case.size * (case.parameters.embedding if case.shards else case.parameters.products)


def exchange(case: Case) -> int:
    """What being one of several ranks adds.

    DDP sums gradients in buckets as large as all of them. Gradients are views into those, unless
    there were micro-steps before the last, which add up in tensors of their own: then both are
    there. FSDP gathers the root in fp32 and keeps it; it gathers blocks in the dtype of products,
    the next one ahead; it sums a block's gradients in fp32, one while the next is being filled.
    Micro-steps before the last add up whole gradients, not parts.
    """
    parameters = case.parameters
    if case.ranks == 1:
        return 0
    if not case.shards:
        return FP32 * parameters.held if case.accumulates else 0
    gathered = FP32 * parameters.root + 2 * case.size * parameters.block
    summed = 2 * FP32 * parameters.block
    whole = parameters.held if case.accumulates else parameters.root
    return gathered + summed + FP32 * whole


def activations(case: Case) -> int:
    """What the forward pass keeps for the backward pass, logits apart.

    A token in a block keeps in fp32 the residual stream before each of the two norms (8 C bytes),
    and a mean and a deviation for each (16). In the dtype of products it keeps what both norms put
    out (2 C values), queries, keys and values (3 C), what attention puts out (C), and the MLP's
    inner layer before and after the GELU (4 C each): 14 s C bytes. What is only added to the
    stream is not kept. Attention: the fused kernel keeps one fp32 number a head; written out, as
    on a CPU for short contexts, its weights, H T values.

    Besides: the last norm's input, two numbers and output, ids and targets (8 bytes each), and
    the positions (8).
    """
    model, size = case.recipe.model, case.size
    by_hand = case.device == "cpu" and 1 < model.context <= case.core.model.SHORT
    attention = size * model.heads * model.context if by_hand else FP32 * model.heads
    block = 8 * model.width + 16 + 14 * size * model.width + attention
    ends = 4 * model.width + 8 + size * model.width + 16
    return case.tokens * (model.layers * block + ends) + 8 * model.context


def logits(case: Case) -> int:
    """Logits, loss and their gradients at the worst moment, which is early in the backward pass.

    Eager: the loss is taken in fp32. There are the log-probabilities, kept from the forward pass,
    their gradient and the logits' own: 12 V bytes a token. Compiled, one kernel goes from the
    logits, kept, to their gradients, both of s W bytes.
    """
    if case.compiles_logits:
        return case.tokens * 2 * case.size * case.parameters.widened
    return case.tokens * 3 * FP32 * case.recipe.model.vocab_size


def evaluation(case: Case) -> int:
    """The validation loss, between steps: nothing is kept, but many windows go at once.

    There are their logits, these in fp32 if they were narrow, and their log-probabilities. With
    FSDP every rank puts the whole model together as well.
    """
    parameters, model = case.parameters, case.recipe.model
    batch = inspect.signature(case.core.evaluate.evaluate).parameters["batch"].default
    copies = 2 if case.size < FP32 else 1
    value = case.size * parameters.widened + copies * FP32 * model.vocab_size
    whole = FP32 * parameters.held + case.size * parameters.products if case.shards else 0
    return batch * model.context * value + whole


def largest_micro_batch(
    core: Core, recipe: Any, ranks: int, capacity: float
) -> tuple[int, dict[str, int]]:
    """The largest micro-batch within so many bytes that leaves tokens per step as they are.

    It divides a rank's sequences of a step. (0, the memory of one sequence) if nothing fits.
    """
    mine = sequences_per_step(recipe) // ranks
    for size in range(mine, 0, -1):
        if mine % size == 0:
            parts = memory(recipe, size, ranks, core=core)
            if sum(parts.values()) <= capacity:
                return size, parts
    return 0, memory(recipe, 1, ranks, core=core)


# Time and bill.


def choose(
    core: Core, recipe: Any, key: str, gpu: dict[str, Any], assumed: dict[str, float], ranks: int
) -> dict[str, Any]:
    """What the recipe comes to on so many GPUs of a kind.

    Holds: gpu, name, gpus, card_gb, fits, micro_batch, memory_gb and parts on each, tokens_per_second
    of all, basis, hours, dollars and spot_dollars (None where there is no price), price, advice.
    """
    capacity = gpu["memory_gb"] * GB * assumed["memory_share"]
    micro_batch, parts = largest_micro_batch(core, recipe, ranks, capacity)
    speed, basis = throughput(core, recipe, gpu, assumed, ranks, max(micro_batch, 1))
    hours = work(recipe) / speed / 3600
    price = gpu.get("price", {})
    dollars, spot = (
        hours * ranks * price[kind] if kind in price else None for kind in ("on_demand", "spot")
    )
    advice = "" if micro_batch else smallest_change(core, recipe, ranks, capacity)
    return {
        "gpu": key,
        "name": gpu["name"],
        "gpus": ranks,
        "card_gb": gpu["memory_gb"],
        "fits": micro_batch > 0,
        "micro_batch": micro_batch,
        "memory_gb": round(sum(parts.values()) / GB, 2),
        "memory": in_gb(parts),
        "tokens_per_second": round(speed),
        "basis": basis,
        "hours": round(hours, 3),
        "dollars": dollars if dollars is None else round(dollars, 2),
        "spot_dollars": spot if spot is None else round(spot, 2),
        "price": price,
        "advice": advice,
    }


def work(recipe: Any) -> float:
    """Tokens to train on, and those of the validation losses at their share."""
    train = recipe.train
    evaluations = 1 + (train.steps // train.eval_every if train.eval_every else 0)
    scored = evaluations * recipe.data.val_tokens
    return train.steps * train.tokens_per_step + EVALUATION_SHARE * scored


def throughput(
    core: Core,
    recipe: Any,
    gpu: dict[str, Any],
    assumed: dict[str, float],
    ranks: int,
    micro_batch: int,
) -> tuple[float, str]:
    """Tokens a second of all GPUs together, and in words where the figure comes from.

    Measured figures are of each GPU among eight; they are multiplied by the number of GPUs.
    """
    for row in gpu.get("measured", []):
        if is_size(core, recipe.model, row["model"]):
            each = row["tokens_per_second"]
            return each * ranks, f"measured: {row['source']}, {row['date']}"
    seconds = step_seconds(core, recipe, gpu, assumed, ranks, micro_batch)
    share = f"estimated: {assumed['utilisation']:.0%} of the peak"
    links = f", links at {assumed['link_utilisation']:.0%}" if ranks > 1 else ""
    return recipe.train.tokens_per_step / seconds, share + links


def is_size(core: Core, model: Any, name: str) -> bool:
    """Whether a model has the shape of one of GPT-2's sizes, with its context."""
    shape = {key: getattr(model, key) for key in ("layers", "heads", "width")}
    return shape == core.config.SIZES.get(name) and model.context == 1024


def step_seconds(
    core: Core,
    recipe: Any,
    gpu: dict[str, Any],
    assumed: dict[str, float],
    ranks: int,
    micro_batch: int,
) -> float:
    """Estimated: products at a share of the peak, then the update, then the exchange of gradients.

    A ring sends 2 (R - 1) / R of the gradients' bytes over each link. FSDP sends (R - 1) / R of
    them, and as often as there are micro-steps the weights, for the forward and backward pass.
    """
    parameters, peaks = count(core, recipe.model), gpu["peak_tflops"]
    wish = recipe.runtime.dtype
    dtype = "bf16" if wish in ("auto", "bf16") and "bf16" in peaks else "fp16"
    peak = peaks["fp32" if wish == "fp32" else dtype] * 1e12
    flops = flops_per_token(recipe.model) * recipe.train.tokens_per_step
    products = flops / ranks / (peak * assumed["utilisation"])
    sharded = recipe.runtime.parallel == "fsdp" and ranks > 1
    update = UPDATE_BYTES * parameters.held / (ranks if sharded else 1)
    sent = 2 * FP32 * parameters.held
    if sharded:
        micro_steps = sequences_per_step(recipe) // (micro_batch * ranks)
        sent = (FP32 + 2 * value_bytes(core, recipe, "cuda") * micro_steps) * parameters.held
    link = gpu["link_gb_s"] * assumed["link_utilisation"] * GB
    exchanged = sent * (ranks - 1) / ranks / link
    return products + update / (gpu["bandwidth_gb_s"] * GB) + exchanged


def smallest_change(core: Core, recipe: Any, ranks: int, capacity: float) -> str:
    """The first of a few changes, small ones first, with which a sequence fits; in words to type."""
    for change, ranks_then in changes(core, recipe, ranks):
        try:
            changed = core.config.build_recipe(dataclasses.asdict(recipe), "", change)
        except core.config.UsageError:
            continue  # the shorter context, say, does not go into tokens_per_step
        if largest_micro_batch(core, changed, ranks_then, capacity)[0]:
            more = [f"--gpus {ranks_then}"] if ranks_then != ranks else []
            return " ".join([*more, *(f"--set {setting}" for setting in change)])
    return ""


def changes(core: Core, recipe: Any, ranks: int) -> list[tuple[list[str], int]]:
    """Settings and a number of GPUs that need less memory: shards, then context, then size."""
    sequences, model = sequences_per_step(recipe), recipe.model
    more = [r for r in (2, 4, 8) if r >= ranks and sequences % r == 0]
    found = [(["runtime.parallel=fsdp"], r) for r in more]
    found += [([f"model.context={model.context // d}"], ranks) for d in (2, 4, 8)]
    sizes = [(n, s) for n, s in core.config.SIZES.items() if s["width"] < model.width]
    return found + [([f"model.size={name}"], ranks) for name, _ in reversed(sizes)]


# All together.


def outline(core: Core, recipe: Any, ranks: int, assumed: dict[str, float]) -> dict[str, Any]:
    """What does not depend on the GPU: parameters, FLOPs, tokens, disk, and what fits where."""
    train, flops = recipe.train, flops_per_token(recipe.model)
    tokens = train.steps * train.tokens_per_step
    return {
        "parameters": count(core, recipe.model).true,
        "flops_per_token": flops,
        "flops": flops * tokens,
        "tokens": tokens,
        "steps": train.steps,
        "tokens_per_step": train.tokens_per_step,
        "gpus": ranks,
        "disk_gb": in_gb(disk(core, recipe)),
        "ladder": ladder(core, recipe, ranks, assumed["memory_share"]),
    }


def disk(core: Core, recipe: Any) -> dict[str, int]:
    """Bytes of the shards, two a token, and of the checkpoints: weights and two moments in fp32.

    A new checkpoint is written before the oldest is deleted. Of data that is here its true size.
    """
    train, folder = recipe.train, Path(recipe.data.path or "-")
    here = sum(path.stat().st_size for path in folder.glob("*.bin"))
    tokens = train.steps * train.tokens_per_step + recipe.data.val_tokens
    one = 3 * FP32 * count(core, recipe.model).held
    return {"data": here or 2 * tokens, "checkpoints": one * (train.keep_checkpoints + 1)}


def ladder(core: Core, recipe: Any, ranks: int, share: float) -> list[dict[str, Any]]:
    """For each usual amount of memory the largest micro-batch, 0 if nothing fits."""
    rows = []
    for card in LADDER_GB:
        micro_batch, parts = largest_micro_batch(core, recipe, ranks, card * GB * share)
        need = round(sum(parts.values()) / GB, 2)
        rows.append({"card_gb": card, "micro_batch": micro_batch, "memory_gb": need})
    return rows


def in_gb(parts: dict[str, int]) -> dict[str, float]:
    """Bytes by part as GB, to the megabyte."""
    return {name: round(value / GB, 3) for name, value in parts.items()}


def commands(
    recipe: Any, name: str, settings: list[str], row: dict[str, Any], program: str
) -> list[str]:
    """The exact words that train it so."""
    settings = list(settings)
    if row["fits"] and row["micro_batch"] != recipe.train.micro_batch:
        settings = [s for s in settings if not s.startswith("train.micro_batch=")]
        settings.append(f"train.micro_batch={row['micro_batch']}")
    gpus = ["--gpus", str(row["gpus"])] if row["gpus"] > 1 else []
    words = [name, *gpus, *(word for setting in settings for word in ("--set", setting))]
    return [f"{program} train {shlex.join(words)}"]
