"""The same interface as model.py, today's architecture: each change of it is a switch.

With every switch off this is GPT-2, name for name and, in fp32, number for number. The changes
come from the public record runs of modded-nanogpt (Jordan et al. 2024), where each has its paper.

Shapes: B batch, T time, S tokens seen so far, C channels (width), H heads, D head width,
V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from .config import ModelConfig, ModernConfig
from .model import GPT, VOCABULARY_MULTIPLE, Cache, cap
from .model import attend as attend_causally

ROTARY_BASE = 1024  # for contexts of some thousand tokens; Su et al. 2021 have 10,000
SHARPNESS = 0.12 * 128  # the largest score of attention whose q and k have norm 1
SOFTCAP = 30.0
VALUE_LAYERS = 3  # so many at the bottom, and as many at the top, share embeddings of values
LARGEST_BIGRAM_TABLE = 65536  # rows that every pair of ids may have for itself
MIXING = 663608941  # an odd number near 2^30 over the golden ratio


@dataclass(frozen=True)
class View:
    """What a layer needs to know of where its tokens stand."""

    rotation: tuple[Tensor, Tensor] | None  # cosines and sines, (T, D / 2) each
    near: Any  # a `mask` for short windows; None: all before
    far: Any  # the same for long windows


def build(config: ModelConfig, switches: ModernConfig | None = None) -> GPT:
    """The model that a recipe asks for: the one place where an architecture becomes a class."""
    if config.architecture == "gpt2":
        return GPT(config)
    return Modern(config, switches or ModernConfig())


def build_like(model: GPT, config: ModelConfig | None = None) -> GPT:
    """A fresh model like this one, with another config if one is given."""
    return build(config or model.config, switches_of(model))


def switches_of(model: GPT) -> ModernConfig:
    """The switches of a model; of a GPT-2, which has none, the defaults."""
    return model.switches if isinstance(model, Modern) else ModernConfig()


def norm_layer(width: int, switches: ModernConfig) -> nn.Module:
    """RMSNorm without weights (Zhang and Sennrich 2019), or GPT-2's LayerNorm."""
    if switches.rms_norm:
        return nn.RMSNorm(width, eps=1e-6, elementwise_affine=False)
    return nn.LayerNorm(width)


def rotation(start: int, stop: int, depth: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (T, D / 2) each, for positions [start, stop) (Su et al. 2021).

    Pair i of a head turns by position / base^(4i / D). The slower half of the pairs would hardly
    turn within a context, so they do not turn at all: a head can match by content alone.
    """
    turning = depth // 4
    steps = torch.arange(turning, device=like.device, dtype=torch.float32)
    speeds = F.pad((1 / ROTARY_BASE) ** (steps / max(turning - 1, 1)), (0, depth // 2 - turning))
    positions = torch.arange(start, stop, device=like.device, dtype=torch.float32)
    angles = positions[:, None] * speeds
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn each pair (i, i + D / 2) of (B, H, T, D) by its angle."""
    a, b = x.chunk(2, dim=3)
    return torch.cat([a * cosines - b * sines, a * sines + b * cosines], dim=3)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, mask: Any) -> Tensor:
    """Attention with scores `q k scale + mask`; without a mask, causal. (B, H, T, D)"""
    if mask is None:
        return attend_causally(q * (scale * math.sqrt(q.size(3))), k, v)
    if not isinstance(mask, Tensor):
        return flex_attention(q, k, v, block_mask=mask, scale=scale)
    if q.device.type == "cpu":
        return ((q * scale) @ k.transpose(2, 3) + mask).softmax(dim=3).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, mask.to(q.dtype), scale=scale)


