"""Next token, stream of tokens, text: five small functions, each calling the one before.

Shapes: N samples side by side, T time, V vocabulary.
"""

import codecs
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import SampleConfig, UserError, require
from .model import GPT, Cache
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


def sample(model: GPT, tokenizer: Tokenizer, wish: SampleConfig, seed: int) -> str:
    """The prompt of a recipe and its continuation, by a model that is being trained."""
    prompt = wish.prompt if spellable(tokenizer, wish.prompt) else ""
    sampling = Sampling(wish.max_tokens, wish.temperature, wish.top_k, seed=seed)
    model.eval()
    text = continue_text(model, tokenizer, prompt, sampling)[0]
    model.train()
    return prompt + text


def spellable(tokenizer: Tokenizer, text: str) -> bool:
    """Whether the tokenizer knows every character of a text."""
    try:
        tokenizer.encode(text)
    except UserError:
        return False
    return True
