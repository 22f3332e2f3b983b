"""Choosing the next token, the cache, and from tokens to text."""

import math
from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM

from buildgpt.gpt import generate as generate_module
from buildgpt.gpt.config import ModelConfig, UsageError, UserError
from buildgpt.gpt.generate import (
    Sampling,
    continue_text,
    generate,
    generate_ids,
    nucleus,
    pick,
    probabilities,
    stream_text,
)
from buildgpt.gpt.hub import export_folder
from buildgpt.gpt.model import GPT
from buildgpt.gpt.tokenizer import ByteTokenizer, CharTokenizer

LETTERS = CharTokenizer("abcdefgh")  # and end of text: 9 ids
BYTES = ByteTokenizer()


def lively(vocab_size: int = LETTERS.vocab_size, context: int = 12) -> GPT:
    """A model whose random weights are large enough that its logits differ."""
    model = GPT(ModelConfig(layers=2, heads=2, width=16, context=context, vocab_size=vocab_size))
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() < 2) / 10, std=0.3)
    return model.eval()


def chosen(model: GPT, prompt: list[int], sampling: Sampling) -> list[list[int]]:
    """The ids of each sample."""
    return torch.stack(list(generate(model, prompt, sampling)), dim=1).tolist()


# The words of a sampling.

BAD = [
    {"temperature": -0.1},
    {"temperature": math.nan},
    {"temperature": math.inf},
    {"top_k": -1},
    {"top_p": 0.0},
    {"top_p": -0.5},
    {"top_p": 1.01},
    {"top_p": math.nan},
    {"max_tokens": -1},
    {"samples": 0},
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_wishes_are_refused_by_name(bad):
    with pytest.raises(UsageError) as refused:
        Sampling(**bad)
    (name,) = bad
    assert name.replace("_", "-") in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_status == 2


# Probabilities.


def naive_probabilities(
    logits: list[float], temperature: float, top_k: int, top_p: float
) -> list[float]:
    """In float64, one number at a time; of equals at top-p's border, those of lowest ids stay."""
    weights = [math.exp((logit - max(logits)) / temperature) for logit in logits]
    if top_k:
        kth = sorted(logits, reverse=True)[min(top_k, len(logits)) - 1]
        weights = [w if logit >= kth else 0.0 for w, logit in zip(weights, logits)]
    chances = [weight / sum(weights) for weight in weights]
    kept, total = [0.0] * len(chances), 0.0
    for index in sorted(range(len(chances)), key=lambda i: -chances[i]):
        if total < top_p:
            kept[index] = chances[index]
        total += chances[index]
    return [chance / sum(kept) for chance in kept]


# Few different values, so that there are ties.
logit = st.one_of(st.integers(-3, 3).map(float), st.floats(-20, 20, width=32))


@given(
    logits=st.lists(logit, min_size=1, max_size=12),
    temperature=st.floats(0.05, 5),
    top_k=st.integers(0, 14),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 0.99)),
)
@example(logits=[1.0, 1.0, 1.0, 0.0], temperature=1.0, top_k=2, top_p=1.0)  # ties all stay
@example(logits=[1.0, 1.0, 1.0, 1.0], temperature=1.0, top_k=0, top_p=0.6)
def test_probabilities_are_the_naive_ones(logits, temperature, top_k, top_p):
    expected = naive_probabilities(logits, temperature, top_k, top_p)
    # Leave out what rounding decides: whether top-p is just reached or just not.
    if top_p < 1:
        just_less, just_more = (
            naive_probabilities(logits, temperature, top_k, top_p + d) for d in (-1e-4, 1e-4)
        )
        assume(just_less == expected == just_more)
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    found = probabilities(torch.tensor([logits]), sampling)[0].tolist()
    # Which of equals stay at top-p's border is open; how many is not.
    assert sorted(found) == pytest.approx(sorted(expected), abs=1e-5)
    for (low, low_chance), (high, high_chance) in pairwise(sorted(zip(logits, found))):
        assert low_chance <= high_chance or low == high


def test_top_k_and_top_p_leave_what_they_say():
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    three = probabilities(logits, Sampling(temperature=1, top_k=3))
    torch.testing.assert_close(three, torch.tensor([[4, 3, 2, 0]]) / 9)
    two = probabilities(logits, Sampling(temperature=1, top_p=0.6))
    torch.testing.assert_close(two, torch.tensor([[4, 3, 0, 0]]) / 7)
    one = probabilities(logits, Sampling(temperature=1, top_p=0.01))
    torch.testing.assert_close(one, torch.tensor([[1.0, 0, 0, 0]]))
    # Top-p counts among what top-k left: 4 of 7 are less than 0.6, so both stay.
    both = probabilities(logits, Sampling(temperature=1, top_k=2, top_p=0.6))
    torch.testing.assert_close(both, torch.tensor([[4, 3, 0, 0]]) / 7)


