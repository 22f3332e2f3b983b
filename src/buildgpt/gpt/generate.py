"""Next token, stream of tokens, text: five small functions, each calling the one before.

Shapes: N samples side by side, T time, V vocabulary.
"""

import codecs
import copy
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .config import UserError, require
from .model import GPT, Cache
from .modern import Modern
from .tokenizer import Tokenizer


@dataclass(frozen=True)
class Sampling:
    """How to choose the next token. temperature 0 is greedy; top_k 0 and top_p 1 leave all."""

    max_tokens: int = 200
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    samples: int = 1

    def __post_init__(self) -> None:
        require(self.max_tokens >= 0, "max-tokens must not be negative")
        require(math.isfinite(self.temperature), f"temperature = {self.temperature} must be finite")
        require(
            self.temperature >= 0,
            f"temperature = {self.temperature} must not be negative; 0 always takes the likeliest",
        )
        require(0 <= self.seed < 2**63, "seed must be at least 0 and below 2**63")
        require(self.top_k >= 0, f"top-k = {self.top_k} must not be negative; 0 leaves all tokens")
        require(0 < self.top_p <= 1, f"top-p = {self.top_p} must be above 0 and at most 1")
        require(1 <= self.samples <= 1_000_000, "samples must be at least 1 and at most 1,000,000")


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Logits (N, V) -> probabilities (N, V) after temperature, top-k and top-p."""
    if sampling.temperature == 0:
        return torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.size(-1)).float()
    # Less than 1e-30 is as good as greedy already, and fp32 would overflow or divide by 0.
    logits = logits / max(sampling.temperature, 1e-30)
    if 0 < sampling.top_k < logits.size(-1):
        kth = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -math.inf)
    chances = logits.softmax(dim=-1)
    return nucleus(chances, sampling.top_p) if sampling.top_p < 1 else chances


def nucleus(chances: Tensor, top_p: float) -> Tensor:
    """Keep the fewest likeliest tokens that make up top_p together (Holtzman et al. 2020)."""
    ordered, order = chances.sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(dim=-1) - ordered  # what the likelier ones already make up
    kept = torch.zeros_like(chances).scatter(-1, order, ordered * (before < top_p))
    return kept / kept.sum(dim=-1, keepdim=True)


def pick(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """Logits (N, V) -> one id for each sample, (N,), drawn on the CPU: the same on any device."""
    if sampling.temperature == 0:
        best = logits.max(dim=-1)
        check_numbers(best.values)
        return best.indices.cpu()
    chances = probabilities(logits.float().cpu(), sampling)
    check_numbers(chances[:, 0])  # a softmax spreads a NaN over its whole row
    # The first id up to which the chances make up more than a number drawn below their sum. This
    # draws one number a sample, where torch.multinomial draws one for every id (docs/log.md).
    sums = chances.double().cumsum(dim=-1)
    drawn = torch.rand(len(sums), 1, generator=generator) * sums[:, -1:]
    return torch.searchsorted(sums, drawn, right=True)[:, 0]


def check_numbers(values: Tensor) -> None:
    """UserError if one of them is none."""
    if values.isnan().any():
        raise UserError("the model gives no numbers but NaN: its weights are broken")


FEW_ROWS = 8  # up to so many, a product takes as long as reading its weights


class PackedLinear(nn.Module):
    """A linear layer for the CPU: its weights are laid out as the kernels there read them.

    oneDNN's operator, which torch.compile takes, serves any number of rows. For few rows of a
    16-bit model there is FBGEMM's, which reads weights in fp16 as fast as the memory gives them:
    twice as fast (docs/log.md). Neither is public, so `for_decoding` looks for the first and
    `add_few` for the second.
    """

    few: Any = None

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        # fp32, shared, and hidden from whoever asks a module for its parameters.
        self.source = (weight.detach(), None if bias is None else bias.detach())
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype), 1)

    def add_few(self) -> None:
        """Add the form for few rows, once, unless products are to be in fp32."""
        here = torch.backends.quantized.engine in ("fbgemm", "x86")
        if self.few is None and here and self.dtype != torch.float32:
            self.few = torch.ops.quantized.linear_prepack_fp16(*self.source)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out): few rows in fp32, many in the layer's dtype."""
        if self.few is not None and x.numel() <= FEW_ROWS * x.size(-1):
            return torch.ops.quantized.linear_dynamic_fp16(x.float(), self.few)
        rows = x.to(self.dtype)
        return torch.ops.mkldnn._linear_pointwise(rows, self.packed, self.bias, "none", [], "")