class Attention(nn.Module):
    """Causal attention with rotated, normalised queries and keys, and embedded values mixed in."""

    def __init__(self, config: ModelConfig, switches: ModernConfig, has_values: bool) -> None:
        super().__init__()
        self.heads, depth = config.heads, config.width // config.heads
        bias = not switches.rms_norm
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=bias)
        self.out = nn.Linear(config.width, config.width, bias=bias)
        self.qk_norm = switches.qk_norm
        self.scale = SHARPNESS / depth if switches.qk_norm else 1 / math.sqrt(depth)
        self.value_mix: Any = nn.Parameter(torch.tensor([0.5])) if has_values else None

    def forward(
        self,
        x: Tensor,
        values: Tensor | None,
        view: View,
        mask: Any,
        cache: Cache | None,
    ) -> Tensor:
        """(B, T, C) -> (B, T, C); `values` (B, T, C) are added to what the tokens offer."""
        batch, time, width = x.shape
        q, k, v = self.qkv(x).split(width, dim=2)
        if values is not None:
            v = v + (self.value_mix * values).to(v.dtype)
        q, k, v = (p.view(batch, time, self.heads, -1).transpose(1, 2) for p in (q, k, v))
        if self.qk_norm:
            q, k = (F.rms_norm(p, p.shape[3:], eps=1e-6) for p in (q, k))
        if view.rotation is not None:
            q, k = (rotate(p, *view.rotation).to(v.dtype) for p in (q, k))
        if cache is not None:
            k, v = cache.extend(k, v)
        y = attend(q, k, v, self.scale, mask)
        return self.out(y.transpose(1, 2).reshape(batch, time, width))


class MLP(nn.Module):
    """Two layers around the square of a ReLU (So et al. 2021), or GPT-2's GELU."""

    def __init__(self, config: ModelConfig, switches: ModernConfig) -> None:
        super().__init__()
        bias = not switches.rms_norm
        self.up = nn.Linear(config.width, 4 * config.width, bias=bias)
        self.out = nn.Linear(4 * config.width, config.width, bias=bias)
        self.relu2 = switches.relu2

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        x = self.up(x)
        return self.out(F.relu(x).square() if self.relu2 else F.gelu(x, approximate="tanh"))


class Block(nn.Module):
    """Attention, then MLP, on a residual stream into which the first embedding is mixed again."""

    def __init__(self, config: ModelConfig, switches: ModernConfig, index: int) -> None:
        super().__init__()
        has_values = switches.value_embeddings and value_table(index, config.layers) is not None
        self.is_far = is_far(index, config.layers)
        self.attention_norm = norm_layer(config.width, switches)
        self.attention = Attention(config, switches, has_values)
        self.mlp_norm = norm_layer(config.width, switches)
        self.mlp = MLP(config, switches)
        self.dropout = nn.Dropout(config.dropout)
        self.mix = nn.Parameter(torch.tensor([1.0, 0.0])) if switches.residual_scalars else None

    def forward(
        self, x: Tensor, first: Tensor, values: Tensor | None, view: View, cache: Cache | None
    ) -> Tensor:
        """(B, T, C) -> (B, T, C); `first` (B, T, C) is what the embeddings gave."""
        if self.mix is not None:
            x = self.mix[0] * x + self.mix[1] * first
        mask = view.far if self.is_far else view.near
        attended = self.attention(self.attention_norm(x), values, view, mask, cache)
        x = x + self.dropout(attended)
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


def is_far(index: int, layers: int) -> bool:
    """Whether a layer's window is a long one: every fourth's, and the last one's."""
    return index % 4 == 3 or index == layers - 1


