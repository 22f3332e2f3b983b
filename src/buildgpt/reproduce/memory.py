"""The memory of a training step, derived from what the core's model does.

Shapes: B micro-batch, T context, n = B T tokens, C width, L layers, H heads, V vocabulary, W the
vocabulary widened to a multiple of 128, N parameters (with W), R ranks, and s bytes a value in the
dtype of products: 2 for bf16 and fp16, 4 for fp32.
"""

import dataclasses
from collections.abc import Iterable
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


def sequences_per_step(core: Core, recipe: Any) -> int:
    """Of all ranks together, in the first step, the smallest one."""
    return core.config.tokens_of(0, recipe.train) // recipe.model.context


@dataclass(frozen=True)
class Parameters:
    """How many parameters the model has, and how many it holds with its padded vocabulary."""

    true: int
    without_embeddings: int
    held: int  # N
    products: int  # of which autocast makes narrow copies
    moments: int  # numbers that the optimizer keeps
    largest: int  # in the largest group of matrices that Muon updates at once
    block: int
    root: int  # outside of the blocks
    embedding: int
    widened: int  # W


def count(core: Core, recipe: Any) -> Parameters:
    """Build the model without any memory for it, once, and count."""
    return counted(core, recipe.model, recipe.modern, recipe.train)


@lru_cache
def counted(core: Core, model: Any, switches: Any, train: Any) -> Parameters:
    """The same by what it depends on."""
    import torch

    with torch.device("meta"):
        gpt = core.modern.build(model, switches)
    held = size_of(gpt.parameters())
    embedding, linear = gpt.token_embedding.weight, (torch.nn.Linear,)
    products = sum(size_of(m.parameters()) for m in gpt.modules() if isinstance(m, linear))
    products += embedding.numel() if gpt.head_weight() is embedding else 0
    groups = core.optim.muon_groups(gpt, train) if train.optimizer == "muon" else []
    sizes = [size_of(group["params"]) for group in groups]
    rows = sum(len(p) for group in groups for p in group["params"]) * train.normuon
    moments = 2 * held - sum(sizes) + rows
    block = size_of(gpt.blocks[0].parameters())
    shape = (block, held - block * model.layers, embedding.numel(), len(embedding))
    found = (gpt.parameter_count(), core.train.without_embeddings(gpt), held, products)
    return Parameters(*found, moments, max(sizes, default=0), *shape)


def size_of(tensors: Iterable[Any]) -> int:
    """How many numbers they hold together."""
    return sum(tensor.numel() for tensor in tensors)


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
        return self.recipe.train.tokens_per_step > self.tokens * self.ranks

    @property
    def modern(self) -> Any:
        """The switches of a modern model; None for a GPT-2."""
        return self.recipe.modern if self.recipe.model.architecture == "modern" else None

    @property
    def masks(self) -> bool:
        """Whether attention adds a mask to its scores."""
        return bool(self.modern) and (self.modern.document_mask or self.modern.windows)

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
    parameters, size = count(core, recipe), value_bytes(core, recipe, device)
    case = Case(core, recipe, parameters, size, micro_batch, ranks, device)
    held, moments = (
        FP32 * numbers // (ranks if case.shards else 1)
        for numbers in (parameters.held, parameters.moments)
    )
    parts = {"weights": held, "gradients": held, "optimizer": moments, "casts": casts(case)}
    kept = modern_activations(case) if case.modern else activations(case)
    parts |= {"exchange": exchange(case), "activations": kept, "logits": logits(case)}
    # Free again when the weights are updated; and when the validation loss is taken, gradients as
    # well, but the buckets of DDP stay.
    spare = parts["activations"] + parts["logits"] + parts["casts"]
    parts["update"] = max(0, update(case) - spare)
    spare += parts["exchange"] - parts["casts"]
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
    block = 2 * stream * model.width + 16 + 14 * size * model.width + scores(case)
    ends = stream * model.width + 8 + size * model.width + 16
    blocks = model.layers * block
    if case.recipe.runtime.checkpoint_activations:
        blocks = model.layers * stream * model.width + block
    return case.tokens * (blocks + ends) + 8 * model.context