class Decoder(GPT):
    """A GPT's weights, shared, and a packed copy of them, for decoding without gradients.

    The copy does not see later changes of the weights.
    """

    cache_dtype = torch.float32  # which single tokens are computed in

    def __init__(self, model: GPT, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.config, self.dropout, self.norm = model.config, model.dropout, model.norm
        self.token_embedding = model.token_embedding
        self.position_embedding = model.position_embedding
        self.blocks = pack(share(model.blocks), dtype)
        self.head = PackedLinear(model.token_embedding.weight, None, dtype)

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)"""
        return self.head(hidden)[..., : self.config.vocab_size]


def share(module: nn.Module) -> nn.Module:
    """A copy of a module with the same parameters."""
    # What deepcopy finds in its memo it takes as copied, so parameters are not.
    return copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})


class StepDecoder(GPT):
    """A copy of a GPT's weights for a GPU, where starting kernels takes longer than they run.

    After the prompt, a step of one token a sample has the same shapes at every position, so it is
    recorded once for each cache, as a CUDA graph, and then replayed without Python.
    """

    def __init__(self, model: GPT, dtype: torch.dtype) -> None:
        super().__init__(model.config)
        self.load_state_dict(model.state_dict())
        self.to(model.token_embedding.weight.device, dtype)
        self.recorded: Any = None  # the cache for which the rest is
        self.graph: Any = None

    def hidden(self, ids: Tensor, cache: list[Cache] | None = None) -> Tensor:
        """As a GPT's."""
        if not cache or cache[0].length == 0 or ids.size(1) > 1:
            return super().hidden(ids, cache)
        if self.recorded is not cache:
            self.record(ids, cache)
        self.ids.copy_(ids)
        self.position.fill_(cache[0].length)
        for part in cache:
            part.length += 1
        if self.graph is None:
            return self.step()
        self.graph.replay()
        return self.found

    def record(self, ids: Tensor, cache: list[Cache]) -> None:
        """Fix where a step reads and writes; on a GPU, record it."""
        self.recorded, self.graph = cache, None
        self.ids, self.position = ids.clone(), ids.new_full((1,), cache[0].length)
        for part in cache:  # what is not seen yet counts nothing, but must be numbers
            part.keys[:, :, part.length :] = part.values[:, :, part.length :] = 0
        if ids.is_cuda:
            self.step()  # libraries prepare themselves at the first call, which no graph may hold
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.found = self.step()
            self.graph = graph

    def step(self) -> Tensor:
        """`ids` (B, 1) at `position` -> (B, 1, C); all shapes are fixed."""
        x = self.token_embedding(self.ids) + self.position_embedding(self.position)
        seen = torch.arange(self.config.context, device=x.device) <= self.position
        block: Any
        for block, part in zip(self.blocks, self.recorded):
            x = x + self.attend(block.attention, block.attention_norm(x), part, seen)
            x = x + block.mlp(block.mlp_norm(x))
        return self.norm(x)

    def attend(self, layer: Any, x: Tensor, part: Cache, seen: Tensor) -> Tensor:
        """A layer's attention of one token (B, 1, C) to those that are seen, of all that may be."""
        heads = (y.unflatten(2, (layer.heads, -1)) for y in layer.qkv(x).chunk(3, dim=2))
        q, k, v = (y.transpose(1, 2) for y in heads)  # (B, H, 1, D)
        part.keys.index_copy_(2, self.position, k)
        part.values.index_copy_(2, self.position, v)
        y = nn.functional.scaled_dot_product_attention(q, part.keys, part.values, seen[None])
        return layer.out(y.transpose(1, 2).flatten(2))


