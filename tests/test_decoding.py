"""The forms that decode fastest give the model's own logits, and leave it as it was."""

import math

import pytest
import torch
from torch import nn

from buildgpt.decoding import StepDecoder, for_decoding, pack_for_few
from buildgpt.gpt import generate as generate_module
from buildgpt.gpt.config import ModelConfig
from buildgpt.gpt.generate import Sampling, generate, pick
from buildgpt.gpt.model import GPT


def lively() -> GPT:
    """A model whose random weights are large enough that its logits differ."""
    model = GPT(ModelConfig(layers=2, heads=2, width=16, context=12, vocab_size=9))
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() < 2) / 10, std=0.3)
    return model.eval()


def chosen(model, prompt: list[int], sampling: Sampling) -> list[list[int]]:
    """The ids of each sample."""
    return torch.stack(list(generate(model, prompt, sampling)), dim=1).tolist()


# The packed form.


def test_the_decoder_gives_the_models_logits_and_shares_its_weights():
    model = GPT(ModelConfig(layers=2, heads=2, width=32, context=16, vocab_size=37)).eval()
    decoder = for_decoding(model)
    ids = torch.randint(37, (3, 16))
    with torch.inference_mode():
        for part in (ids[:1, :1], ids[:, :1], ids):
            torch.testing.assert_close(decoder(part), model(part), atol=1e-5, rtol=0)
    before = {id(tensor) for tensor in model.parameters()}
    assert {id(tensor) for tensor in decoder.parameters()} <= before


def test_the_decoder_continues_as_the_model_does():
    model = GPT(ModelConfig(layers=2, heads=2, width=32, context=16, vocab_size=37)).eval()
    sampling = Sampling(max_tokens=30, temperature=1.0, seed=3, samples=2)
    plain, packed = (
        torch.stack(list(generate(m, [1, 2, 3], sampling))) for m in (model, for_decoding(model))
    )
    assert torch.equal(plain, packed)


def test_the_decoder_in_bf16_agrees_with_autocast():
    model = GPT(ModelConfig(layers=2, heads=2, width=32, context=16, vocab_size=37)).eval()
    ids = torch.randint(37, (3, 16))
    targets = torch.randint(37, (3, 16))
    with torch.inference_mode():
        packed = for_decoding(model, torch.bfloat16)(ids).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            expected = model(ids, targets)
    found = nn.functional.cross_entropy(packed.flatten(0, 1), targets.flatten())
    assert found.item() == pytest.approx(expected.item(), abs=2e-3)


def test_the_decoder_in_bf16_keeps_more_of_few_rows_than_of_many():
    """Few rows are multiplied in fp32 by weights in fp16, where the kernel for that is."""
    model = GPT(ModelConfig(layers=2, heads=2, width=32, context=16, vocab_size=37)).eval()
    decoder = for_decoding(model, torch.bfloat16)
    pack_for_few(decoder)
    ids = torch.randint(37, (3, 16))
    with torch.inference_mode():
        cache, parts = decoder.new_cache(), ids[:1].split([9, 1, 6], dim=1)
        found = torch.cat([decoder.logits(decoder.hidden(part, cache)) for part in parts], dim=1)
        torch.testing.assert_close(found.float(), model(ids[:1]), atol=2e-2, rtol=0)
        if decoder.head.few is not None:
            torch.testing.assert_close(decoder(ids[:1, :8]), model(ids[:1, :8]), atol=2e-4, rtol=0)


def test_without_the_kernel_for_few_rows_the_other_takes_them(monkeypatch):
    model = GPT(ModelConfig(layers=1, heads=2, width=32, context=16, vocab_size=37)).eval()
    monkeypatch.setattr(torch.backends.quantized, "engine", "qnnpack")
    decoder = for_decoding(model, torch.bfloat16)
    pack_for_few(decoder)
    with torch.inference_mode():
        found = decoder(torch.tensor([[1, 2]]))
        assert decoder.head.few is None
        expected = model(torch.tensor([[1, 2]]))
        torch.testing.assert_close(found.float(), expected, atol=1e-2, rtol=0)


def test_packing_leaves_the_model_as_it_was():
    model = GPT(ModelConfig(layers=1, heads=2, width=32, context=16, vocab_size=37)).eval()
    names, kinds = list(model.state_dict()), [type(m) for m in model.modules()]
    for_decoding(model)
    assert list(model.state_dict()) == names
    assert [type(m) for m in model.modules()] == kinds


def test_without_the_operator_the_model_itself_decodes(monkeypatch):
    model = GPT(ModelConfig(layers=1, heads=2, width=32, context=16, vocab_size=37)).eval()
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert for_decoding(model) is model


# The form for a GPU, whose graph a CPU steps through.


@pytest.mark.parametrize("samples,prompt", [(1, [1]), (3, [1, 2, 3, 4])])
def test_steps_of_fixed_shape_give_the_models_logits(monkeypatch, samples, prompt):
    """Also beyond the context, where the last tokens are computed anew."""
    model = lively()
    decoder = StepDecoder(model, torch.float32).eval()
    sampling = Sampling(max_tokens=30, temperature=1.5, seed=5, samples=samples)
    noted = []

    def pick_noting(logits, sampling, generator):
        noted.append(logits.clone())
        return pick(logits, sampling, generator)

    monkeypatch.setattr(generate_module, "pick", pick_noting)
    plain, stepped = (chosen(m, prompt, sampling) for m in (model, decoder))
    assert plain == stepped
    for one, other in zip(noted[:30], noted[30:]):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_what_a_cache_holds_beyond_its_length_counts_nothing():
    model = lively()
    decoder = StepDecoder(model, torch.float32).eval()
    with torch.inference_mode():
        cache = decoder.new_cache()
        decoder.hidden(torch.tensor([[1, 2, 3]]), cache)
        for part in cache:
            part.keys[:, :, 3:] = part.values[:, :, 3:] = math.nan  # as fresh memory may be
        found = decoder.logits(decoder.hidden(torch.tensor([[4]]), cache))
        expected = model(torch.tensor([[1, 2, 3, 4]]))[:, -1:]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_second_cache_does_not_disturb_the_first():
    model = lively()
    decoder = StepDecoder(model, torch.float32).eval()
    with torch.inference_mode():
        caches = [decoder.new_cache() for _ in range(2)]
        for cache, ids in zip(caches, ([1, 2], [5, 6])):
            decoder.hidden(torch.tensor([ids]), cache)
        for number, new in enumerate((3, 4)):
            for cache, ids in zip(caches, ([1, 2], [5, 6])):
                found = decoder.logits(decoder.hidden(torch.tensor([[new]]), cache))
                text = torch.tensor([ids + [3, 4][: number + 1]])
                expected = model(text)[:, -1:]
                torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