def test_rows_do_not_mix():
    logits = torch.randn(4, 9) * 3
    for sampling in (Sampling(), Sampling(top_k=3), Sampling(top_p=0.7), Sampling(temperature=0)):
        together = probabilities(logits, sampling)
        alone = torch.cat([probabilities(row[None], sampling) for row in logits])
        torch.testing.assert_close(together, alone)


def test_of_equals_the_nucleus_takes_as_few_as_it_needs():
    quarters = torch.full((1, 4), 0.25)
    for top_p, kept in ((0.2, 1), (0.25, 1), (0.5, 2), (0.6, 3), (0.9, 4)):
        chances = nucleus(quarters, top_p)[0]
        assert sorted(chances.tolist()) == pytest.approx([0.0] * (4 - kept) + [1 / kept] * kept)


@pytest.mark.parametrize("temperature", [1e-6, 1e-30, 1e-37, 1e-45, 1e-300, 5e-324])
def test_a_tiny_temperature_is_greedy_and_does_not_overflow(temperature):
    logits = torch.tensor([[-40.0, 88.0, 87.5, 0.0], [3.0, -5000.0, 2.0, 1.0]])
    for limits in ({}, {"top_k": 2}, {"top_p": 0.5}):
        chances = probabilities(logits, Sampling(temperature=temperature, **limits))
        assert chances.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]


def test_temperature_zero_takes_the_likeliest():
    logits = torch.randn(50, 9)
    picked = pick(logits, Sampling(temperature=0, top_k=3, top_p=0.1), torch.Generator())
    assert picked.tolist() == logits.argmax(dim=1).tolist()


def test_a_high_temperature_evens_out():
    chances = probabilities(torch.tensor([[5.0, -5.0]]), Sampling(temperature=1e6))
    assert chances[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-4)


def assert_drawn_from(drawn: torch.Tensor, chances: list[float]) -> None:
    """Pearson's chi-square is below what one fair sample in 10,000 exceeds (7 degrees: 29.9)."""
    counts = drawn.bincount(minlength=len(chances)).tolist()
    assert all(n == 0 for n, chance in zip(counts, chances) if chance == 0)
    terms = [
        (n - len(drawn) * chance) ** 2 / (len(drawn) * chance)
        for n, chance in zip(counts, chances)
        if chance
    ]
    assert len(terms) <= 8
    assert sum(terms) < 29.9


@pytest.mark.parametrize("limits", [{}, {"top_k": 4}, {"top_p": 0.7}], ids=str)
def test_tokens_come_as_often_as_their_probability(limits):
    logits = torch.linspace(-2, 2, 8)
    sampling = Sampling(temperature=0.9, **limits)
    drawn = pick(logits.expand(20_000, 8), sampling, torch.Generator().manual_seed(1))
    expected = naive_probabilities(
        logits.tolist(), 0.9, limits.get("top_k", 0), limits.get("top_p", 1.0)
    )
    assert_drawn_from(drawn, expected)


def test_samples_of_a_model_come_as_often_as_their_probability():
    model = lively(vocab_size=8)
    sampling = Sampling(max_tokens=1, temperature=2.0, samples=20_000)
    (drawn,) = generate(model, [1, 2, 3], sampling)
    logits = model(torch.tensor([[1, 2, 3]]))[0, -1].tolist()
    assert_drawn_from(drawn, naive_probabilities(logits, 2.0, 0, 1.0))


# The cache.


@torch.no_grad()
def test_the_cache_gives_the_logits_of_the_full_pass_for_every_split():
    context = 12
    model = lively(context=context)
    ids = torch.randint(LETTERS.vocab_size, (2, context))
    full = model(ids)
    borders = range(1, context)
    cuts = [c for n in range(3) for c in combinations(borders, n)] + [tuple(borders)]
    for cut in cuts:
        cache = model.new_cache()
        parts = [
            model.logits(model.hidden(ids[:, start:stop], cache))
            for start, stop in pairwise((0, *cut, context))
        ]
        torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=0, atol=1e-5)
        assert [layer.length for layer in cache] == [context] * 2