def pack(module: nn.Module, dtype: torch.dtype) -> Any:
    """Replace every linear layer in a module by a packed one."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, PackedLinear(child.weight, child.bias, dtype))
        else:
            pack(child, dtype)
    return module


def pack_for_few(model: nn.Module) -> None:
    """Have every packed layer of a model ready for few rows; GPT-2 124M takes a core 1.2 s."""
    layers = [module for module in model.modules() if isinstance(module, PackedLinear)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(PackedLinear.add_few, reversed(layers)))  # the head, the largest, first


def for_decoding(model: GPT, dtype: torch.dtype = torch.float32) -> GPT:
    """The form of the model that decodes fastest where it lies.

    On a CPU with the operator that is a Decoder with products in `dtype`, on a GPU a StepDecoder
    in it, else the model itself.
    """
    if model.token_embedding.weight.is_cuda and type(model) is GPT:
        return StepDecoder(model, dtype).eval()
    operators = ("_reorder_linear_weight", "_linear_pointwise")
    on_cpu = model.token_embedding.weight.device.type == "cpu"
    if on_cpu and all(hasattr(torch.ops.mkldnn, name) for name in operators):
        if isinstance(model, Modern):
            packed = pack(share(model), dtype)
            packed.cache_dtype = Decoder.cache_dtype
            return packed.eval()
        return Decoder(model, dtype).eval()
    return model


def next_logits(model: GPT, ids: Tensor, cache: list[Cache]) -> Tensor:
    """Logits (N, V) of the token after `ids` (N, T), which continue those in the cache."""
    return model.logits(model.hidden(ids, cache)[:, -1])


@torch.inference_mode()
def generate(model: GPT, prompt: list[int], sampling: Sampling) -> Iterator[Tensor]:
    """Yield one new id for each sample, (N,) int64 on the CPU, max_tokens times.

    A prompt longer than the context counts with its last T tokens. Once the context is full,
    every position shifts with each token: then the last T tokens are computed anew.
    """
    device = model.token_embedding.weight.device
    if sampling.samples <= FEW_ROWS:
        pack_for_few(model)
    generator = torch.Generator().manual_seed(sampling.seed)
    context = model.config.context
    ids = torch.tensor(prompt, dtype=torch.int64).expand(sampling.samples, -1)[:, -context:]
    cache, new = model.new_cache(), ids
    for _ in range(sampling.max_tokens):
        if cache[0].length + new.size(1) > context:
            cache, new = model.new_cache(), ids
        token = pick(next_logits(model, new.to(device), cache), sampling, generator)
        yield token
        new = token[:, None]
        ids = torch.cat([ids, new], dim=1)[:, -context:]


def generate_ids(
    model: GPT, tokenizer: Tokenizer, prompt: str, sampling: Sampling
) -> Iterator[list]:
    """Yield for each step the new id of each sample; None for one that has ended its text."""
    ids = tokenizer.encode(prompt) or [tokenizer.end_of_text]
    ended = [False] * sampling.samples
    for token in generate(model, ids, sampling):
        ended = [e or i == tokenizer.end_of_text for e, i in zip(ended, token.tolist())]
        if all(ended):
            return
        yield [None if e else i for e, i in zip(ended, token.tolist())]


def stream_text(model: GPT, tokenizer: Tokenizer, prompt: str, sampling: Sampling) -> Iterator[str]:
    """Yield the continuation of the first sample piece by piece, as soon as it is whole text."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for ids in generate_ids(model, tokenizer, prompt, sampling):
        if ids[0] is None:  # the first sample has ended, others have not
            break
        yield decoder.decode(tokenizer.decode_bytes(ids[:1]))
    yield decoder.decode(b"", final=True)


def continue_text(model: GPT, tokenizer: Tokenizer, prompt: str, sampling: Sampling) -> list[str]:
    """The continuations of a prompt, one text for each sample."""
    steps = list(generate_ids(model, tokenizer, prompt, sampling))
    columns = list(zip(*steps)) or [()] * sampling.samples
    return [tokenizer.decode(i for i in column if i is not None) for column in columns]
