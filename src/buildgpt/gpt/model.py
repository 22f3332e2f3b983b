"""Ids to logits to loss: GPT-2 (Radford et al. 2019), as published.

Shapes: B batch, T time, C channels (width), H heads, D head width, V vocabulary.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import ModelConfig

# Matrix kernels are fastest on multiples of 128, so the vocabulary is widened to one.
VOCABULARY_MULTIPLE = 128
# Up to so many tokens, attention written out beats the fused kernel on a CPU.
SHORT = 256
# Where a loss would need more logits than these, 0.5 GB in fp32, they are taken in parts.
LOGITS_AT_ONCE = 2**27


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
        return attend_in_halves(q, k, v, dropout)
    # The kernel's own triangle starts at the first token, so it serves T = S only. A single
    # token, the newest, sees everything.
    mask = None if time in (1, seen) else future(time, seen, q)
    causal = 1 < time == seen
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout, is_causal=causal)


def attend_in_halves(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """The same: the earlier half of the tokens never sees the keys of the later half, so a
    quarter of a square of scores need not be computed."""
    half, time, seen = q.size(2) // 2, q.size(2), k.size(2)
    early, parts = seen - time + half, q.split((half, time - half), dim=2)
    first = attend_by_hand(parts[0], k[:, :, :early], v[:, :, :early], dropout)
    return torch.cat([first, attend_by_hand(parts[1], k, v, dropout)], dim=2)


def gelu(x: Tensor) -> Tensor:
    """GPT-2's GELU, which approximates the Gaussian's integral by a tanh (Hendrycks and Gimpel
    2016, section 2).

    On a CPU torch's bf16 kernel of the exact integral is three times as fast, and its result as
    near to this one: the two differ by 0.0005 at most, and bf16 rounds to three digits.
    """
    exact = x.device.type == "cpu" and x.dtype == torch.bfloat16
    return F.gelu(x, approximate="none" if exact else "tanh")


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


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which products with x are taken: autocast's, where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def narrow(x: Tensor) -> Tensor:
    """The residual stream in bf16 where products are taken in it: half the memory to go through.

    Sums of a norm or a softmax are still taken in fp32, inside their kernels.
    """
    return x.bfloat16() if product_dtype(x) == torch.bfloat16 else x


class MLP(nn.Module):
    """Two layers around a GELU: each token thinks on its own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.width, 4 * config.width)
        self.out = nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        return self.out(gelu(self.up(x)))


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


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    """logits (B, T, V) and targets (B, T) -> a scalar, or (B, T) with reduction="none"."""
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)
    return loss.view_as(targets) if reduction == "none" else loss


def cap(logits: Tensor, softcap: float) -> Tensor:
    """Logits between -softcap and softcap (Gemma 2, 2024), in fp32 at least; 0 leaves them."""
    if not softcap:
        return logits
    return softcap * torch.tanh(logits.to(at_least_fp32(logits)) / softcap)


def is_large(hidden: Tensor, weight: Tensor) -> bool:
    """Whether logits for hidden (B, T, C) and their gradients would fill the memory."""
    logits = hidden.size(0) * hidden.size(1) * weight.size(0)
    return torch.is_grad_enabled() and logits > LOGITS_AT_ONCE


def at_least_fp32(x: Tensor) -> torch.dtype:
    """The dtype in which sums over a vocabulary are exact enough."""
    return torch.promote_types(x.dtype, torch.float32)


def loss_and_gradient(
    logits: Tensor, target: Tensor, vocab_size: int, softcap: float
) -> tuple[Tensor, Tensor]:
    """The summed cross-entropy of logits (N, W), before their cap, with targets (N, 1); and its
    gradient: softmax less 1 at the target, times the cap's slope, 1 - tanh^2."""
    narrow, logits = logits.dtype, logits.to(at_least_fp32(logits))
    logits = cap(logits, softcap)
    slope = (logits / softcap).square_().neg_().add_(1) if softcap else None
    logits[:, vocab_size:] = -math.inf  # padding takes no probability
    total = logits.logsumexp(dim=1, keepdim=True)
    summed = (total - logits.gather(1, target)).sum()
    chances = logits.sub_(total).exp_()  # in the logits' place, which are done with
    gradient = chances.scatter_add_(1, target, -torch.ones_like(total))
    return summed, (gradient if slope is None else gradient.mul_(slope)).to(narrow)