def scores(case: Case) -> int:
    """Bytes a token that a layer keeps between queries, keys and values and what they give."""
    model, size = case.recipe.model, case.size
    if case.device == "cpu" and case.masks:
        return model.heads * model.context * (FP32 + (size if size < FP32 else 0))
    if case.device == "cpu" and 1 < model.context <= case.core.model.SHORT:
        return size * (3 * model.heads * model.context // 4 + model.width)
    return FP32 * model.heads


def modern_activations(case: Case) -> int:
    """The same for a modern model, whose residual stream is in fp32.

    A token in a block keeps the stream where it is scaled, and before each of the two norms (4 C
    bytes each, and one fp32 number a norm, or a LayerNorm's two); queries and keys before their
    norms, in fp32 (in fp32 the values lie beside them), and a number a head for each; and 14 s C
    bytes as GPT-2 does.

    Besides: the stream before the norm of the embeddings, the output of the lower half, which skips
    to the upper one without a block between, embeddings of values, and the rotation's angles, the
    same for all sequences. Blocks that forget keep these, their input, and the masks; and one has
    all of its own back, beside the gradients of its scores.
    """
    model, size, on = case.recipe.model, case.size, case.modern
    stream, pairs = FP32 * model.width, 0
    norm = stream + (4 if on.rms_norm else 8)
    if on.qk_norm:
        pairs = (2 if size < FP32 else 3) * stream + 8 * model.heads
    block = on.residual_scalars * stream + 2 * norm + pairs + 14 * size * model.width + scores(case)
    ends = norm + size * model.width + 16 + 8 * on.bigrams + on.rms_norm * norm
    ends += stream * (on.unet_skips and model.layers % 2 == 0)
    ends += stream * on.value_embeddings * min(case.core.modern.VALUE_LAYERS, model.layers // 2)
    places = 4 * model.context * model.width // model.heads if on.rotary else 8 * model.context
    blocks = model.layers * block
    if case.recipe.runtime.checkpoint_activations:
        blocks = model.layers * stream + block + scores(case)
        masks = on.windows + 1 if case.masks else 0
        places += (
            masks * FP32 * model.context * (case.tokens if on.document_mask else model.context)
        )
    return case.tokens * (blocks + ends) + places


def logits(case: Case) -> int:
    """Logits, loss and their gradients at the worst moment.

    Few: that is early in the backward pass. Eager: the loss is taken in fp32. There are the
    log-probabilities, kept from the forward pass, their gradient and the logits' own: 12 V bytes a
    token; a cap keeps its output besides, 4 V more. Compiled, one kernel goes from the logits,
    kept, to their gradients, both of s W bytes.

    Many: they are taken in parts, at the end of the forward pass. There are a part's logits in
    fp32 and their exponentials, for the slope of a cap as much again, and all gradients of what the
    head reads and of its weights.
    """
    parameters, at_once = case.parameters, case.core.model.LOGITS_AT_ONCE
    capped = bool(case.modern) and case.modern.softcap
    if case.tokens * parameters.widened > at_once:
        gradients = case.tokens * case.size * case.recipe.model.width + FP32 * parameters.embedding
        copies = 2 + capped
        return copies * FP32 * (at_once // parameters.widened) * parameters.widened + gradients
    if case.compiles_logits:
        return case.tokens * 2 * case.size * parameters.widened
    return case.tokens * (3 + capped) * FP32 * case.recipe.model.vocab_size


def update(case: Case) -> int:
    """What Muon needs for the matrices of one shape, the largest group of them.

    NorMuon has their directions, these made even, and the same in the matrix's size again. AdamW
    goes through the weights in place.
    """
    return 3 * FP32 * case.parameters.largest


def evaluation(case: Case) -> int:
    """The validation loss, between steps: nothing is kept, but several windows go at once.

    There are their logits, these in fp32 if they were narrow, and their log-probabilities, or two
    steps of a cap. With FSDP every rank puts the whole model together as well.
    """
    parameters, model = case.parameters, case.recipe.model
    batch = max(1, case.core.evaluate.TOKENS_AT_ONCE // model.context)
    copies = (2 if case.size < FP32 else 1) + (bool(case.modern) and case.modern.softcap)
    value = case.size * parameters.widened + copies * FP32 * model.vocab_size
    whole = FP32 * parameters.held + case.size * parameters.products if case.shards else 0
    return batch * model.context * value + whole


def largest_micro_batch(core: Core, recipe: Any, ranks: int, capacity: float) -> int:
    """The largest micro-batch within so many bytes that leaves tokens per step as they are.

    It divides a GPU's sequences of a step. 0 if not even one sequence fits.
    """
    mine = sequences_per_step(core, recipe) // ranks
    for size in range(mine, 0, -1):
        if mine % size == 0 and sum(memory(recipe, size, ranks, core=core).values()) <= capacity:
            return size
    return 0
