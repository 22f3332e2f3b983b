"""The validation loss, against one window and one target at a time in float64."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from buildgpt.gpt import evaluate as evaluate_module
from buildgpt.gpt.config import DataConfig, ModelConfig, UserError
from buildgpt.gpt.data import Corpus, ShardWriter, Stream, write_manifest
from buildgpt.gpt.evaluate import Evaluation, evaluate
from buildgpt.gpt.model import GPT
from buildgpt.gpt.runtime import Runtime
from buildgpt.gpt.tokenizer import CharTokenizer, Tokenizer

CPU = Runtime(torch.device("cpu"))
LETTERS = CharTokenizer("abcß漢🙂")  # 1, 1, 1, 2, 3 and 4 bytes, and end of text
CONTEXT = 8


def lively() -> GPT:
    """A model whose random weights are large enough that its losses differ."""
    config = ModelConfig(
        layers=2, heads=2, width=16, context=CONTEXT, vocab_size=LETTERS.vocab_size
    )
    model = GPT(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() < 2) / 10, std=0.3)
    return model


def random_ids(count: int) -> list[int]:
    """Every id, end of text too."""
    return torch.randint(LETTERS.vocab_size, (count,)).tolist()


@pytest.fixture
def stream_of(tmp_path):
    """Write ids as a split of shards of five tokens each."""

    def write(ids: list[int]) -> Stream:
        writer = ShardWriter(tmp_path, "val", shard_tokens=5)
        writer.add(ids)
        writer.close()
        return Stream(sorted(tmp_path.glob("*.bin")), LETTERS.vocab_size)

    return write


def held_out(stream: Stream, tokens: int) -> SimpleNamespace:
    """What an evaluation takes from a corpus."""
    return SimpleNamespace(val=stream, val_tokens=tokens, tokenizer=LETTERS)


def naive(model: GPT, ids: list[int], tokenizer: Tokenizer) -> Evaluation:
    """One window at a time, one target at a time."""
    model = copy.deepcopy(model).double().eval()
    nats, targets, text_bytes = 0.0, 0, 0
    start = 0
    while start + 1 < len(ids):
        window = ids[start : start + CONTEXT + 1]
        with torch.no_grad():
            rows = F.log_softmax(model(torch.tensor([window[:-1]]))[0], dim=1)
        for row, target in zip(rows, window[1:]):
            nats -= row[target].item()
            targets += 1
            if target != tokenizer.end_of_text:
                text_bytes += len(tokenizer.decode([target]).encode())
        start += CONTEXT
    return Evaluation(nats / targets, nats / math.log(2) / text_bytes, targets)


# Whole windows, a shorter last one, one of a single target, less than one window.
COUNTS = [2, 5, CONTEXT, CONTEXT + 1, CONTEXT + 2, 40, 41, 42, 77]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("batch", [1, 2, 3, 16])
def test_loss_and_bits_per_byte_are_the_naive_ones(stream_of, count, batch):
    model, ids = lively(), random_ids(count - 1) + [3]
    found = evaluate(model, held_out(stream_of(ids), count), CPU, batch)
    expected = naive(model, ids, LETTERS)
    assert found.tokens == expected.tokens == count - 1
    assert found.loss == pytest.approx(expected.loss, abs=1e-6)
    assert found.bits_per_byte == pytest.approx(expected.bits_per_byte, rel=1e-6)


def test_every_target_is_scored_once(stream_of, monkeypatch):
    """In windows that do not overlap and that start afresh."""
    ids, scored = random_ids(77), []
    score = evaluate_module.score

    def score_noting(model, windows, runtime):
        scored.extend(windows.tolist())
        return score(model, windows, runtime)

    monkeypatch.setattr(evaluate_module, "score", score_noting)
    evaluate(lively(), held_out(stream_of(ids), 77), CPU, batch=4)
    assert [len(window) for window in scored] == [9] * 9 + [5]
    assert [target for window in scored for target in window[1:]] == ids[1:]
    assert [i for window in scored for i in window[:-1]] == ids[:-1]


def test_only_the_first_tokens_count_where_there_is_a_limit(stream_of):
    model, ids = lively(), random_ids(60)
    stream = stream_of(ids)
    for limit in (2, 20, 25):
        found = evaluate(model, held_out(stream, limit), CPU)
        expected = naive(model, ids[:limit], LETTERS)
        assert found.tokens == limit - 1
        assert found.loss == pytest.approx(expected.loss, abs=1e-6)
        assert found.bits_per_byte == pytest.approx(expected.bits_per_byte, rel=1e-6)


def test_the_limit_is_the_recipes_or_the_whole_split(tmp_path):
    splits = {}
    for split, count in (("train", 30), ("val", 20)):
        writer = ShardWriter(tmp_path, split)
        writer.add(random_ids(count))
        splits[split] = writer.close()
    write_manifest(tmp_path, LETTERS, splits)
    limits = {0: 20, 7: 7, 20: 20, 1000: 20}
    for wished, limit in limits.items():
        assert Corpus(DataConfig(path=str(tmp_path), val_tokens=wished)).val_tokens == limit


def test_bytes_of_a_long_split_are_counted_a_stretch_at_a_time():
    """It need not fit into memory."""
    ids = np.random.RandomState(0).randint(LETTERS.vocab_size, size=3 * 2**20 + 5)
    spans = []

    class Long:
        def read(self, start: int, stop: int) -> np.ndarray:
            spans.append((start, stop))
            return ids[start:stop]

    counts = np.bincount(ids[1:], minlength=LETTERS.vocab_size)
    expected = sum(int(n) * size for n, size in zip(counts, (1, 1, 1, 2, 3, 4, 0)))
    assert evaluate_module.text_bytes(held_out(Long(), len(ids))) == expected
    assert max(stop - start for start, stop in spans) <= 2**20


def test_bits_per_byte_compare_tokenizers(stream_of):
    """What a letter costs is spread over the bytes it is made of."""
    model = lively()
    nn.init.zeros_(model.token_embedding.weight)  # the tied head: every id is equally likely
    ids = [LETTERS.ids[c] for c in "漢漢漢漢漢漢"]
    found = evaluate(model, held_out(stream_of(ids), 6), CPU)
    assert found.loss == pytest.approx(math.log(LETTERS.vocab_size))
    assert found.bits_per_byte == pytest.approx(math.log2(LETTERS.vocab_size) / 3)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_evaluated_without_dropout_and_left_as_it_was(stream_of, training):
    config = ModelConfig(
        layers=1, heads=1, width=8, context=CONTEXT, vocab_size=LETTERS.vocab_size, dropout=0.5
    )
    model = GPT(config).train(training)
    stream = stream_of(random_ids(40))
    modes = []
    model.blocks[0].register_forward_hook(lambda block, *_: modes.append(block.training))
    first, second = (evaluate(model, held_out(stream, 40), CPU) for _ in range(2))
    assert first == second
    assert not any(modes)
    assert all(module.training is training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_bf16_agrees_with_fp32(stream_of):
    model, stream = lively(), stream_of(random_ids(300))
    bf16 = Runtime(torch.device("cpu"), torch.bfloat16)
    exact = evaluate(model, held_out(stream, 300), CPU).loss
    found = evaluate(model, held_out(stream, 300), bf16).loss
    assert found != exact
    assert found == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("count", [0, 1])
def test_a_split_without_a_target_is_refused(tmp_path, count):
    splits = {}
    for split, ids in (("train", random_ids(30)), ("val", random_ids(count))):
        writer = ShardWriter(tmp_path, split)
        writer.add(ids)
        splits[split] = writer.close()
    write_manifest(tmp_path, LETTERS, splits)
    with pytest.raises(UserError, match="validation split") as refused:
        Corpus(DataConfig(path=str(tmp_path)))
    assert refused.value.exit_status == 1
    assert "\n" not in str(refused.value)


def test_ids_of_another_tokenizer_are_refused(stream_of):
    stream = stream_of([0, 1, LETTERS.vocab_size, 2])
    with pytest.raises(UserError, match="another tokenizer"):
        evaluate(lively(), held_out(stream, 4), CPU)


def test_results_hold_still_whatever_the_folder(stream_of, tmp_path):
    """The same tokens in one shard or in many give the same bits."""
    model, ids = lively(), random_ids(50)
    (whole := tmp_path / "whole").mkdir()
    writer = ShardWriter(whole, "val")
    writer.add(ids)
    writer.close()
    one = Stream(list(whole.glob("*.bin")), LETTERS.vocab_size)
    many = stream_of(ids)
    assert len(many.paths) == 10
    assert evaluate(model, held_out(one, 50), CPU) == evaluate(model, held_out(many, 50), CPU)
