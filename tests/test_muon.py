"""Muon: its parts against others' or written out, its state, and exact resume with the model
that it was made for."""

import dataclasses
import math
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ranks import Ranks
from safetensors.torch import load_file
from test_optim import assert_they_go_on_alike
from torch import nn

from buildgpt.gpt import checkpoint
from buildgpt.gpt.config import ModelConfig, ModernConfig, TrainConfig, UsageError, UserError
from buildgpt.gpt.model import GPT
from buildgpt.gpt.modern import build
from buildgpt.gpt.optim import (
    MOMENTUM,
    Muon,
    build_optimizer,
    load_optimizer_tensors,
    momentum,
    optimizer_tensors,
    orthogonalise,
    set_rates,
    shrink,
)
from buildgpt.gpt.train import Trainer

CONFIG = ModelConfig(
    layers=2, heads=2, width=8, context=6, vocab_size=11, architecture="modern", init_std=0.3
)
MUON = TrainConfig(optimizer="muon", lr=1e-2, matrix_lr=2e-2, weight_decay=0.1)
MODERN = ["model.architecture=modern", "train.optimizer=muon", "train.normuon=true"]


def with_gradients(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


def modern() -> GPT:
    return build(CONFIG, ModernConfig())


# Orthogonalising.


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 8, 32), (2, 32, 8), (1, 5, 7)])
def test_all_singular_values_come_near_one(shape):
    matrices = torch.randn(shape)
    found = orthogonalise(matrices, torch.float32)
    u, values, v = torch.linalg.svd(matrices.double(), full_matrices=False)
    assert found.shape == matrices.shape
    for mine, left, right, before in zip(found.double(), u, v, values):
        rotated = left.T @ mine @ right.T  # in the matrix's own axes, it is diagonal
        assert (rotated - rotated.diagonal().diag()).abs().max() < 1e-3
        large = before > before.max() / 20  # the smallest take more than five steps
        assert (rotated.diagonal()[large] > 0.6).all()
        assert (rotated.diagonal() < 1.3).all()


def test_size_does_not_count_and_zero_stays_zero():
    matrices = torch.randn(2, 6, 9)
    both = (orthogonalise(matrices * size, torch.float32) for size in (1, 1000))
    torch.testing.assert_close(*both, rtol=1e-3, atol=1e-4)
    assert not orthogonalise(torch.zeros(2, 6, 9), torch.float32).any()


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e-8])
def test_in_fp16_small_gradients_are_not_lost(size):
    matrices = torch.randn(2, 32, 48) * size
    narrow, exact = (orthogonalise(matrices, dtype) for dtype in (torch.float16, torch.float32))
    assert (narrow - exact).norm() < 0.03 * exact.norm()


def test_stacked_matrices_do_not_touch_each_other():
    matrices = torch.randn(4, 6, 9)
    alone = torch.cat([orthogonalise(m[None], torch.float32) for m in matrices])
    torch.testing.assert_close(orthogonalise(matrices, torch.float32), alone)


def test_bf16_gives_nearly_the_same():
    matrices = torch.randn(2, 16, 16)
    wide, narrow = (orthogonalise(matrices, d) for d in (torch.float32, torch.bfloat16))
    assert narrow.dtype == torch.float32
    assert (wide - narrow).norm() < 0.1 * wide.norm()


# The update.


def muon_naively(weight, gradients, config, rates, parts):
    """One matrix, update by update, as published: float64, an iteration written out."""
    weight = weight.double()
    heavy, usual = torch.zeros_like(weight), torch.zeros(len(weight), 1, dtype=torch.float64)
    for gradient, rate in zip(gradients, rates):
        gradient = gradient.double()
        heavy = 0.95 * heavy + 0.05 * gradient
        ahead = 0.05 * gradient + 0.95 * heavy
        update = torch.cat([five_steps(part) for part in ahead.chunk(parts)])
        if config.normuon:
            squares = (update**2).mean(dim=1, keepdim=True)
            usual = config.beta2 * usual + (1 - config.beta2) * squares
            even = update / usual.sqrt()
            update = even * update.norm() / even.norm()
        decaying = update * weight > 0 if config.cautious_decay else torch.ones_like(weight)
        weight = weight - rate * config.weight_decay * weight * decaying
        rows, columns = len(weight) // parts, weight.shape[1]
        weight = weight - rate * math.sqrt(max(1, rows / columns)) * update
    return weight


def five_steps(x):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = x / x.norm()
    for _ in range(5):
        x = a * x + b * (x @ x.T @ x) + c * (x @ x.T @ x @ x.T @ x)
    return x