def logits_while_generating(monkeypatch, model: GPT, prompt: list[int], count: int):
    """Generate greedily, noting the logits that each choice was made from."""
    noted = []

    def pick_noting(logits, sampling, generator):
        noted.append(logits[0].clone())
        return pick(logits, sampling, generator)

    monkeypatch.setattr(generate_module, "pick", pick_noting)
    (ids,) = chosen(model, prompt, Sampling(max_tokens=count, temperature=0))
    return ids, noted


@pytest.mark.parametrize("length", [1, 5, 11, 12, 13, 40])
@pytest.mark.parametrize("context", [1, 12])
def test_beyond_the_context_the_last_t_tokens_count(monkeypatch, length, context):
    """Also for prompts that are longer than the context from the start."""
    model = lively(context=context)
    prompt = torch.randint(LETTERS.vocab_size, (length,)).tolist()
    ids, noted = logits_while_generating(monkeypatch, model, prompt, 30)
    for step, logits in enumerate(noted):
        window = (prompt + ids[:step])[-context:]
        expected = model(torch.tensor([window]))[0, -1]
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
        assert ids[step] == expected.argmax()


def test_the_cache_spares_the_model_what_it_has_seen(monkeypatch):
    model, lengths = lively(), []
    hidden = model.hidden
    monkeypatch.setattr(
        model, "hidden", lambda ids, cache: lengths.append(ids.size(1)) or hidden(ids, cache)
    )
    chosen(model, [1, 2, 3], Sampling(max_tokens=12))
    assert lengths == [3] + [1] * 9 + [12] * 2  # from then on every position shifts


def test_ids_are_drawn_as_often_as_their_chances_say():
    """By the chi-squared statistic: 8 degrees of freedom exceed 26.1 once in a thousand times."""
    logits = torch.tensor([[0.0, 1.0, -math.inf, 2.0, 0.5, -1.0, 0.0, 3.0, -2.0, -math.inf, 1.0]])
    count = 20_000
    generator = torch.Generator().manual_seed(1)
    ids = pick(logits.expand(count, -1), Sampling(temperature=1.0), generator)
    expected = logits[0].softmax(dim=-1) * count
    found = torch.bincount(ids, minlength=11)
    possible = expected > 0
    assert not found[~possible].any()
    assert (((found - expected) ** 2 / expected)[possible]).sum() < 26.1


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_model_that_gives_no_numbers_is_refused(temperature):
    logits = torch.zeros(2, 300)
    logits[1, 7] = math.nan
    with pytest.raises(UserError, match="NaN"):
        pick(logits, Sampling(temperature=temperature), torch.Generator())


# Whole generations.


@pytest.mark.parametrize("length", [1, 6])
def test_greedy_generation_equals_that_of_transformers(tmp_path, length):
    model = lively(context=24)
    export_folder(model, LETTERS, tmp_path / "model")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    prompt = torch.randint(LETTERS.vocab_size, (length,)).tolist()
    with torch.no_grad():
        expected = theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, length, dtype=torch.int64),
            do_sample=False,
            max_new_tokens=24 - length,
            eos_token_id=None,
            pad_token_id=0,
        )[0, length:].tolist()
    assert len(expected) == 24 - length
    sampling = Sampling(max_tokens=24 - length, temperature=0)
    assert chosen(model, prompt, sampling) == [expected]


def test_a_seed_decides_every_sample():
    model = lively()
    wish = {"max_tokens": 20, "temperature": 2.0, "samples": 3}
    first = chosen(model, [1, 2], Sampling(seed=4, **wish))
    torch.rand(7)  # the global generator has no part in it
    assert chosen(model, [1, 2], Sampling(seed=4, **wish)) == first
    assert chosen(model, [1, 2], Sampling(seed=5, **wish)) != first
    assert len({tuple(ids) for ids in first}) == 3


def test_generating_leaves_the_global_generator_alone():
    """A sample during training must not change what the training draws next."""
    model = lively()
    before = torch.get_rng_state()
    chosen(model, [1], Sampling(max_tokens=3))
    assert torch.equal(torch.get_rng_state(), before)


def test_greedy_samples_are_all_the_same():
    first, second = chosen(lively(), [1, 2], Sampling(max_tokens=20, temperature=0, samples=2))
    assert first == second


def test_no_tokens_may_be_wished_for():
    sampling = Sampling(max_tokens=0, samples=2)
    assert list(generate(lively(), [1], sampling)) == []
    assert continue_text(lively(), LETTERS, "ab", sampling) == ["", ""]
    assert "".join(stream_text(lively(), LETTERS, "ab", sampling)) == ""