class LossInParts(torch.autograd.Function):
    """The mean cross-entropy of a head's logits, some rows of them at a time.

    The logits' gradient is known as soon as they are. So it goes at once into the gradients of the
    head and of what it reads, and nothing of the (N, V) logits is kept or computed twice (Hsu et
    al. 2024, Liger Kernel, section 3.2).
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, vocab_size: int, softcap: float
    ) -> Tensor:
        """hidden (N, C), weight (W, C) of the widened vocabulary, targets (N,) -> a scalar."""
        narrow_weight = weight.to(product_dtype(hidden))
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        loss = hidden.new_zeros((), dtype=at_least_fp32(hidden))
        rows = max(1, LOGITS_AT_ONCE // weight.size(0))
        for start in range(0, hidden.size(0), rows):
            part = slice(start, start + rows)
            x = hidden[part].to(narrow_weight.dtype)
            summed, to_logits = loss_and_gradient(
                F.linear(x, narrow_weight), targets[part, None], vocab_size, softcap
            )
            loss += summed
            to_hidden[part] = to_logits @ narrow_weight
            to_weight += to_logits.T @ x
            del to_logits  # or it would still be there beside the next part's logits
        ctx.save_for_backward(to_hidden, to_weight)
        return loss / hidden.size(0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Everything is there but the factor, in which the mean's 1/N and a loss scale come."""
        to_hidden, to_weight = ctx.saved_tensors
        factor = gradient / to_hidden.size(0)
        return (to_hidden * factor).to(to_hidden.dtype), to_weight * factor, None, None, None


class GPT(nn.Module):
    """GPT-2: token and position embeddings, blocks, a last norm, a head tied to the embedding."""

    softcap = 0.0  # of the logits: none
    cache_dtype: torch.dtype | None = None  # of keys and values; None: as they come

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
        hidden = self.hidden(ids)
        if targets is not None and reduction == "mean" and is_large(hidden, self.head_weight()):
            rows, vocab_size = hidden.flatten(0, 1), self.config.vocab_size
            given = (rows, self.head_weight(), targets.flatten(), vocab_size, self.softcap)
            return cast(Tensor, LossInParts.apply(*given))
        logits = self.logits(hidden)
        return logits if targets is None else cross_entropy(logits, targets, reduction)

    def head_weight(self) -> Tensor:
        """(W, C): what the logits are products with, of the widened vocabulary."""
        return self.token_embedding.weight

    def hidden(self, ids: Tensor, cache: list[Cache] | None = None) -> Tensor:
        """ids (B, T) -> (B, T, C). With a cache, the ids continue those that it has seen."""
        seen = cache[0].length if cache else 0
        self.require_room(seen + ids.size(1))
        positions = torch.arange(seen, seen + ids.size(1), device=ids.device)
        x = self.dropout(self.token_embedding(ids) + self.position_embedding(positions))
        x = narrow(x)
        for index, block in enumerate(self.blocks):
            x = block(x, cache[index] if cache else None)
        return self.norm(x)

    def require_room(self, tokens: int) -> None:
        """ValueError if so many tokens are more than the context holds."""
        if tokens > self.config.context:
            raise ValueError(f"{tokens} tokens exceed a context of {self.config.context}")

    def logits(self, hidden: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, V), by the embedding turned round.

        Only the true V columns leave: the widened vocabulary's padding ids get no probability,
        no gradient, and are never sampled.
        """
        return F.linear(hidden, self.token_embedding.weight)[..., : self.config.vocab_size]

    def new_cache(self, room: int | None = None) -> list[Cache]:
        """An empty cache, one part a layer, for `room` tokens; for a whole context otherwise."""
        room = self.config.context if room is None else room
        return [Cache(room, self.cache_dtype) for _ in self.blocks]

    def parameter_count(self) -> int:
        """Parameters with the true vocabulary; the tied head counts once."""
        padding = self.token_embedding.num_embeddings - self.config.vocab_size
        return sum(p.numel() for p in self.parameters()) - padding * self.config.width