@pytest.mark.parametrize("normuon", [True, False])
@pytest.mark.parametrize("cautious", [True, False])
def test_muon_is_the_published_one(normuon, cautious):
    model = modern()
    config = dataclasses.replace(MUON, normuon=normuon, cautious_decay=cautious)
    optimizer = build_optimizer(model, config)
    names = {
        "blocks.0.attention.qkv.weight": 3,
        "blocks.1.attention.out.weight": 1,
        "blocks.0.mlp.up.weight": 1,
        "blocks.1.mlp.out.weight": 1,
    }
    begun = {name: model.get_parameter(name).detach().clone() for name in names}
    seen: dict[str, list] = {name: [] for name in names}
    for rate in (1.0, 0.5, 0.25):
        with_gradients(model)
        for name in names:
            seen[name].append(model.get_parameter(name).grad.clone())
        set_rates(optimizer, config.lr * rate, 0.95)
        optimizer.step()
    rates = [config.matrix_lr * rate for rate in (1.0, 0.5, 0.25)]
    for name, parts in names.items():
        expected = muon_naively(begun[name], seen[name], config, rates, parts)
        found = model.get_parameter(name).detach().double()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-5)


def test_the_rest_goes_by_adamw():
    model, other = modern(), modern()
    other.load_state_dict(model.state_dict())
    optimizer = build_optimizer(model, MUON)
    shares = {"embedding": 6.0, "head": 0.5}  # of the rate; of vectors it is the whole
    groups = [
        {"params": [p], "share": next((s for kind, s in shares.items() if kind in name), 1.0)}
        for name, p in other.named_parameters()
    ]
    adamw = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0)
    for rate in (0.1, 0.05):
        with_gradients(model)
        for mine, theirs in zip(model.parameters(), other.parameters()):
            theirs.grad = mine.grad.clone()
        set_rates(optimizer, rate, 0.95)
        optimizer.step()
        for group in adamw.param_groups:
            group["lr"] = rate * group["share"]
        adamw.step()
    for (name, mine), theirs in zip(model.named_parameters(), other.parameters()):
        is_matrix = name.startswith("blocks.") and mine.dim() == 2
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6) != is_matrix, name


def test_cautious_decay_only_helps_what_shrinks_anyway():
    weights, updates = torch.tensor([[1.0, 1.0, -1.0, -1.0]]), torch.tensor([[1.0, -1, 1, -1]])
    shrink([weights], updates[None], 0.5, MUON)
    assert weights.tolist() == [[0.5, 1.0, -1.0, -0.5]]


@given(steps=st.integers(1, 3000))
def test_momentum_rises_stays_and_falls(steps):
    low, high = MOMENTUM
    values = [momentum(step, steps) for step in range(steps + 1)]
    assert values[0] == low
    assert min(values) >= low
    assert max(values) <= high
    assert values[steps] == pytest.approx(low)
    if steps >= 1200:
        assert values[300 : steps - 49] == pytest.approx([high] * (steps - 349))


# Its state.


@pytest.mark.parametrize("normuon", [True, False])
def test_a_restored_optimizer_goes_on_in_the_same_bits(normuon):
    config = dataclasses.replace(MUON, normuon=normuon)
    model, copy = modern(), modern()
    optimizer = build_optimizer(model, config)
    for _ in range(3):
        with_gradients(model)
        optimizer.step()
    copy.load_state_dict(model.state_dict())
    copied = build_optimizer(copy, config)
    saved = {name: t.clone() for name, t in optimizer_tensors(model, optimizer).items()}
    assert saved["blocks.0.mlp.up.weight/momentum"].shape == (32, 8)
    assert ("blocks.0.mlp.up.weight/second_moment" in saved) == normuon
    assert saved["head.weight/step"] == 3
    load_optimizer_tensors(copy, copied, saved)
    assert_they_go_on_alike(model, optimizer, copy, copied)


def test_another_optimizers_state_is_refused():
    model = modern()
    states = {}
    for name, config in {
        "muon": MUON,
        "plain": dataclasses.replace(MUON, normuon=False),
        "adamw": TrainConfig(),
    }.items():
        optimizer = build_optimizer(model, config)
        with_gradients(model)
        optimizer.step()
        states[name] = optimizer_tensors(model, optimizer)
    for theirs in ("plain", "adamw"):
        with pytest.raises(UserError, match="another model"):
            load_optimizer_tensors(model, build_optimizer(model, MUON), states[theirs])
    load_optimizer_tensors(model, build_optimizer(model, MUON), states["muon"])


def test_gpt2_can_be_trained_by_muon_too():
    model = GPT(dataclasses.replace(CONFIG, architecture="gpt2"))
    optimizer = build_optimizer(model, MUON)
    assert isinstance(optimizer, Muon)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(model.parameters()))


# Runs.


def state(run):
    newest = checkpoint.choose_checkpoint(run)
    return load_file(newest / "model.safetensors") | load_file(newest / "optimizer.safetensors")


