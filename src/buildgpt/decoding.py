"""The forms of a model that decode fastest: packed weights for a CPU, a recorded step for a GPU.

What `core.generate` asks of a model it may ask of these as well, and gets the same logits.
Shapes: B batch, T time, C channels, H heads, D head width, V vocabulary.
"""

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

FEW_ROWS = 8  # up to so many, a product takes as long as reading its weights


def for_decoding(model: Any, dtype: torch.dtype = torch.float32) -> Any:
    """The form of a model that decodes fastest where it lies, with products in `dtype`.

    On a CPU with the operator for it that is a PackedDecoder, on a GPU and for a GPT-2 a
    StepDecoder, else the model itself.
    """
    if model.token_embedding.weight.is_cuda and is_gpt2(model):
        return StepDecoder(model, dtype).eval()
    on_cpu = model.token_embedding.weight.device.type == "cpu"
    if on_cpu and multiplies_packed(torch.float32):
        narrow = dtype if multiplies_packed(dtype) else torch.float32
        return PackedDecoder(model, narrow).eval()
    return model


def multiplies_packed(dtype: torch.dtype) -> bool:
    """Whether this build of torch packs weights, and this processor multiplies them in `dtype`."""
    try:
        square = torch.zeros(16, 16, dtype=dtype)
        packed = torch.ops.mkldnn._reorder_linear_weight(square, 1)
        torch.ops.mkldnn._linear_pointwise(square, packed, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return True


def is_gpt2(model: Any) -> bool:
    """Whether it is what core.model builds, not core.modern."""
    return model.config.architecture == "gpt2"


class Decoder(nn.Module):
    """What core.generate asks of a model, passed on to a copy of it."""

    def __init__(self, copied: Any) -> None:
        super().__init__()
        self.model, self.config = copied, copied.config
        self.token_embedding = copied.token_embedding

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> logits (B, T, V)"""
        return self.logits(self.hidden(ids))

    def hidden(self, ids: Tensor, cache: Any = None) -> Tensor:
        """ids (B, T) -> (B, T, C). With a cache, the ids continue those that it has seen."""
        return self.model.hidden(ids, cache)

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)"""
        return self.model.logits(hidden)

    def new_cache(self, room: int | None = None) -> Any:
        """An empty cache, as the model's."""
        return self.model.new_cache(room)


class PackedDecoder(Decoder):
    """A model's weights, shared, and a packed copy of them, for decoding without gradients.

    The copy does not see later changes of the weights.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        super().__init__(pack(share(model), dtype))
        self.model.cache_dtype = torch.float32  # which single tokens are computed in
        # GPT-2's head is its embedding, which is no linear layer.
        weight = model.token_embedding.weight
        self.head = PackedLinear(weight, None, dtype) if is_gpt2(model) else None

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V)"""
        if self.head is None:
            return super().logits(hidden)
        return self.head(hidden)[..., : self.config.vocab_size]


def share(module: nn.Module) -> nn.Module:
    """A copy of a module with the same parameters."""
    # What deepcopy finds in its memo it takes as copied, so parameters are not.
    return copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})


def pack(module: nn.Module, dtype: torch.dtype) -> Any:
    """Replace every linear layer in a module by a packed one."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, PackedLinear(child.weight, child.bias, dtype))
        else:
            pack(child, dtype)
    return module


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


def pack_for_few(model: nn.Module) -> None:
    """Have every packed layer of a model ready for few rows; GPT-2 124M takes a core 1.2 s."""
    layers = [module for module in model.modules() if isinstance(module, PackedLinear)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(PackedLinear.add_few, reversed(layers)))  # the head, the largest, first


class StepDecoder(Decoder):
    """A copy of a GPT's weights for a GPU, where starting kernels takes longer than they run.

    After the prompt, a step of one token a sample has the same shapes at every position, so it is
    recorded once for each cache, as a CUDA graph, and then replayed without Python.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        super().__init__(copy.deepcopy(model).to(dtype))
        self.recorded: Any = None  # the cache for which the rest is
        self.graph: Any = None

    def hidden(self, ids: Tensor, cache: Any = None) -> Tensor:
        """As the model's; one token a sample, after others, is a recorded step."""
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

    def record(self, ids: Tensor, cache: Any) -> None:
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
        x = self.token_embedding(self.ids) + self.model.position_embedding(self.position)
        seen = torch.arange(self.config.context, device=x.device) <= self.position
        for block, part in zip(self.model.blocks, self.recorded):
            x = x + self.attend(block.attention, block.attention_norm(x), part, seen)
            x = x + block.mlp(block.mlp_norm(x))
        return self.model.norm(x)

    def attend(self, layer: Any, x: Tensor, part: Any, seen: Tensor) -> Tensor:
        """A layer's attention of one token (B, 1, C) to those that are seen, of all that may be."""
        heads = (y.unflatten(2, (layer.heads, -1)) for y in layer.qkv(x).chunk(3, dim=2))
        q, k, v = (y.transpose(1, 2) for y in heads)  # (B, H, 1, D)
        part.keys.index_copy_(2, self.position, k)
        part.values.index_copy_(2, self.position, v)
        y = nn.functional.scaled_dot_product_attention(q, part.keys, part.values, seen[None])
        return layer.out(y.transpose(1, 2).flatten(2))
