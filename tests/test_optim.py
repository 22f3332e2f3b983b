"""Parameter groups, AdamW, clipping and the schedules, against ones written out here."""

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from buildgpt.gpt.config import ModelConfig, TrainConfig, UserError
from buildgpt.gpt.model import GPT
from buildgpt.gpt.optim import (
    build_optimizer,
    clip_gradients,
    learning_rate,
    load_optimizer_tensors,
    optimizer_tensors,
    parameter_groups,
    set_rates,
)

TINY = ModelConfig(layers=2, heads=2, width=8, context=6, vocab_size=11)


def with_gradients(model: nn.Module, scale: float = 1.0) -> nn.Module:
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * scale
    return model


# Parameter groups.


def test_matrices_decay_and_vectors_do_not():
    model = GPT(TINY)
    names = {parameter: name for name, parameter in model.named_parameters()}
    decaying, rest = parameter_groups(model, 0.3)
    assert (decaying["weight_decay"], rest["weight_decay"]) == (0.3, 0.0)
    found = {names[p] for p in decaying["params"]}
    assert found == {
        "token_embedding.weight",
        "position_embedding.weight",
        *(
            f"blocks.{i}.{part}.weight"
            for i in range(2)
            for part in ("attention.qkv", "attention.out", "mlp.up", "mlp.out")
        ),
    }
    assert {names[p] for p in rest["params"]} == set(names.values()) - found
    assert len(decaying["params"]) + len(rest["params"]) == len(names)


# AdamW.


def adamw_naively(weights, gradients, step, state, rate, config, decay) -> list[float]:
    """Loshchilov and Hutter 2019, algorithm 2, one number at a time, in float64."""
    new = []
    for i, (weight, gradient) in enumerate(zip(weights, gradients)):
        m, v = state.get(i, (0.0, 0.0))
        m = config.beta1 * m + (1 - config.beta1) * gradient
        v = config.beta2 * v + (1 - config.beta2) * gradient**2
        state[i] = m, v
        m_hat, v_hat = m / (1 - config.beta1**step), v / (1 - config.beta2**step)
        new.append(weight - rate * (m_hat / (math.sqrt(v_hat) + 1e-8) + decay * weight))
    return new


def test_adamw_is_the_published_one():
    model = nn.Linear(3, 2)
    config = TrainConfig(weight_decay=0.3, beta1=0.8, beta2=0.9)
    optimizer = build_optimizer(model, config)
    expected = [p.detach().double().flatten().tolist() for p in model.parameters()]
    states: list[dict] = [{}, {}]
    for step, rate in enumerate((0.1, 0.2, 0.05, 0.01), 1):
        with_gradients(model)
        set_rates(optimizer, rate, 0.95)
        optimizer.step()
        for i, parameter in enumerate(model.parameters()):
            gradient = parameter.grad.double().flatten().tolist()
            decay = config.weight_decay if parameter.dim() == 2 else 0.0
            expected[i] = adamw_naively(expected[i], gradient, step, states[i], rate, config, decay)
            assert parameter.flatten().tolist() == pytest.approx(expected[i], rel=2e-5, abs=2e-6)


def test_adamw_is_fused_where_there_is_a_fused_one():
    assert build_optimizer(GPT(TINY), TrainConfig()).defaults["fused"] is True


# Clipping.


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_clipping_scales_all_gradients_alike(scale):
    model = with_gradients(GPT(TINY), scale)
    before = [p.grad.double().clone() for p in model.parameters()]
    norm = math.sqrt(sum(g.square().sum().item() for g in before))
    assert clip_gradients(model, 0.5).item() == pytest.approx(norm, rel=1e-5)
    factor = min(1.0, 0.5 / norm)
    for parameter, gradient in zip(model.parameters(), before):
        torch.testing.assert_close(parameter.grad.double(), gradient * factor, rtol=1e-4, atol=0)


def test_a_limit_of_zero_clips_nothing():
    model = with_gradients(GPT(TINY), 1e3)
    before = [p.grad.clone() for p in model.parameters()]
    norm = math.sqrt(sum(g.double().square().sum().item() for g in before))
    assert clip_gradients(model, 0.0).item() == pytest.approx(norm, rel=1e-5)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before))


def test_clipping_reports_a_gradient_that_is_not_finite():
    model = with_gradients(GPT(TINY))
    next(model.parameters()).grad[0, 0] = math.nan
    assert math.isnan(clip_gradients(model, 1.0).item())


# Schedules.