def value_tables(layers: int) -> int:
    """How many embeddings of values so many layers have."""
    return min(VALUE_LAYERS, layers // 2)


def value_table(index: int, layers: int) -> int | None:
    """Which embedding of values a layer reads, if any: the lowest layers' return at the top."""
    count = value_tables(layers)
    if index < count:
        return index
    return index - (layers - count) if index >= layers - count else None


class Modern(GPT):
    """A GPT of today's architecture; what it shares with GPT-2 it inherits."""

    # What a switch leaves out is None.
    position_embedding: Any
    bigram_embedding: Any
    skip_weights: Any
    window: Any
    norm: Any
    head: Any

    def __init__(self, config: ModelConfig, switches: ModernConfig) -> None:
        nn.Module.__init__(self)
        self.config, self.switches = config, switches
        self.softcap = SOFTCAP if switches.softcap else 0.0
        layers, width = config.layers, config.width
        widened = -(-config.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
        self.token_embedding = nn.Embedding(widened, width)
        self.position_embedding = None if switches.rotary else nn.Embedding(config.context, width)
        rows = bigram_rows(config.vocab_size)
        self.bigram_embedding = nn.Embedding(rows, width) if switches.bigrams else None
        tables = value_tables(layers) if switches.value_embeddings else 0
        self.value_embeddings = nn.ModuleList(nn.Embedding(widened, width) for _ in range(tables))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, switches, i) for i in range(layers))
        self.skips = layers // 2 if switches.unet_skips else 0
        self.skip_weights = nn.Parameter(torch.ones(self.skips)) if self.skips else None
        self.norm = norm_layer(width, switches)
        # Saved with the weights, as a model computes with what it was last trained with.
        window = torch.tensor(config.context) if switches.windows else None
        self.register_buffer("window", window)
        self.head = nn.Linear(width, widened, bias=False) if switches.untied_head else None
        self.apply(self.initialise)

    def initialise(self, module: nn.Module) -> None:
        """As in GPT-2, but what adds to the residual stream may begin at zero, and so the head."""
        std, zero = self.config.init_std, self.switches.zero_init
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, Attention | MLP):
            small = 0.0 if zero else std / math.sqrt(2 * self.config.layers)
            nn.init.normal_(module.out.weight, std=small)
        if module is self and self.head is not None and zero:
            nn.init.zeros_(self.head.weight)

    def hidden(self, ids: Tensor, cache: list[Cache] | None = None) -> Tensor:
        """ids (B, T) -> (B, T, C). With a cache, the ids continue those that it has seen."""
        seen = cache[0].length if cache else 0
        self.require_room(seen + ids.size(1))
        known = remember(ids, cache[-1]) if cache else ids  # (B, S)
        first = x = self.dropout(self.embed(ids, known))
        values = [embedding(ids) for embedding in self.value_embeddings]
        view = self.view(known, seen)
        lower: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            above = index - len(self.blocks) + self.skips
            if above >= 0:
                x = x + self.skip_weights[above] * lower.pop()
            table = value_table(index, len(self.blocks)) if values else None
            mine = None if table is None else values[table]
            x = block(x, first, mine, view, cache[index] if cache else None)
            if index < self.skips:
                lower.append(x)
        return self.norm(x)

    def embed(self, ids: Tensor, known: Tensor) -> Tensor:
        """ids (B, T), the last of the known ones (B, S) -> (B, T, C): each token as it comes in."""
        x = self.token_embedding(ids)
        if self.switches.rms_norm:
            x = self.norm(x)
        time, seen = ids.size(1), known.size(1)
        if self.position_embedding is not None:
            x = x + self.position_embedding(torch.arange(seen - time, seen, device=ids.device))
        if self.bigram_embedding is not None:
            rows = self.bigram_embedding.num_embeddings
            pairs = hash_bigrams(known, self.config.vocab_size, rows)
            x = x + self.bigram_embedding(pairs[:, seen - time :])
        return x

    def view(self, known: Tensor, seen: int) -> View:
        """Positions and masks of the tokens after the first `seen` of the known ones, (B, S)."""
        depth = self.config.width // self.config.heads
        turned = rotation(seen, known.size(1), depth, known) if self.switches.rotary else None
        documents = self.documents(known) if self.switches.document_mask else None
        if self.window is None and documents is None:
            return View(turned, None, None)
        if self.window is None:
            everything = mask(known, seen, self.config.context, documents)
            return View(turned, everything, everything)
        half = (self.window // 2).clamp(min=1)
        near, far = (mask(known, seen, window, documents) for window in (half, self.window))
        return View(turned, near, far)

    def documents(self, known: Tensor) -> Tensor:
        """known ids (B, S) -> the number of each one's document; end of text, the last id, opens
        the next one."""
        return (known == self.config.vocab_size - 1).cumsum(dim=1)

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V), by this model's own head, capped."""
        if self.head is None:
            return cap(super().logits(hidden), self.softcap)
        return cap(self.head(hidden)[..., : self.config.vocab_size], self.softcap)

    def head_weight(self) -> Tensor:
        """(W, C), as GPT-2's."""
        return self.token_embedding.weight if self.head is None else self.head.weight

    def new_cache(self, room: int | None = None) -> list[Cache]:
        """An empty cache: one part a layer, and one more for the ids."""
        parts = super().new_cache(room)
        return [*parts, Cache(parts[0].context)]

    def parameter_count(self) -> int:
        """Parameters with the true vocabulary; a tied head counts once."""
        vocabularies = [self.token_embedding, *self.value_embeddings, self.head]
        padding = self.token_embedding.num_embeddings - self.config.vocab_size
        unused = padding * self.config.width * len([v for v in vocabularies if v is not None])
        return sum(p.numel() for p in self.parameters()) - unused


