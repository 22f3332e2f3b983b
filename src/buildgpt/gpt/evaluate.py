"""Validation: the mean loss over a fixed set of tokens, the same on any hardware and ranks."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from .data import Corpus
from .model import GPT
from .runtime import Runtime

# Logits of so many tokens exist at once, 10 V bytes each: 2 GB for GPT-2, less than training takes.
TOKENS_AT_ONCE = 4096


@dataclass(frozen=True)
class Evaluation:
    """`loss` in nats a token; bits_per_byte compares models whose tokenizers differ."""

    loss: float
    bits_per_byte: float
    tokens: int  # targets scored


@torch.no_grad()
def evaluate(model: GPT, corpus: Corpus, runtime: Runtime, batch: int = 0) -> Evaluation:
    """Score the corpus's validation tokens in non-overlapping windows of T, every target once.

    Each window starts afresh, without carry-over. The plain module is evaluated, never a
    compiled one. Sums are taken per window and added in one order, whichever rank did which.
    `batch` windows are scored at once; 0 takes as many as TOKENS_AT_ONCE allows.
    """
    context, stream, tokens = model.config.context, corpus.val, corpus.val_tokens
    batch = batch or max(1, TOKENS_AT_ONCE // context)
    starts = range(0, tokens - 1, context)
    sums = torch.zeros(len(starts), dtype=torch.float64)
    groups = [starts[i : i + batch] for i in range(0, len(starts), batch)]
    was_training = model.training
    model.eval()
    for index in range(runtime.rank, len(groups), runtime.world_size):
        windows = [stream.read(s, min(s + context + 1, tokens)) for s in groups[index]]
        first = index * batch
        sums[first : first + len(windows)] = torch.cat(
            [score(model, same, runtime) for same in equal_lengths(windows)]
        )
    model.train(was_training)
    total = math.fsum(runtime.sum(sums).tolist())
    bits = total / math.log(2) / text_bytes(corpus)
    return Evaluation(total / (tokens - 1), bits, tokens - 1)


def score(model: GPT, windows: np.ndarray, runtime: Runtime) -> torch.Tensor:
    """The summed loss of each window: (B, T + 1) tokens -> (B,) float64 on the CPU."""
    (ids,) = runtime.send(torch.from_numpy(windows.astype(np.int64)))
    with runtime.autocast():
        losses = model(ids[:, :-1], ids[:, 1:], reduction="none")
    return losses.cpu().double().sum(dim=1)


def equal_lengths(windows: list[np.ndarray]) -> list[np.ndarray]:
    """Stack windows; the last one of all may be shorter and then stands alone."""
    whole = [window for window in windows if len(window) == len(windows[0])]
    rest = [window[None] for window in windows[len(whole) :]]
    return [np.stack(whole), *rest]


def text_bytes(corpus: Corpus) -> int:
    """How many bytes of text the targets stand for; an end of text stands for none."""
    lengths = np.array([len(piece) for piece in corpus.tokenizer.pieces])
    lengths[corpus.tokenizer.end_of_text] = 0
    tokens, chunk = corpus.val_tokens, 1 << 20
    ranges = ((i, min(i + chunk, tokens)) for i in range(1, tokens, chunk))
    return max(1, sum(int(lengths[corpus.val.read(*part)].sum()) for part in ranges))
