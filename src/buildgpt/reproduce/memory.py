"""The memory of a training step, derived from what the core's model does.

Shapes: B micro-batch, T context, n = B T tokens, C width, L layers, H heads, V vocabulary, W the
vocabulary widened to a multiple of 128, N parameters (with W), R ranks, and s bytes a value in the
dtype of products: 2 for bf16 and fp16, 4 for fp32.
"""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from buildgpt.core import Core, load_core
from buildgpt.datasets import text

FP32 = 4  # bytes of a weight, a gradient, each of AdamW's two moments, a value of the norms


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


def sequences_per_step(recipe: Any) -> int:
    """Of all ranks together."""
    return recipe.train.tokens_per_step // recipe.model.context


@dataclass(frozen=True)
class Parameters:
    """How many parameters the model has, and how many it holds with its padded vocabulary."""

    true: int
    without_embeddings: int
    held: int  # N
    products: int  # of which autocast makes narrow copies
    block: int
    root: int  # outside of the blocks
    embedding: int
    widened: int  # W


@lru_cache
def count(core: Core, model: Any, switches: Any = None) -> Parameters:
    """Build the model without any memory for it, and count."""
    import torch

    with torch.device("meta"):
        gpt = core.modern.build(model, switches)
    held = sum(p.numel() for p in gpt.parameters())
    linear = [m for m in gpt.modules() if isinstance(m, torch.nn.Linear)]
    embedding = gpt.token_embedding.weight.numel()
    tied = gpt.head_weight() is gpt.token_embedding.weight
    products = sum(p.numel() for m in linear for p in m.parameters()) + tied * embedding
    block = sum(p.numel() for p in gpt.blocks[0].parameters())
    root, widened = held - block * model.layers, gpt.token_embedding.num_embeddings
    two = (gpt.parameter_count(), core.train.without_embeddings(gpt))
    return Parameters(*two, held, products, block, root, embedding, widened)


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
    parameters, size = count(core, recipe.model, recipe.modern), value_bytes(core, recipe, device)
    case = Case(core, recipe, parameters, size, micro_batch, ranks, device)
    held = FP32 * parameters.held // (ranks if case.shards else 1)
    parts = {"weights": held, "gradients": held, "optimizer": 2 * held, "casts": casts(case)}
    parts |= {"exchange": exchange(case), "activations": activations(case), "logits": logits(case)}
    # Free again when the validation loss is taken; but the buckets of DDP stay.
    spare = parts["activations"] + parts["logits"] + parts["exchange"]
    spare += held if ranks == 1 or case.shards else 0
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

    A token in a block keeps the residual stream before each of the two norms (2 r C bytes; r is 2
    for bf16 on a CPU, and 4 elsewhere: there a norm keeps it as it reads it, in fp32), and a mean
    and a deviation for each (16). In the dtype of products it keeps what both norms put
    out (2 C values), queries, keys and values (3 C), what attention puts out (C), and the MLP's
    inner layer before and after the GELU (4 C each): 14 s C bytes. What is only added to the
    stream is not kept. Attention: the fused kernel keeps one fp32 number a head; written out in
    halves, as on a CPU for short contexts, three quarters of its weights, H T values, and the
    earlier half's keys and values once more.

    Where blocks forget their activations, each keeps its input, and one has all of them back. (The
    logits are gone by then, which is not counted off, as that block's gradients come in.)

    Besides: the last norm's input, two numbers and output, ids and targets (8 bytes each), and
    the positions (8).
    """
    model, size = case.recipe.model, case.size
    stream = size if case.device == "cpu" else FP32
    by_hand = case.device == "cpu" and 1 < model.context <= case.core.model.SHORT
    in_halves = size * (3 * model.heads * model.context // 4 + model.width)
    attention = in_halves if by_hand else FP32 * model.heads
    block = 2 * stream * model.width + 16 + 14 * size * model.width + attention
    ends = stream * model.width + 8 + size * model.width + 16
    blocks = model.layers * block
    if case.recipe.runtime.checkpoint_activations:
        blocks = model.layers * stream * model.width + block
    return case.tokens * (blocks + ends) + 8 * model.context


def logits(case: Case) -> int:
    """Logits, loss and their gradients at the worst moment.

    Few: that is early in the backward pass. Eager: the loss is taken in fp32. There are the
    log-probabilities, kept from the forward pass, their gradient and the logits' own: 12 V bytes a
    token. Compiled, one kernel goes from the logits, kept, to their gradients, both of s W bytes.

    Many: they are taken in parts, at the end of the forward pass. There are a part's logits in
    fp32 and their exponentials, as much again where they come from narrow ones, and all gradients
    of what the head reads and of its weights.
    """
    parameters, at_once = case.parameters, case.core.model.LOGITS_AT_ONCE
    if case.tokens * parameters.widened > at_once:
        gradients = case.tokens * case.size * case.recipe.model.width + FP32 * parameters.embedding
        copies = 2 if case.size == FP32 else 3
        return copies * FP32 * (at_once // parameters.widened) * parameters.widened + gradients
    if case.compiles_logits:
        return case.tokens * 2 * case.size * parameters.widened
    return case.tokens * 3 * FP32 * case.recipe.model.vocab_size


def evaluation(case: Case) -> int:
    """The validation loss, between steps: nothing is kept, but several windows go at once.

    There are their logits, these in fp32 if they were narrow, and their log-probabilities. With
    FSDP every rank puts the whole model together as well.
    """
    parameters, model = case.parameters, case.recipe.model
    batch = max(1, case.core.evaluate.TOKENS_AT_ONCE // model.context)
    copies = 2 if case.size < FP32 else 1
    value = case.size * parameters.widened + copies * FP32 * model.vocab_size
    whole = FP32 * parameters.held + case.size * parameters.products if case.shards else 0
    return batch * model.context * value + whole


def largest_micro_batch(core: Core, recipe: Any, ranks: int, capacity: float) -> int:
    """The largest micro-batch within so many bytes that leaves tokens per step as they are.

    It divides a GPU's sequences of a step. 0 if not even one sequence fits.
    """
    mine = sequences_per_step(recipe) // ranks
    for size in range(mine, 0, -1):
        if mine % size == 0 and sum(memory(recipe, size, ranks, core=core).values()) <= capacity:
            return size
    return 0