def mask(known: Tensor, seen: int, window: Tensor | int, documents: Tensor | None) -> Any:
    """Where a token after the first `seen` may look: at itself and the window - 1 tokens before,
    within its document.

    (1 or B, 1, T, S), 0 there, else minus infinity; or, where that is fast, FlexAttention's, which
    skips whole blocks of what is hidden (Dong et al. 2024).
    """
    if takes_blocks(known) and seen == 0:
        return blocks(known, window, documents)
    here = torch.arange(known.size(1), device=known.device)
    back = here[seen:, None] - here  # (T, S): how far a token has to look back
    visible = ((back >= 0) & (back < window))[None]
    if documents is not None:
        visible = visible & (documents[:, seen:, None] == documents[:, None, :])
    return torch.zeros(visible.shape, device=known.device).masked_fill(~visible, -math.inf)[:, None]


def takes_blocks(known: Tensor) -> bool:
    """FlexAttention is for GPUs, and for torch.compile: without, it would hold all scores."""
    return known.is_cuda and torch.compiler.is_compiling()


def blocks(known: Tensor, window: Tensor | int, documents: Tensor | None) -> BlockMask:
    """The `mask` of known ids (B, T) for FlexAttention."""
    numbers = torch.zeros_like(known) if documents is None else documents

    def visible(row: Tensor, head: Tensor, asks: Tensor, seen: Tensor) -> Tensor:
        near = (asks >= seen) & (asks - seen < window)
        return near & (numbers[row, asks] == numbers[row, seen])

    rows, time = known.shape
    return create_block_mask(visible, rows, None, time, time, device=known.device)


def window_at(done: float, context: int) -> int:
    """How far a layer of long windows sees when `done`, 0 to 1, of the training is done: a
    quarter of the context, then another quarter after each quarter of the training."""
    return max(1, context * min(1 + int(4 * done), 4) // 4)


def set_window(model: GPT, done: float) -> None:
    """Let a model with windows see as far as its training wants; others see all anyway."""
    if isinstance(model, Modern) and model.window is not None:
        model.window.fill_(window_at(done, model.config.context))


def remember(ids: Tensor, cache: Cache) -> Tensor:
    """Append ids (B, T) to those of a cache; returns all of them, (B, S)."""
    column = ids[:, None, :, None]
    return cache.extend(column, column)[0][:, 0, :, 0]


def bigram_rows(vocab_size: int) -> int:
    """A row for every pair of ids where they are few, else five for every id."""
    pairs = vocab_size**2
    return pairs if pairs <= LARGEST_BIGRAM_TABLE else 5 * vocab_size


def hash_bigrams(ids: Tensor, vocab_size: int, rows: int) -> Tensor:
    """ids (B, T) -> which row stands for each id and the one before it.

    The first id and those that open a document have themselves before them. Where there are fewer
    rows than pairs, they are spread as by chance: by a product (Knuth 1973, section 6.4) whose
    upper bits, which both ids have reached, are laid over the lower ones. It takes 62 bits.
    """
    before = torch.cat([ids[:, :1], ids[:, :-1]], dim=1)
    pairs = torch.where(ids == vocab_size - 1, ids, before) * vocab_size + ids
    mixed = pairs * MIXING
    return pairs if rows >= vocab_size**2 else (mixed ^ mixed >> 31) % rows
