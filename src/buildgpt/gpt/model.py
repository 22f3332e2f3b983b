"""Ids to logits to loss: GPT-2 (Radford et al. 2019), as published.

Shapes: B batch, T time, C channels (width), H heads, D head width, V vocabulary.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import ModelConfig

# Matrix kernels are fastest on multiples of 128, so the vocabulary is widened to one.
VOCABULARY_MULTIPLE = 128
# Up to so many tokens, attention written out beats the fused kernel on a CPU.
SHORT = 256


def attend_by_hand(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """Causal attention written out (Vaswani et al. 2017, section 3.2.1).

    q is (B, H, T, D); k and v are (B, H, S, D) with S >= T: the last T of the S tokens ask.
    Each of them sees the tokens up to itself; adding a triangle of minus infinities to the
    scores hides the others. Returns (B, H, T, D).
    """
    scores = (q / math.sqrt(q.size(3))) @ k.transpose(2, 3)  # (B, H, T, S)
    weights = (scores + future(q.size(2), k.size(2), q)).softmax(dim=3)
    return F.dropout(weights, dropout) @ v


def future(time: int, seen: int, like: Tensor) -> Tensor:
    """(T, S): minus infinity where a token would look ahead, 0 elsewhere."""
    return like.new_full((time, seen), -math.inf).triu(seen - time + 1)


def attend(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """The same as `attend_by_hand`, the fastest way.

    torch's fused kernel never holds the (B, H, T, S) scores, which is what matters on a GPU and
    for long contexts. On a CPU, products of short rows are faster one by one (docs/log.md).
    """
    time, seen = q.size(2), k.size(2)
    if q.device.type == "cpu" and 1 < time <= SHORT:
        return attend_by_hand(q, k, v, dropout)
    # The kernel's own triangle starts at the first token, so it serves T = S only. A single
    # token, the newest, sees everything.
    mask = None if time in (1, seen) else future(time, seen, q)
    causal = 1 < time == seen
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout, is_causal=causal)


class Cache:
    """One layer's keys and values of the tokens seen so far, so that none is computed twice.

    They are kept in `dtype`, that of the first ones otherwise, and come back in the newest one's.
    """

    def __init__(self, context: int, dtype: torch.dtype | None = None) -> None:
        self.context, self.length, self.dtype = context, 0, dtype
        self.keys = self.values = torch.empty(0)

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, H, T, D) of new keys and values; returns all of them, (B, H, S, D)."""
        if self.length == 0:
            batch, heads, _, depth = k.shape
            shape = (2, batch, heads, self.context, depth)
            self.keys, self.values = k.new_empty(shape, dtype=self.dtype)
        new = slice(self.length, self.length + k.size(2))
        self.keys[:, :, new], self.values[:, :, new] = k, v
        self.length = new.stop
        seen = slice(self.length)
        return self.keys[:, :, seen].to(k.dtype), self.values[:, :, seen].to(k.dtype)

    def select(self, rows: Tensor, room: int) -> "Cache":
        """A new cache, its row i a copy of row rows[i] here, with room for so many more tokens."""
        chosen = Cache(self.length + room, self.dtype)
        if self.length:
            seen = slice(self.length)
            chosen.extend(self.keys[rows, :, seen], self.values[rows, :, seen])
        return chosen


class Attention(nn.Module):
    """Many heads of causal attention side by side: tokens look at earlier tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)  # (B, H, T, D)
            for part in self.qkv(x).split(width, dim=2)
        )
        if cache is not None:
            k, v = cache.extend(k, v)
        y = attend(q, k, v, self.dropout if self.training else 0.0)
        return self.out(y.transpose(1, 2).reshape(batch, time, width))


class MLP(nn.Module):
    """Two layers around a GELU: each token thinks on its own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, 4 * config.width)
        self.out = nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        return self.out(F.gelu(self.up(x), approximate="tanh"))


class Block(nn.Module):
    """Attention, then MLP; both read a normalised copy and add to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = Attention(config)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        x = x + self.dropout(self.attention(self.attention_norm(x), cache))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class GPT(nn.Module):
    """GPT-2: token and position embeddings, blocks, a last norm, a head tied to the embedding."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        widened = -(-config.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
        self.token_embedding = nn.Embedding(widened, config.width)
        self.position_embedding = nn.Embedding(config.context, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.apply(self.initialise)

    def initialise(self, module: nn.Module) -> None:
        """N(0, init_std) for matrices, zero for biases. `apply` comes to children before parents.

        Each block adds two outputs to the residual stream. Their spread would grow with the
        root of that number, 2 * layers, so they start that much smaller (GPT-2, section 2.3).
        """
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.init_std)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, Attention | MLP):
            std = self.config.init_std / math.sqrt(2 * self.config.layers)
            nn.init.normal_(module.out.weight, std=std)

    def forward(
        self, ids: Tensor, targets: Tensor | None = None, reduction: str = "mean"
    ) -> Tensor:
        """ids (B, T) -> logits (B, T, V); with targets (B, T) -> their cross-entropy in nats.

        The loss is a scalar, or (B, T) with reduction="none".
        """
        logits = self.logits(self.hidden(ids))
        if targets is None:
            return logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)
        return loss.view_as(targets) if reduction == "none" else loss

    def hidden(self, ids: Tensor, cache: list[Cache] | None = None) -> Tensor:
        """ids (B, T) -> (B, T, C). With a cache, the ids continue those that it has seen."""
        seen = cache[0].length if cache else 0
        if seen + ids.size(1) > self.config.context:
            raise ValueError(
                f"{seen + ids.size(1)} tokens exceed a context of {self.config.context}"
            )
        positions = torch.arange(seen, seen + ids.size(1), device=ids.device)
        x = self.dropout(self.token_embedding(ids) + self.position_embedding(positions))
        for index, block in enumerate(self.blocks):
            x = block(x, cache[index] if cache else None)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V), by the embedding turned round.

        Only the true V columns leave: the widened vocabulary's padding ids get no probability,
        no gradient, and are never sampled.
        """
        return F.linear(hidden, self.token_embedding.weight)[..., : self.config.vocab_size]

    def new_cache(self, room: int | None = None) -> list[Cache]:
        """An empty cache, one part a layer, for `room` tokens; for a whole context otherwise."""
        room = self.config.context if room is None else room
        return [Cache(room) for _ in self.blocks]

    def parameter_count(self) -> int:
        """Parameters with the true vocabulary; the tied head counts once."""
        padding = self.token_embedding.num_embeddings - self.config.vocab_size
        return sum(p.numel() for p in self.parameters()) - padding * self.config.width