def test_a_resumed_run_ends_in_the_same_bits(fit):
    settings = [*MODERN, "train.double_at=[3,5]"]
    through = fit("through", *settings, "train.steps=20")
    # The second half of the momentum's and the rate's course is known from the beginning.
    fit("halved", *settings, "train.steps=20", "train.checkpoint_every=10")
    for folder in checkpoint.find_checkpoints(through.parent / "halved"):
        if checkpoint.step_of(folder) > 10:
            checkpoint.remove_checkpoint(folder)
    (through.parent / "halved" / "state").write_text("RUNNING\n")
    halved = fit("halved", resume=True)
    mine, theirs = state(halved), state(through)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("switch", [f.name for f in dataclasses.fields(ModernConfig)])
def test_a_run_without_a_switch_trains(switch, fit):
    short = ["train.steps=2", "train.eval_every=0", "sample.at=[]", "train.checkpoint_every=0"]
    run = fit(switch, *MODERN, *short, f"modern.{switch}=false")
    loaded = checkpoint.load_run(run)
    assert getattr(loaded.recipe.modern, switch) is False
    assert loaded.model(torch.zeros(1, 3, dtype=torch.long)).isfinite().all()


def test_a_modern_run_learns(fit):
    from buildgpt.gpt.runlog import read_metrics

    run = fit("learns", *MODERN, "train.steps=60", "train.eval_every=0")
    losses = [line["loss"] for line in read_metrics(run) if line["kind"] == "train"]
    assert losses[0] > 2.5
    assert losses[-1] < 1.6


def test_a_batch_schedule_reads_every_sequence_once(fit):
    run = fit("grows", *MODERN, "train.double_at=[2,4]", "train.steps=6")
    from buildgpt.gpt.runlog import read_metrics

    done = [line for line in read_metrics(run) if line["kind"] == "train"]
    assert [line["tokens"] for line in done] == [16, 32, 64, 96, 160, 224]


def test_windows_and_momentum_move_while_it_trains(fit, monkeypatch):
    seen, original = [], Trainer.accumulate

    def watch(self):
        [heavy] = {g["momentum"] for g in self.optimizer.param_groups if "momentum" in g}
        seen.append((int(self.model.window), round(heavy, 6)))
        return original(self)

    monkeypatch.setattr(Trainer, "accumulate", watch)
    fit("run", *MODERN, "train.steps=8")
    windows, momenta = zip(*seen)
    assert windows == (4, 4, 8, 8, 12, 12, 16, 16)
    assert momenta == tuple(round(momentum(step, 8), 6) for step in range(8))
    assert len(set(momenta)) > 1


def test_a_modern_run_can_be_the_beginning_of_another(fit):
    run = fit("first", *MODERN, "modern.softcap=false", "train.steps=2")
    second = fit("second", *MODERN, f"train.init_from={run}", "train.steps=1")
    assert checkpoint.load_run(second).recipe.modern.softcap is False


def test_muon_and_fsdp_do_not_go_together(fit, monkeypatch):
    with pytest.raises(UsageError, match=r'train.optimizer = "muon" .* runtime.parallel'):
        fit("both", *MODERN, "runtime.parallel=fsdp")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_two_ranks_train_like_one(fit, tiny, runs, tmp_path):
    """Each orthogonalises its share; both end with the same weights, one rank's but for
    rounding."""
    settings = [*MODERN, "train.steps=6", "train.tokens_per_step=128"]
    alone = fit("alone", *settings)
    words = [str(tiny), "--name", "several", "--runs", str(runs)]
    words += [word for setting in settings for word in ("--set", setting)]
    ranks = Ranks(2, words, tmp_path / "said")
    assert ranks.wait() == [0, 0], ranks.said()
    mine, theirs = state(runs / "several"), state(alone)
    assert mine.keys() == theirs.keys()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-3, atol=1e-4)


def test_what_ranks_share_out_is_put_together_again(monkeypatch):
    """Three ranks, five matrices: the last rank's share is filled up with zeros."""
    from buildgpt.gpt import optim

    matrices, parts = torch.randn(5, 4, 6), {}
    monkeypatch.setattr(optim.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(optim.dist, "get_world_size", lambda: 3)

    def gather(whole: torch.Tensor, mine: torch.Tensor) -> None:
        parts[optim.dist.get_rank()] = mine
        if len(parts) == 3:
            whole.copy_(torch.cat([parts[rank] for rank in range(3)]))

    monkeypatch.setattr(optim.dist, "all_gather_into_tensor", gather)
    for rank in range(3):
        monkeypatch.setattr(optim.dist, "get_rank", lambda rank=rank: rank)
        found = optim.orthogonalise_together(matrices, torch.float32)
    torch.testing.assert_close(found, orthogonalise(matrices, torch.float32))
