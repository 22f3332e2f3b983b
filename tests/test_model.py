"""GPT-2 as published: attention, causality, sizes, initialisation, loss."""

import dataclasses
import math
from statistics import fmean

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from buildgpt.gpt import model as model_module
from buildgpt.gpt.config import SIZES, ModelConfig, TrainConfig
from buildgpt.gpt.model import GPT, attend, attend_by_hand, attend_in_halves, gelu
from buildgpt.gpt.optim import build_optimizer

TINY = ModelConfig(layers=2, heads=2, width=16, context=12, vocab_size=65)


def lively(config: ModelConfig, dtype: torch.dtype = torch.float32) -> GPT:
    """A model in which every parameter is random, so that none can be forgotten unseen."""
    model = GPT(config).to(dtype)
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.dim() < 2) / 10, std=0.2)
    return model


def random_ids(batch: int, time: int, config: ModelConfig = TINY) -> torch.Tensor:
    return torch.randint(config.vocab_size, (batch, time))


# Attention.


def attend_naively(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """One query at a time, over a list of the keys that it may see; no mask anywhere."""
    y = torch.zeros_like(q)
    later = k.size(2) - q.size(2)
    for b, h, t in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        scores = [(q[b, h, t] @ key).item() / q.size(3) ** 0.5 for key in k[b, h, : later + t + 1]]
        weights = [math.exp(s - max(scores)) for s in scores]
        for weight, value in zip(weights, v[b, h]):
            y[b, h, t] += weight / sum(weights) * value
    return y


# The last pair is longer than one block of the fused kernel.
LENGTHS = [(1, 1), (1, 7), (3, 7), (7, 7), (6, 7), (600, 600)]


@pytest.mark.parametrize(("time", "seen"), LENGTHS[:-1])
def test_attention_by_hand_is_a_weighted_mean_of_what_was_seen(time, seen):
    q = torch.randn(2, 3, time, 4, dtype=torch.float64)
    k, v = torch.randn(2, 2, 3, seen, 4, dtype=torch.float64)
    torch.testing.assert_close(attend_by_hand(q, k, v), attend_naively(q, k, v))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str
)
@pytest.mark.parametrize(("time", "seen"), LENGTHS)
def test_fast_attention_equals_attention_by_hand(time, seen, dtype, tolerance):
    """Forward and backward."""
    q = torch.randn(2, 2, time, 8, dtype=dtype)
    k, v = torch.randn(2, 2, 2, seen, 8, dtype=dtype)
    outer = torch.randn_like(q)

    def results(function):
        inputs = [tensor.clone().requires_grad_() for tensor in (q, k, v)]
        y = function(*inputs)
        return [y, *torch.autograd.grad(y, inputs, outer)]

    for function in (attend, attend_in_halves):
        for fast, by_hand in zip(results(function), results(attend_by_hand)):
            torch.testing.assert_close(fast, by_hand, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("function", [attend, attend_by_hand, attend_in_halves])
@pytest.mark.parametrize(("time", "seen"), [(7, 7), (3, 7), (600, 600)])
def test_no_gradient_flows_from_attention_to_a_later_token(function, time, seen):
    q = torch.randn(1, 2, time, 8)
    k, v = (torch.randn(1, 2, seen, 8, requires_grad=True) for _ in range(2))
    for t in {0, time // 2, time - 1}:
        keys, values = torch.autograd.grad(function(q, k, v)[:, :, t].sum(), (k, v))
        visible = seen - time + t + 1
        assert not keys[:, :, visible:].any()
        assert not values[:, :, visible:].any()
        assert values[:, :, :visible].all()


# Causality, and independence of everything else.


@pytest.fixture(params=[attend, attend_by_hand])
def either_attention(request, monkeypatch):
    monkeypatch.setattr(model_module, "attend", request.param)


@pytest.mark.usefixtures("either_attention")
def test_no_gradient_flows_to_a_later_token():
    model = lively(TINY)
    inputs = []
    model.token_embedding.register_forward_hook(lambda *call: inputs.append(call[2]))
    logits = model(random_ids(2, TINY.context))
    for t in range(TINY.context):
        (gradient,) = torch.autograd.grad(logits[:, t, 3].sum(), inputs, retain_graph=True)
        assert not gradient[:, t + 1 :].any()
        assert gradient[:, : t + 1].all()


@pytest.mark.usefixtures("either_attention")
@torch.no_grad()
def test_a_later_id_does_not_touch_a_bit_of_earlier_logits():
    model = lively(TINY)
    ids = random_ids(2, TINY.context)
    logits = model(ids)
    for later in range(TINY.context):
        changed = ids.clone()
        changed[:, later] = (changed[:, later] + 1) % TINY.vocab_size
        assert torch.equal(model(changed)[:, :later], logits[:, :later])
        assert not torch.equal(model(changed)[:, later], logits[:, later])


@torch.no_grad()
def test_sequences_of_a_batch_do_not_see_each_other():
    model = lively(TINY)
    ids = random_ids(5, 8)
    logits = model(ids)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(model(ids[order]), logits[order], rtol=0, atol=1e-5)
    for row, alone in zip(ids, logits):
        torch.testing.assert_close(model(row[None])[0], alone, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_mlps_gelu_is_the_one_by_tanh():
    """Hendrycks and Gimpel 2016's approximation, as GPT-2 was trained with."""
    mlp = lively(TINY, torch.float64).blocks[0].mlp
    x = torch.randn(2, 3, TINY.width, dtype=torch.float64)
    up = x @ mlp.up.weight.T + mlp.up.bias
    gelu = 0.5 * up * (1 + (math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)).tanh())
    torch.testing.assert_close(mlp(x), gelu @ mlp.out.weight.T + mlp.out.bias)


@torch.no_grad()
def test_a_narrow_gelu_is_as_near_to_the_true_one_as_torchs():
    """In bf16 on a CPU: its mean square error within 2 % of the tanh kernel's, none above 2^-10 and
    half a unit in the last place."""
    x = (1.5 * torch.randn(100_000)).bfloat16()
    true = F.gelu(x.double(), approximate="tanh")
    error, theirs = gelu(x).double() - true, F.gelu(x, approximate="tanh").double() - true
    assert not torch.equal(error, theirs)
    assert error.square().mean() < 1.02**2 * theirs.square().mean()
    assert (error.abs() <= 2**-10 + true.abs() * 2**-8).all()


def test_the_residual_stream_is_narrow_where_products_are():
    model, seen = GPT(TINY), []
    model.blocks[1].register_forward_pre_hook(lambda block, inputs: seen.append(inputs[0].dtype))
    model(random_ids(1, 4))
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            model(random_ids(1, 4))
    assert seen == [torch.float32, torch.bfloat16, torch.float32]  # fp16's range is too small


def test_positions_are_told_apart():
    model = lively(TINY)
    logits = model(torch.full((1, 4), 7))
    assert not torch.allclose(logits[0, 0], logits[0, 1])


# Size and start.

PUBLISHED = {
    "124M": 124_439_808,
    "355M": 354_823_168,
    "774M": 774_030_080,
    "1558M": 1_557_611_200,
}


@pytest.mark.parametrize("size", SIZES)
def test_presets_have_the_published_number_of_parameters(size):
    with torch.device("meta"):
        model = GPT(ModelConfig(**SIZES[size], vocab_size=50257))
    assert model.parameter_count() == PUBLISHED[size]
    assert model.token_embedding.num_embeddings == 50304  # the next multiple of 128
    assert model.token_embedding.num_embeddings % 128 == 0


def test_a_vocabulary_that_fits_is_not_widened():
    model = GPT(dataclasses.replace(TINY, vocab_size=128))
    assert model.token_embedding.num_embeddings == 128
    assert model.parameter_count() == sum(p.numel() for p in model.parameters())


@torch.no_grad()
def test_124m_starts_at_the_loss_of_an_honest_guess():
    """ln V for knowing nothing, and C * 0.02^2 / 2 for the spread of the tied head's logits."""
    config = ModelConfig(**SIZES["124M"], context=128, vocab_size=50257)
    ids = random_ids(4, config.context + 1, config)
    loss = GPT(config)(ids[:, :-1], ids[:, 1:]).item()
    assert loss == pytest.approx(math.log(50257) + 768 * 0.02**2 / 2, abs=0.05)


def test_weights_start_with_the_published_spread():
    layers = 6
    config = ModelConfig(layers=layers, heads=4, width=128, context=256, vocab_size=512)
    model = GPT(config)
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            into_residual = ".attention.out." in name or ".mlp.out." in name
            spread = 0.02 / math.sqrt(2 * layers) if into_residual else 0.02
            assert parameter.std().item() == pytest.approx(spread, rel=0.03), name
            assert abs(parameter.mean().item()) < spread / 20, name
        else:
            start = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            assert torch.equal(parameter, torch.full_like(parameter, start)), name


def test_the_same_seed_gives_the_same_weights():
    first, second = (torch.manual_seed(5) and GPT(TINY).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


# Loss and gradient.


@torch.no_grad()
def test_loss_is_the_cross_entropy_of_the_true_vocabulary():
    """In float64, whatever stands in the widened vocabulary's padding."""
    model = lively(TINY, torch.float64)
    model.token_embedding.weight[TINY.vocab_size :] = 1e3
    ids = random_ids(3, 9)
    rows = model(ids[:, :-1])
    assert rows.shape == (3, 8, TINY.vocab_size)
    table = model.token_embedding.weight[: TINY.vocab_size]
    torch.testing.assert_close(rows, model.hidden(ids[:, :-1]) @ table.T)
    naive = [
        [math.log(sum(map(math.exp, row))) - row[target] for row, target in zip(*sequence)]
        for sequence in zip(rows.tolist(), ids[:, 1:].tolist())
    ]
    each = model(ids[:, :-1], ids[:, 1:], reduction="none")
    torch.testing.assert_close(each, torch.tensor(naive, dtype=torch.float64))
    mean = fmean(loss for sequence in naive for loss in sequence)
    assert model(ids[:, :-1], ids[:, 1:]).item() == pytest.approx(mean, rel=1e-12)


def test_padding_ids_get_no_gradient():
    model = lively(TINY)
    ids = random_ids(3, 9)
    model(ids[:, :-1], ids[:, 1:]).backward()
    gradient = model.token_embedding.weight.grad
    assert not gradient[TINY.vocab_size :].any()
    assert gradient[: TINY.vocab_size].any(dim=1).all()


@pytest.mark.parametrize(("rows", "compiled"), [(1, False), (7, False), (35, False), (7, True)])
def test_a_loss_in_parts_is_the_loss(monkeypatch, rows, compiled):
    """Value and gradients, in float64; also for a mean that is divided, and with odd last parts."""
    model = lively(TINY, torch.float64)
    model.token_embedding.weight.data[TINY.vocab_size :] = 1e3
    ids = random_ids(3, 13)

    def results():
        # Traced as for Inductor, whose C++ would take most of a minute.
        traced = torch.compile(model, backend="aot_eager_decomp_partition")
        loss = (traced if compiled else model)(ids[:, :-1], ids[:, 1:]) / 3
        return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]

    plain = results()
    monkeypatch.setattr(model_module, "LOGITS_AT_ONCE", rows * 128)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        loss = model(ids[:, :-1], ids[:, 1:])
    assert not any(36 in t.shape and 65 in t.shape for t in kept)
    assert loss.item() == pytest.approx(3 * plain[0].item(), rel=1e-12)
    for part, whole in zip(results(), plain):
        torch.testing.assert_close(part, whole, rtol=1e-10, atol=1e-13)


def test_a_loss_in_parts_keeps_the_small_gradients_of_fp16(monkeypatch):
    """Its mean is taken last, where a loss scale has come in: no share of 1/N is rounded to 0."""
    monkeypatch.setattr(model_module, "LOGITS_AT_ONCE", 10 * 128)
    model = lively(TINY)
    ids = random_ids(64, 13)
    exact = torch.autograd.grad(model(ids[:, :-1], ids[:, 1:]), model.token_embedding.weight)[0]
    with torch.autocast("cpu", torch.float16):
        loss = model(ids[:, :-1], ids[:, 1:]) * 2.0**12
    narrow = torch.autograd.grad(loss, model.token_embedding.weight)[0] / 2.0**12
    assert (narrow - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_loss_in_parts_is_as_near_to_the_true_one_as_the_whole(monkeypatch, dtype):
    """Gradients of hidden states and head, each against float64: rounding is all that differs."""
    hidden, weight = torch.randn(2, 128, 32), torch.randn(1024, 32) / 3
    targets = torch.randint(1000, (2, 128))

    def gradients(dtype, in_parts):
        wide = torch.float64 if dtype is None else torch.float32
        x, head = (t.detach().to(wide, copy=True).requires_grad_() for t in (hidden, weight))
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            if in_parts:
                given = (x.flatten(0, 1), head, targets.flatten(), 1000, 0.0)
                loss = model_module.LossInParts.apply(*given)
            else:
                logits = F.linear(x, head)[..., :1000]
                loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return torch.autograd.grad(loss * 256, [x, head])

    monkeypatch.setattr(model_module, "LOGITS_AT_ONCE", 50 * 1024)
    true, whole, parts = gradients(None, False), gradients(dtype, False), gradients(dtype, True)
    for exact, one, other in zip(true, whole, parts):
        assert (other - exact).norm() <= 1.05 * (one - exact).norm() < 0.01 * exact.norm()


def test_micro_batches_add_up_to_the_batch():
    model = lively(TINY, torch.float64)
    ids = random_ids(12, 9)
    whole = torch.autograd.grad(model(ids[:, :-1], ids[:, 1:]), list(model.parameters()))
    for size in (1, 3, 6):
        parts = ids.split(size)
        for part in parts:
            (model(part[:, :-1], part[:, 1:]) / len(parts)).backward()
        for parameter, gradient in zip(model.parameters(), whole):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-13)
        model.zero_grad()


def test_every_parameter_learns():
    model = lively(TINY)
    ids = random_ids(4, TINY.context + 1)
    model(ids[:, :-1], ids[:, 1:]).backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_a_batch_can_be_learned_by_heart():
    config = dataclasses.replace(TINY, width=32)
    model = GPT(config)
    optimizer = build_optimizer(model, TrainConfig(lr=1e-2))
    ids = random_ids(4, config.context + 1)
    for _ in range(80):
        loss = model(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


# Dropout.


@torch.no_grad()
def test_dropout_acts_in_training_only():
    config = dataclasses.replace(TINY, dropout=0.4)
    model, plain = lively(config), GPT(TINY)
    plain.load_state_dict(model.state_dict())
    ids = random_ids(2, 8)
    assert torch.equal(model.eval()(ids), plain.train()(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))


@torch.no_grad()
def test_dropout_acts_on_embedding_attention_and_both_residuals(monkeypatch):
    shares, dropped = [], []
    config = dataclasses.replace(TINY, dropout=0.4)
    model = lively(config)

    def attend_noting(q, k, v, dropout=0.0):
        shares.append(dropout)
        return attend(q, k, v)

    monkeypatch.setattr(model_module, "attend", attend_noting)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda *call: dropped.append((call[2] == 0).float()))
    model(random_ids(16, TINY.context))
    assert shares == [0.4] * TINY.layers
    assert len(dropped) == 1 + 2 * TINY.layers
    assert all(zeros.mean().item() == pytest.approx(0.4, abs=0.05) for zeros in dropped)


def test_attention_by_hand_drops_out_weights_and_scales_the_rest():
    q, k = torch.randn(2, 1, 1, 1, 4)
    v = torch.ones(1, 1, 1, 4)
    seen = {attend_by_hand(q, k, v, 0.5).max().item() for _ in range(50)}
    assert seen == {0.0, 2.0}
    assert torch.equal(attend_by_hand(q, k, v), F.scaled_dot_product_attention(q, k, v))