@torch.no_grad()
def test_padding_ids_are_never_sampled():
    """Even with weights that would make them by far the likeliest."""
    model = lively()
    model.token_embedding.weight[LETTERS.vocab_size :] = 1e3
    model.norm.bias.fill_(10.0)
    assert model.token_embedding.num_embeddings == 128
    for temperature in (0, 1.0, 1e6):
        sampling = Sampling(max_tokens=5, temperature=temperature, samples=500)
        ids = torch.tensor(chosen(model, [1], sampling))
        assert ids.max() < LETTERS.vocab_size


def test_an_empty_prompt_starts_from_end_of_text():
    model = lively()
    prompts = []
    model.token_embedding.register_forward_hook(lambda *call: prompts.append(call[1][0].tolist()))
    list(generate_ids(model, LETTERS, "", Sampling(max_tokens=1, samples=2)))
    assert prompts == [[[LETTERS.end_of_text]] * 2]


# Ends, and text.


def test_each_sample_ends_at_its_own_end_of_text():
    model, end = lively(), LETTERS.end_of_text
    sampling = Sampling(max_tokens=40, temperature=3.0, samples=6)
    raw = chosen(model, LETTERS.encode("abc"), sampling)
    steps = list(generate_ids(model, LETTERS, "abc", sampling))
    lengths = [ids.index(end) if end in ids else 40 for ids in raw]
    assert len(set(lengths)) > 3  # they do end at different places
    assert len(steps) == max(lengths)
    for sample, (ids, length) in enumerate(zip(raw, lengths)):
        column = [step[sample] for step in steps]
        assert column == ids[:length] + [None] * (len(steps) - length)
    texts = continue_text(model, LETTERS, "abc", sampling)
    assert texts == [LETTERS.decode(ids[:n]) for ids, n in zip(raw, lengths)]
    assert not any("<|endoftext|>" in text for text in texts)


class Scripted:
    """In place of the model: says what it is told to, column by column."""

    def __init__(self, *samples: list[int]) -> None:
        self.samples = samples

    def __call__(self, model, prompt, sampling):
        return iter([torch.tensor(step) for step in zip(*self.samples)])


def scripted_text(samples: list[list[int]]) -> tuple[list[str], list[str]]:
    """The pieces of the stream, and the finished texts."""
    wish = Sampling(samples=len(samples))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate_module, "generate", Scripted(*samples))
        pieces = list(stream_text(None, BYTES, "x", wish))  # type: ignore[arg-type]
        return pieces, continue_text(None, BYTES, "x", wish)  # type: ignore[arg-type]


def test_a_character_is_streamed_once_it_is_whole():
    text = "aß漢🙂"
    pieces, texts = scripted_text([BYTES.encode(text)])
    assert texts == [text]
    assert [piece for piece in pieces if piece] == list(text)
    assert pieces[:4] == ["a", "", "ß", ""]


@given(st.binary(max_size=40))
@example("🙂".encode()[:3])
@example(b"\xf0\x9f\x99a\xff\xe6\xbc")
def test_the_stream_joins_to_the_finished_text(data):
    """Whatever the bytes, also those that are no text."""
    pieces, (text,) = scripted_text([list(data)])
    assert "".join(pieces) == text == data.decode("utf-8", errors="replace")


def test_the_stream_ends_with_its_sample():
    """Others may still be speaking."""
    ended = [97, 98, BYTES.end_of_text, 99, 99]
    pieces, texts = scripted_text([ended, [100] * 5])
    assert "".join(pieces) == "ab"
    assert texts == ["ab", "ddddd"]


def test_a_model_streams_what_it_would_say_at_once():
    model = lively(BYTES.vocab_size)
    sampling = Sampling(max_tokens=60, temperature=1.5, seed=3, samples=2)
    pieces = list(stream_text(model, BYTES, "né", sampling))
    assert len(pieces) > 10
    assert "".join(pieces) == continue_text(model, BYTES, "né", sampling)[0]


def test_the_stream_speaks_while_it_is_made():
    """The first piece is there before the second token is computed."""
    model, made = lively(BYTES.vocab_size), []
    model.norm.register_forward_hook(lambda *call: made.append(1))
    stream = stream_text(model, BYTES, "a", Sampling(max_tokens=5))
    next(stream)
    assert len(made) == 1