def rates(steps: int, **settings) -> list[float]:
    config = TrainConfig(**{"lr": 2.0, "warmup_steps": 10, "final_lr": 0.1} | settings)
    return [learning_rate(step, steps, config) for step in range(steps + 1)]


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
@pytest.mark.parametrize("warmup", [0, 1, 10])
@pytest.mark.parametrize("final", [0.0, 0.1, 1.0])
def test_rates_rise_to_the_highest_and_never_again(schedule, warmup, final):
    found = rates(50, schedule=schedule, warmup_steps=warmup, final_lr=final)
    assert found[0] > 0  # the first update is not wasted
    assert found[49] > 0  # nor the last
    assert max(found) == found[warmup] == 2.0
    steps = [(warmup + 1) * rate / 2.0 for rate in found[: warmup + 1]]
    assert steps == pytest.approx(range(1, warmup + 2))  # a straight line
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
    assert found[50] == pytest.approx(2.0 * final)


def test_cosine_is_half_a_cosine():
    found = rates(110, schedule="cosine")
    for step in range(10, 111):
        share = 0.5 * (1 + math.cos(math.pi * (step - 10) / 100))
        assert found[step] == pytest.approx(2.0 * (0.1 + 0.9 * share))
    assert found[60] == pytest.approx(2.0 * 0.55)


def test_wsd_stays_and_then_falls_in_a_line():
    found = rates(110, schedule="wsd", decay_share=0.2)
    assert found[10:91] == pytest.approx([2.0] * 81)
    falls = [before - after for before, after in pairwise(found[90:])]
    assert falls == pytest.approx([2.0 * 0.9 / 20] * 20)


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
@pytest.mark.parametrize("steps", [1, 5, 10, 11])
def test_a_run_as_short_as_its_warm_up_has_rates(schedule, steps):
    found = rates(steps, schedule=schedule)
    assert all(0 < rate <= 2.0 for rate in found)
    assert found[: min(steps, 10)] == sorted(found[: min(steps, 10)])


def test_beyond_the_last_step_the_rate_stays_at_its_end():
    config = TrainConfig(lr=2.0, warmup_steps=10)
    assert learning_rate(500, 110, config) == pytest.approx(0.2)


def test_every_group_gets_the_rate():
    optimizer = build_optimizer(GPT(TINY), TrainConfig())
    set_rates(optimizer, 0.125, 0.95)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]


# The optimizer's state, for checkpoints.


def trained(config: ModelConfig = TINY) -> tuple[GPT, torch.optim.Optimizer]:
    model = GPT(config)
    optimizer = build_optimizer(model, TrainConfig(lr=1e-2))
    for _ in range(3):
        with_gradients(model)
        optimizer.step()
    return model, optimizer


def test_state_is_kept_under_the_parameters_names():
    model, optimizer = trained()
    tensors = optimizer_tensors(model, optimizer)
    names = [name for name, _ in model.named_parameters()]
    assert set(tensors) == {
        f"{name}/{key}" for name in names for key in ("step", "exp_avg", "exp_avg_sq")
    }
    assert tensors["norm.bias/step"] == 3
    assert tensors["norm.bias/exp_avg"].shape == model.norm.bias.shape


def assert_they_go_on_alike(model, optimizer, copy, copied):
    """Two more steps with the same gradients leave both with the same state and weights."""
    for _ in range(2):
        for mine, theirs in zip(model.parameters(), copy.parameters()):
            mine.grad = torch.randn_like(mine)
            theirs.grad = mine.grad.clone()
        optimizer.step()
        copied.step()
    again = optimizer_tensors(copy, copied)
    assert all(torch.equal(t, again[n]) for n, t in optimizer_tensors(model, optimizer).items())
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), copy.parameters()))


def test_a_restored_optimizer_goes_on_in_the_same_bits():
    model, optimizer = trained()
    copy = GPT(TINY)
    copy.load_state_dict(model.state_dict())
    copied = build_optimizer(copy, TrainConfig(lr=1e-2))
    saved = {name: t.clone() for name, t in optimizer_tensors(model, optimizer).items()}
    load_optimizer_tensors(copy, copied, saved)
    assert_they_go_on_alike(model, optimizer, copy, copied)


@pytest.mark.parametrize("other", [{"layers": 3}, {"width": 16}, {"vocab_size": 200}])
def test_another_models_state_is_refused(other):
    model, optimizer = trained(dataclasses.replace(TINY, **other))
    tensors = optimizer_tensors(model, optimizer)
    target = GPT(TINY)
    with pytest.raises(UserError, match="another model"):
        load_optimizer_tensors(target, build_optimizer(target, TrainConfig()), tensors)


def test_no_state_is_a_fresh_start():
    """Imported weights come without any."""
    model = GPT(TINY)
    optimizer = build_optimizer(model, TrainConfig())
    load_optimizer_tensors(model, optimizer, {})
    with_gradients(model)
    optimizer.step()
    assert optimizer_tensors(model, optimizer)["norm.bias/step"] == 1
