"""The loop: which tokens a step reads, what it computes, what it writes down, how it ends."""

import errno
import json
import math
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from buildgpt import api
from buildgpt.gpt import begun, checkpoint, data, ending, optim, runlog, runtime, train
from buildgpt.gpt.config import DataConfig, TrainConfig, UsageError, UserError, load_recipe
from buildgpt.gpt.tokenizer import ByteTokenizer

FILES = ("model.safetensors", "optimizer.safetensors")


def newest(run: Path) -> Path:
    return checkpoint.choose_checkpoint(run)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(newest(run) / "model.safetensors")


def lines(run: Path, kind: str) -> list[dict]:
    return [line for line in runlog.read_metrics(run) if line["kind"] == kind]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in lines(run, "train")]


def same_bits(one: Path, other: Path) -> bool:
    """Whether two runs' newest checkpoints hold the same weights and the same optimizer state."""
    for name in FILES:
        a, b = (load_file(newest(run) / name) for run in (one, other))
        if a.keys() != b.keys() or not all(torch.equal(a[k], b[k]) for k in a):
            return False
    return True


def close(one: Path, other: Path, tolerance: float) -> bool:
    a, b = weights(one), weights(other)
    return all(torch.allclose(a[k], b[k], atol=tolerance, rtol=0) for k in a)


def first_loss_of(model: torch.nn.Module, folder: Path, context: int, sequences: int, seed: int):
    """The loss on the sequences of the first step, written out."""
    stream = data.Corpus(DataConfig(path=str(folder))).train
    x, y = data.Batches(stream, context, seed)(0, sequences)
    with torch.no_grad():
        logits = model(x)
    return F.cross_entropy(logits.flatten(0, 1), y.flatten()).item()


@pytest.fixture
def read(monkeypatch):
    """The sequences that training reads, in order, as rows of inputs and a last target."""
    rows: list[torch.Tensor] = []
    original = data.Batches.__call__

    def remember(self, first, count):
        x, y = original(self, first, count)
        rows.extend(torch.cat([x, y[:, -1:]], dim=1))
        return x, y

    monkeypatch.setattr(data.Batches, "__call__", remember)
    return rows


def test_aligned_sequences_begin_with_documents(read, fit, tmp_path):
    writers = {split: data.ShardWriter(tmp_path, split) for split in data.SPLITS}
    for number in range(60):
        for writer in writers.values():
            writer.add([256, *range(number, number + 7 + number % 20)])
    splits = {split: writer.close() for split, writer in writers.items()}
    data.write_manifest(tmp_path, ByteTokenizer(), splits)
    wishes = [f"data.path={tmp_path}", "data.align=documents", "sample.prompt=a"]
    fit("aligned", *wishes)
    assert len(read) == 8 * 4
    assert {int(row[0]) for row in read} == {256}
    assert sum(256 in row[1:-1] for row in read) > 8  # others follow in the same sequence
    with pytest.raises(UsageError, match=r"data\.align cannot change in a run"):
        fit("aligned", "data.align=none", resume=True)


def test_shifts_and_noise_are_the_same_after_a_resume(read, fit, words, tmp_path):
    """At 32 sequences in a run and some 9 in this text; the rate is the same for any steps."""
    (tmp_path / "short.txt").write_text(words[:180])
    api.prepare([tmp_path / "short.txt"], tmp_path / "short")
    wishes = [f"data.path={tmp_path / 'short'}", "data.val_tokens=0", "train.final_lr=1"]
    wishes += ["sample.prompt="]
    fit("plain", *wishes)
    assert len({tuple(row.tolist()) for row in read}) < 16
    read.clear()
    fit("shifted", *wishes, "data.align=shifted")
    shifted = list(read)
    assert len({tuple(row.tolist()) for row in shifted}) > 24
    wishes += ["data.align=shifted", "data.noise=0.2"]
    read.clear()
    whole = fit("whole", *wishes)
    assert not torch.equal(torch.stack(read), torch.stack(shifted))
    fit("run", *wishes, "train.steps=5")
    with pytest.raises(UsageError, match=r"data\.noise cannot change in a run"):
        fit("run", "data.noise=0", resume=True)
    resumed = fit("run", "train.steps=8", resume=True)
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (newest(resumed) / name).read_bytes() == (newest(whole) / name).read_bytes()


@pytest.fixture
def trainer(tiny, runs):
    """A trainer of the tiny recipe before its first step, with settings."""

    def trainer(*settings: str) -> train.Trainer:
        recipe = load_recipe(tiny, list(settings))
        return train.Trainer(runs / "x", recipe, runtime.start_runtime(recipe.runtime), 0.0, "")

    return trainer


@pytest.fixture
def poison(monkeypatch):
    """poison(step) makes the gradients of the update after `step` updates NaN."""

    def poison(step: int) -> None:
        original = train.Trainer.accumulate

        def poisoned(self):
            loss = original(self)
            if self.step == step:
                next(self.model.parameters()).grad.fill_(math.nan)
            return loss

        monkeypatch.setattr(train.Trainer, "accumulate", poisoned)

    return poison


@pytest.fixture
def stop(monkeypatch):
    """stop(step, signal) sends this process a signal in the middle of that step's update."""

    def stop(step: int, number: int = signal.SIGTERM) -> None:
        original = train.Trainer.accumulate

        def interrupted(self):
            if self.step == step - 1:
                os.kill(os.getpid(), number)
            return original(self)

        monkeypatch.setattr(train.Trainer, "accumulate", interrupted)

    return stop


# Which tokens a step reads.


def test_the_tokens_of_a_step_do_not_depend_on_the_micro_batch(fit, read):
    orders = []
    for micro_batch in (1, 2, 4):
        fit(f"m{micro_batch}", f"train.micro_batch={micro_batch}")
        orders.append(torch.stack(read))
        read.clear()
    assert orders[0].shape == (8 * 4, 17)
    assert torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0], orders[2])


def test_the_tokens_of_a_step_do_not_depend_on_restarts(fit, read, stop):
    fit("whole")
    whole = torch.stack(read)
    read.clear()
    stop(3)
    fit("cut")
    fit("cut", resume=True)
    assert torch.equal(torch.stack(read), whole)


def test_another_seed_reads_in_another_order(fit, read):
    fit("one")
    one = torch.stack(read)
    read.clear()
    fit("other", "train.seed=7")
    assert not torch.equal(torch.stack(read), one)


def test_the_cut_into_shards_changes_no_bit(fit, corpus, tmp_path):
    recut = tmp_path / "recut"
    recut.mkdir()
    whole = data.Corpus(DataConfig(path=str(corpus)))
    splits = {}
    for split in data.SPLITS:
        writer = data.ShardWriter(recut, split, shard_tokens=97)
        stream = getattr(whole, split)
        writer.add(stream.read(0, len(stream)))
        splits[split] = writer.close()
    data.write_manifest(recut, whole.tokenizer, splits)
    assert len(list(recut.glob("*train*"))) > 20
    one, other = fit("one"), fit("other", f"data.path={recut}")
    assert same_bits(one, other)
    assert lines(one, "val")[-1]["loss"] == lines(other, "val")[-1]["loss"]


# What a step computes.


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_accumulated_gradients_are_those_of_one_big_batch(trainer, micro_batch):
    us = trainer(f"train.micro_batch={micro_batch}")
    total = us.accumulate()
    x, y = us.batches(0, 4)
    plain = F.cross_entropy(us.model(x).flatten(0, 1), y.flatten())
    gradients = torch.autograd.grad(plain, list(us.model.parameters()))
    assert abs(total.item() - plain.item()) < 1e-6
    for parameter, gradient in zip(us.model.parameters(), gradients):
        assert torch.allclose(parameter.grad, gradient, atol=1e-7, rtol=1e-4)


def test_accumulation_trains_like_one_big_batch(fit):
    one, four = fit("one", "train.micro_batch=4"), fit("four", "train.micro_batch=1")
    assert np.allclose(losses(one), losses(four), atol=1e-5)
    assert close(one, four, 1e-4)


def test_training_makes_the_loss_smaller(fit):
    run = fit("run", "train.steps=60", "train.checkpoint_every=0", "train.eval_every=0")
    assert losses(run)[-1] < losses(run)[0] - 0.5


def test_training_twice_gives_the_same_bits(fit):
    assert same_bits(fit("one", "model.dropout=0.2"), fit("two", "model.dropout=0.2"))


def test_looking_around_changes_no_bit(fit):
    plain = fit("plain", "model.dropout=0.2", "train.eval_every=0", "sample.at=[]")
    nosy = fit("nosy", "model.dropout=0.2", "train.eval_every=1", "sample.every=1")
    assert same_bits(plain, nosy)


def test_the_first_loss_is_that_of_a_model_which_knows_nothing(fit, trained, core):
    vocabulary = core.tokenizer.load_tokenizer(trained / "tokenizer.json").vocab_size
    assert abs(losses(trained)[0] - math.log(vocabulary)) < 0.05


def test_bf16_trains_fp32_weights(fit):
    run, exact = fit("bf16", "runtime.dtype=bf16"), fit("fp32")
    assert {t.dtype for t in weights(run).values()} == {torch.float32}
    assert lines(run, "event")[0]["dtype"] == "bfloat16"
    assert losses(run) != losses(exact)
    assert np.allclose(losses(run), losses(exact), atol=2e-2)


def test_a_compiled_module_saves_plain_names_and_agrees(fit, monkeypatch):
    compiled = []
    original = torch.compile

    def compile_eagerly(module):
        compiled.append(original(module, backend="eager"))
        return compiled[-1]

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    monkeypatch.setattr(runtime, "compiler_missing", lambda device: "")
    ours, plain = fit("compiled", "runtime.compile=on"), fit("plain")
    assert len(compiled) == 1
    assert lines(ours, "event")[0]["compiled"] is True
    assert weights(ours).keys() == weights(plain).keys()
    assert close(ours, plain, 1e-5)
    assert abs(lines(ours, "val")[-1]["loss"] - lines(plain, "val")[-1]["loss"]) < 1e-5


def test_what_cannot_be_compiled_falls_back_with_one_line(fit, monkeypatch):
    monkeypatch.setattr(runtime, "compiler_missing", lambda device: "there is no compiler")
    run = fit("run", "runtime.compile=on", "train.steps=1")
    notes = [line["message"] for line in lines(run, "event") if line["event"] == "note"]
    assert notes == ["torch.compile is off: there is no compiler"]
    assert lines(run, "event")[0]["compiled"] is False


def test_a_micro_batch_that_does_not_fit_is_refused_with_one_that_does(fit):
    with pytest.raises(UsageError, match=r"micro-batches of 3 .* 4 sequences .*micro_batch=2"):
        fit("run", "train.micro_batch=3")


def test_a_checkpoint_is_saved_when_the_newest_one_is_too_old(fit, monkeypatch):
    """By rank 0's clock, here one that a step moves on by a minute."""
    accumulate, now = train.Trainer.accumulate, [0.0]

    def slow(self):
        now[0] += 60.0
        return accumulate(self)

    monkeypatch.setattr(train.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(train.Trainer, "accumulate", slow)
    never = ["train.checkpoint_every=0", "train.keep_checkpoints=9"]
    run = fit("run", *never, "train.checkpoint_minutes=2.5")
    assert [checkpoint.step_of(c) for c in checkpoint.find_checkpoints(run)] == [3, 6, 8]
    off = fit("off", *never, "train.checkpoint_minutes=0")
    assert [checkpoint.step_of(c) for c in checkpoint.find_checkpoints(off)] == [8]


def test_a_finished_run_cannot_be_made_shorter(fit, runs):
    run = fit("run")
    before = (run / "recipe.toml").read_bytes()
    with pytest.raises(UsageError, match=r"train.steps = 5, but .*run has done 8 already"):
        fit("run", "train.steps=5", resume=True)
    assert (run / "recipe.toml").read_bytes() == before


# What it writes down.


def test_a_run_folder_holds_what_the_design_says(trained):
    assert sorted(path.name for path in trained.iterdir()) == [
        "checkpoints",
        "metrics.jsonl",
        "recipe.toml",
        "samples.txt",
        "state",
        "tokenizer.json",
    ]
    assert [p.name for p in checkpoint.find_checkpoints(trained)] == ["step_000006", "step_000008"]
    assert (trained / "state").read_text() == "DONE\n"
    recipe = load_recipe(trained / "recipe.toml")
    assert recipe.model.vocab_size > 0
    assert "beta2 = 0.95" in (trained / "recipe.toml").read_text()


def test_metrics_lines_say_where_they_stand_and_what_they_measure(trained):
    found = runlog.read_metrics(trained)
    assert len(found) == len((trained / "metrics.jsonl").read_text().splitlines())
    for line in found:
        assert line["kind"] in ("train", "val", "sample", "event")
        assert (line["attempt"], line["tokens"]) == (1, line["step"] * 64)
        assert line["seconds"] >= 0
    updates = [line for line in found if line["kind"] == "train"]
    assert [line["step"] for line in updates] == [1, 2, 3, 4, 5, 6, 7, 8]
    for line in updates:
        assert {"loss", "lr", "grad_norm", "tokens_per_second"} <= line.keys()
    assert [line["step"] for line in found if line["kind"] == "val"] == [3, 6, 8]
    assert [line["step"] for line in found if line["kind"] == "sample"] == [0, 3, 8]
    assert [line["event"] for line in found if line["kind"] == "event"] == ["start", "done"]


def test_the_first_update_has_a_learning_rate_and_the_schedule_is_followed(trained):
    config = load_recipe(trained / "recipe.toml").train
    rates = [line["lr"] for line in lines(trained, "train")]
    assert rates[0] > 0
    assert rates == [optim.learning_rate(step, 8, config) for step in range(8)]


def test_the_last_step_is_reported_whatever_the_period(fit):
    run = fit("run", "train.log_every=3")
    assert [line["step"] for line in lines(run, "train")] == [3, 6, 8]


def test_samples_are_written_for_reading(trained):
    found = lines(trained, "sample")
    expected = "".join(f"=== step {line['step']} ===\n{line['text']}\n\n" for line in found)
    assert (trained / "samples.txt").read_text() == expected
    assert all(line["text"].startswith("the ") for line in found)


def test_a_prompt_that_the_text_cannot_spell_is_left_out(fit):
    run = fit("run", "sample.prompt=ROMEO:")
    assert (run / "state").read_text() == "DONE\n"
    notes = [line["message"] for line in lines(run, "event") if line["event"] == "note"]
    assert notes == ["sample.prompt has a character that the text lacks: sampling without"]
    assert [line["step"] for line in lines(run, "sample")] == [0, 3, 8]
    assert "ROMEO" not in (run / "samples.txt").read_text()


def test_attempts_count_up_and_metrics_are_only_ever_appended(fit, stop):
    stop(3)
    run = fit("run")
    before = (run / "metrics.jsonl").read_bytes()
    fit("run", resume=True)
    after = (run / "metrics.jsonl").read_bytes()
    assert after.startswith(before)
    assert {line["attempt"] for line in runlog.read_metrics(run)} == {1, 2}
    second = [line for line in runlog.read_metrics(run) if line["attempt"] == 2]
    assert [line["step"] for line in second if line["kind"] == "train"] == [4, 5, 6, 7, 8]
    assert second[0]["event"] == "resume"


def test_a_torn_last_line_is_survived(fit, stop):
    stop(3)
    run = fit("run")
    whole = (run / "metrics.jsonl").read_bytes()
    torn = whole + b'{"kind": "train", "attempt": 1, "st'
    (run / "metrics.jsonl").write_bytes(torn)
    fit("run", resume=True)
    after = (run / "metrics.jsonl").read_bytes()
    assert after.startswith(torn + b"\n")
    assert runlog.read_metrics(run)[-1]["event"] == "done"
    assert len(runlog.read_metrics(run)) == len(after.splitlines()) - 1


def test_seconds_of_all_attempts_add_up(fit, stop):
    stop(3)
    run = fit("run")
    fit("run", resume=True)
    seconds = [line["seconds"] for line in runlog.read_metrics(run) if line["kind"] == "train"]
    assert seconds == sorted(seconds)
    state = checkpoint.read_state(run / "checkpoints" / "step_000006")
    assert state["seconds"] >= seconds[2]


# The end.


def test_the_final_validation_is_of_the_final_weights(trained, corpus, core):
    ids = np.concatenate(
        [np.fromfile(p, dtype="<u2", offset=1024) for p in sorted(corpus.glob("*val*.bin"))]
    )[:200].astype(np.int64)
    model = core.model.GPT(load_recipe(trained / "recipe.toml").model)
    model.load_state_dict(load_file(trained / "checkpoints" / "step_000008" / "model.safetensors"))
    total = 0.0
    for start in range(0, len(ids) - 1, 16):
        window = torch.from_numpy(ids[start : start + 17])[None]
        logits = model.eval()(window[:, :-1]).detach().double()
        total += F.cross_entropy(logits[0], window[0, 1:], reduction="sum").item()
    last = lines(trained, "val")[-1]
    assert last["scored"] == len(ids) - 1
    assert abs(last["loss"] - total / (len(ids) - 1)) < 1e-6


def test_nothing_is_measured_before_the_final_update_and_reported_after(tiny, runs):
    summary = train.train(tiny, "run", runs)
    found = runlog.read_metrics(runs / "run")
    assert found[-1]["summary"] == summary
    assert summary["step"] == 8
    assert summary["tokens"] == 512
    val = [line for line in found if line["kind"] == "val"][-1]
    assert val["step"] == 8
    assert summary["val_loss"] == val["loss"]
    assert summary["train_loss"] == losses(runs / "run")[-1]
    kinds = [(line["kind"], line["step"]) for line in found]
    assert kinds[-4:] == [("train", 8), ("val", 8), ("sample", 8), ("event", 8)]


def test_an_interrupted_run_reports_no_validation_of_earlier_weights(tiny, runs, stop):
    stop(5)
    summary = train.train(tiny, "run", runs)
    assert summary["step"] == 5
    assert [line["step"] for line in lines(runs / "run", "val")] == [3]
    assert summary["val_loss"] is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_and_the_same_end(number, fit, tiny, runs, stop):
    whole = fit("whole", "model.dropout=0.1")
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    stop(5, number)
    words = [str(tiny), "--name", "cut", "--runs", str(runs), "--set", "model.dropout=0.1"]
    assert train.main(words) == 1
    cut = runs / "cut"
    assert (cut / "state").read_text() == "PREEMPTED\n"
    assert newest(cut).name == "step_000005"
    event = runlog.read_metrics(cut)[-1]
    assert (event["event"], event["step"]) == ("preempted", 5)
    assert signal.Signals(number).name in event["message"]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert train.main([*words, "--resume"]) == 0
    assert (cut / "state").read_text() == "DONE\n"
    assert same_bits(cut, whole)


def test_only_a_later_second_signal_ends_the_process_at_once(monkeypatch):
    """The system, shutting down, and torchrun may tell a rank of the same stop."""
    trainer = SimpleNamespace(interrupted="")
    sent, moments = [], iter([10.0, 10.0, 10.0, 10.1, 13.0, 13.0])
    with ending.watched_signals(trainer):
        monkeypatch.setattr(train.time, "monotonic", lambda: next(moments))
        monkeypatch.setattr(ending.os, "kill", lambda *words: sent.append(words))
        for wanted in ([], [], [(os.getpid(), signal.SIGTERM)]):
            signal.raise_signal(signal.SIGTERM)
            assert trainer.interrupted == "SIGTERM"
            assert sent == wanted
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_extending_a_finished_run_goes_on_training(fit):
    run = fit("run")
    fit("run", "train.steps=11", resume=True)
    assert newest(run).name == "step_000011"
    assert [line["step"] for line in lines(run, "train")] == [*range(1, 9), 9, 10, 11]
    assert (run / "state").read_text() == "DONE\n"


def test_changing_only_what_is_logged_trains_no_further(fit):
    run = fit("run")
    before = {p.name: p.read_bytes() for p in newest(run).iterdir()}
    fit("run", "train.log_every=5", resume=True)
    assert {p.name: p.read_bytes() for p in newest(run).iterdir()} == before
    assert lines(run, "val")[-1]["loss"] == lines(run, "val")[-2]["loss"]
    json.dumps(runlog.read_metrics(run), allow_nan=False)


@pytest.mark.parametrize(
    "setting",
    ["model.layers=3", "model.dropout=0.5", "train.seed=1", "train.tokens_per_step=128"],
)
def test_what_would_make_it_another_run_cannot_change(fit, setting):
    run = fit("run", "train.steps=2")
    before = sorted((p, p.read_bytes()) for p in run.rglob("*") if p.is_file())
    with pytest.raises(UsageError, match=setting.partition("=")[0]):
        fit("run", "train.steps=4", setting, resume=True)
    assert sorted((p, p.read_bytes()) for p in run.rglob("*") if p.is_file()) == before


def test_the_same_words_with_resume_go_on(fit, stop):
    settings = ["model.width=32", "train.seed=5", "train.lr=1e-3"]
    stop(3)
    run = fit("run", *settings)
    fit("run", *settings, resume=True)
    assert newest(run).name == "step_000008"
    assert load_recipe(run / "recipe.toml").train.lr == 1e-3


# Numbers that are none.


@pytest.mark.parametrize("step", [0, 5])
def test_a_gradient_that_is_no_number_stops_the_run(step, tiny, runs, fit, poison, capsys):
    whole = fit("whole", "train.keep_checkpoints=9")
    poison(step)
    assert train.main([str(tiny), "--name", "bad", "--runs", str(runs)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"error: step {step + 1} has a loss of ")
    assert (runs / "bad" / "state").read_text() == "FAILED\n"
    if step == 0:
        assert "there is no checkpoint yet" in error
        return
    assert str(runs / "bad" / "checkpoints" / "step_000004") in error
    good = load_file(whole / "checkpoints" / "step_000004" / "model.safetensors")
    found = weights(runs / "bad")
    assert all(torch.equal(found[name], good[name]) for name in good)


def test_a_loss_that_is_no_number_stops_the_run(fit):
    with pytest.raises(UserError, match=r"try a lower train\.lr"):
        fit("run", "train.lr=1e30", "train.steps=50")


def test_a_gradient_that_is_no_number_can_be_skipped(fit, poison):
    poison(5)
    run = fit("run", "train.on_nonfinite=skip", "train.keep_checkpoints=9")
    assert (run / "state").read_text() == "DONE\n"
    skips = [line for line in lines(run, "event") if line["event"] == "skip"]
    assert len(skips) == 1
    assert "step 6 " in skips[0]["message"]
    assert all(torch.isfinite(t).all() for t in weights(run).values())
    assert lines(run, "train")[5]["grad_norm"] is None
    json.dumps(runlog.read_metrics(run), allow_nan=False)


def test_a_skipped_update_leaves_the_weights_alone(fit, poison):
    poison(5)
    settings = ["train.on_nonfinite=skip", "train.checkpoint_every=1", "train.keep_checkpoints=9"]
    run = fit("run", *settings)
    five, six = (load_file(run / "checkpoints" / f"step_00000{n}" / FILES[0]) for n in (5, 6))
    assert all(torch.equal(five[name], six[name]) for name in five)


# A budget of time.


@pytest.fixture
def seconds_a_step(monkeypatch):
    """A clock that moves by one second with every update and not otherwise."""
    clock = SimpleNamespace(now=0.0)
    original = train.Trainer.accumulate

    def accumulate(self):
        clock.now += 1.0
        return original(self)

    for module in (train, runlog):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(train.Trainer, "accumulate", accumulate)


def test_a_budget_ends_the_run_in_time(tiny, runs, seconds_a_step):
    summary = train.train(
        tiny, "run", runs, ["train.steps=1000", "train.max_seconds=10"], started=0.0
    )
    assert summary["step"] == 10
    assert summary["seconds"] == 10
    assert (runs / "run" / "state").read_text() == "DONE\n"
    assert newest(runs / "run").name == "step_000010"


def test_a_budget_counts_what_came_before_the_first_step(tiny, runs, seconds_a_step):
    settings = ["train.steps=1000", "train.max_seconds=10"]
    summary = train.train(tiny, "run", runs, settings, started=-4.0)
    assert summary["step"] == 6


def test_a_budget_changes_rates_but_no_token(fit, read, seconds_a_step):
    budget = fit("budget", "train.steps=1000", "train.max_seconds=8")
    with_budget = torch.stack(read)
    read.clear()
    fit("steps")
    assert torch.equal(with_budget, torch.stack(read))
    config = TrainConfig(tokens_per_step=64, lr=1e-2, warmup_steps=2)
    rates = [line["lr"] for line in lines(budget, "train")]
    assert rates[-1] == pytest.approx(optim.learning_rate(7, 8, config))
    assert rates[-1] < 0.3 * max(rates)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_a_budget_that_is_longer_than_the_steps_changes_nothing(fit, seconds_a_step):
    assert same_bits(fit("free"), fit("budget", "train.max_seconds=1000"))


def test_a_budget_goes_on_where_it_stopped(fit, stop, seconds_a_step):
    stop(4)
    run = fit("run", "train.steps=1000", "train.max_seconds=10")
    fit("run", resume=True)
    assert newest(run).name == "step_000010"


def test_no_time_at_all_still_ends_with_weights(tiny, runs, seconds_a_step):
    summary = train.train(tiny, "run", runs, ["train.max_seconds=5"], started=-9.0)
    assert (summary["step"], summary["train_loss"]) == (0, None)
    assert newest(runs / "run").name == "step_000000"


# Where the weights come from.


def test_init_from_a_run_starts_with_its_loss(fit, trained, corpus, core):
    run = fit("tuned", f"train.init_from={trained}", "train.steps=2")
    model = checkpoint.load_run(trained).model
    assert abs(losses(run)[0] - first_loss_of(model, corpus, 16, 4, 1337)) < 1e-5
    assert losses(run)[0] < losses(trained)[0]


def test_init_from_a_hugging_face_folder_starts_with_its_loss(fit, exported, corpus, core):
    run = fit("tuned", f"train.init_from={exported}", "train.steps=2", "model.layers=5")
    model, _ = core.hub.import_folder(exported)
    assert abs(losses(run)[0] - first_loss_of(model, corpus, 16, 4, 1337)) < 1e-5
    assert load_recipe(run / "recipe.toml").model.layers == 2


def test_init_from_another_architecture_is_refused(fit, trained):
    with pytest.raises(UsageError, match=r'"gpt2", the recipe asks for "modern"'):
        fit("tuned", f"train.init_from={trained}", "model.architecture=modern")


def test_init_from_a_name_means_a_run_beside_it(fit):
    base = fit("base")
    run = fit("tuned", "train.init_from=base", "train.steps=1")
    assert losses(run)[0] < losses(base)[0]


def test_init_from_takes_weights_but_not_the_optimizer_or_the_step(fit, trained):
    run = fit("tuned", f"train.init_from={trained}", "train.steps=2")
    assert [line["step"] for line in lines(run, "train")] == [1, 2]
    optimizer = load_file(newest(run) / "optimizer.safetensors")
    assert {float(v) for k, v in optimizer.items() if k.endswith("/step")} == {2.0}


def test_init_from_keeps_the_wished_dropout(fit, trained):
    run = fit("tuned", f"train.init_from={trained}", "model.dropout=0.3", "train.steps=1")
    assert load_recipe(run / "recipe.toml").model.dropout == 0.3
    assert losses(run) != losses(fit("plain", f"train.init_from={trained}", "train.steps=1"))


def test_a_run_goes_on_when_the_source_of_its_weights_is_gone(fit, stop, runs):
    fit("base")
    whole = fit("whole", "train.init_from=base")
    stop(3)
    cut = fit("cut", "train.init_from=base")
    shutil.rmtree(runs / "base")
    fit("cut", resume=True)
    assert same_bits(cut, whole)


def test_init_from_weights_of_another_tokenizer_is_refused(fit, trained, words, tmp_path, runs):
    (tmp_path / "words.txt").write_text(words)
    api.prepare([tmp_path / "words.txt"], tmp_path / "bytes", tokenizer="byte")
    with pytest.raises(UserError, match="another tokenizer") as refused:
        fit("tuned", f"train.init_from={trained}", f"data.path={tmp_path / 'bytes'}")
    assert refused.value.exit_status == 1
    assert not (runs / "tuned").exists()


def test_data_of_another_tokenizer_is_refused_on_resume(fit, words, tmp_path):
    run = fit("run", "train.steps=2")
    (tmp_path / "other.txt").write_text(words.replace("the", "THE"))
    api.prepare([tmp_path / "other.txt"], tmp_path / "other")
    with pytest.raises(UserError):
        fit("run", f"data.path={tmp_path / 'other'}", "train.steps=4", resume=True)
    assert newest(run).name == "step_000002"


def test_another_corpus_of_the_same_tokenizer_is_refused_on_resume(fit, words, tmp_path):
    fit("run", "train.steps=2")
    (tmp_path / "longer.txt").write_text(words + words)
    api.prepare([tmp_path / "longer.txt"], tmp_path / "longer")
    with pytest.raises(UserError, match="same corpus"):
        fit("run", f"data.path={tmp_path / 'longer'}", "train.steps=4", resume=True)


def test_the_rate_does_not_rise_after_a_resume_under_a_budget(fit, stop, seconds_a_step):
    stop(6)
    run = fit("run", "train.steps=1000", "train.max_seconds=10")
    fit("run", resume=True)
    rates = [line["lr"] for line in lines(run, "train")]
    assert len(rates) == 10
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_a_last_step_is_reported_though_an_evaluation_used_up_the_time(
    fit, seconds_a_step, monkeypatch
):
    original = train.Trainer.validate

    def slow(self):
        self.clock.before += 100.0
        original(self)

    monkeypatch.setattr(train.Trainer, "validate", slow)
    settings = ["train.steps=1000", "train.max_seconds=50", "train.eval_every=7"]
    run = fit("run", *settings, "train.log_every=5")
    assert newest(run).name == "step_000007"
    assert [line["step"] for line in lines(run, "train")] == [5, 7]


# fp16, whose scaler works on a CPU, too.


@pytest.fixture
def in_fp16(monkeypatch):
    """Train in fp16 from here on."""
    half = runtime.Runtime(torch.device("cpu"), torch.float16)
    return lambda: monkeypatch.setattr(train, "start_runtime", lambda config: half)


def test_a_run_begun_in_fp32_goes_on_in_fp16_and_again(fit, in_fp16):
    run = fit("run", "runtime.dtype=fp32", "train.steps=2")
    in_fp16()
    fit("run", "train.steps=4", resume=True)
    fit("run", "train.steps=6", resume=True)
    assert newest(run).name == "step_000006"
    scale = checkpoint.read_state(newest(run))["scaler"]["scale"]
    assert scale == 2.0**16
    assert losses(run)[-1] < losses(run)[0]


def test_an_update_that_overflows_fp16_is_left_out_and_told(fit, in_fp16, poison):
    in_fp16()
    poison(2)
    run = fit("run", "train.checkpoint_every=1", "train.keep_checkpoints=9")
    skips = [line for line in lines(run, "event") if line["event"] == "skip"]
    assert len(skips) == 1
    two, three = (load_file(run / "checkpoints" / f"step_00000{n}" / FILES[0]) for n in (2, 3))
    assert all(torch.equal(two[name], three[name]) for name in two)


def test_fp16_that_overflows_whatever_the_scale_stops_the_run(fit, in_fp16, monkeypatch):
    in_fp16()
    monkeypatch.setattr(optim, "clip_gradients", lambda model, largest: torch.tensor(math.nan))
    monkeypatch.setattr(torch.amp.GradScaler, "get_scale", lambda self: 0.5)
    with pytest.raises(UserError, match="gradient norm of nan"):
        fit("run")


# Two at once, and other trouble.


def test_a_run_that_is_being_trained_cannot_be_trained_by_another(fit, runs):
    whole = fit("run", "train.steps=2")
    with train.locked(whole, True):
        with pytest.raises(UserError, match="another process") as refused:
            fit("run", "train.steps=4", resume=True)
        assert refused.value.exit_status == 1
    assert newest(fit("run", "train.steps=4", resume=True)).name == "step_000004"


def test_skipping_ends_where_no_update_can_help(fit):
    with pytest.raises(UserError, match=r"try a lower train\.lr"):
        fit("run", "train.lr=1e30", "train.steps=50", "train.on_nonfinite=skip", "sample.at=[]")


def test_a_finished_run_that_was_moved_is_named_by_its_new_place(fit, tiny, runs, tmp_path):
    fit("run")
    shutil.move(runs, tmp_path / "elsewhere")
    summary = train.train(tiny, "run", tmp_path / "elsewhere", [], resume=True)
    assert summary["run"] == str(tmp_path / "elsewhere" / "run")


def test_a_closed_pipe_does_not_end_the_training(fit, monkeypatch, capsys):
    def closed(*words, **how):
        raise BrokenPipeError

    monkeypatch.setattr(runlog, "print", closed, raising=False)
    monkeypatch.setattr(runlog.sys, "stdout", runlog.sys.stdout)
    assert (fit("run") / "state").read_text() == "DONE\n"


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("full")])
def test_too_little_memory_is_one_sentence(tiny, runs, monkeypatch, capsys, error):
    def full(self):
        raise error

    monkeypatch.setattr(train.Trainer, "accumulate", full)
    assert train.main([str(tiny), "--runs", str(runs)]) == 1
    assert "lower train.micro_batch" in capsys.readouterr().err


# HellaSwag, while it trains.


@pytest.fixture
def items(tmp_path, words):
    """Some items that the corpus's characters can spell."""
    path = tmp_path / "items.jsonl"
    endings = ["the cat sat", "rats eat hats", "a mat", "on that"]
    item = {"ctx": words[:40].replace("\n", " "), "endings": endings, "label": 1}
    path.write_text("".join(json.dumps(item) + "\n" for _ in range(3)))
    return path


def test_hellaswag_is_taken_as_often_as_the_recipe_says_and_at_the_end(fit, items):
    from buildgpt.gpt.hellaswag import hellaswag, read_hellaswag

    run = fit("run", "train.hellaswag_every=3", f"data.hellaswag={items}")
    found = lines(run, "hellaswag")
    assert [(x["step"], x["items"]) for x in found] == [(3, 3), (6, 3), (8, 3)]
    loaded = checkpoint.load_run(run)
    again = hellaswag(
        loaded.model, loaded.tokenizer, read_hellaswag(items), runtime.Runtime(torch.device("cpu"))
    )
    assert (found[-1]["acc"], found[-1]["acc_norm"]) == (again.acc, again.acc_norm)


def test_hellaswag_items_that_are_missing_are_missed_at_the_start(fit, runs):
    with pytest.raises(UserError, match="cannot read HellaSwag's items from nowhere"):
        fit("run", "train.hellaswag_every=1000", "data.hellaswag=nowhere")
    assert lines(runs / "run", "train") == []


def test_each_report_tells_the_mean_and_the_slowest_step_since_the_one_before(fit):
    run = fit("run", "train.log_every=4")
    for line in lines(run, "train"):
        assert 0 < line["step_seconds"] <= line["slowest_step_seconds"]
    start = lines(run, "event")[0]
    assert start["device_name"]
    assert start["parallel"] == "ddp"
    assert lines(run, "event")[-1]["summary"]["peak_memory_gb"] > 0.01


def test_a_file_system_without_locks_is_no_obstacle(fit, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", flock)
    assert newest(fit("run")).name == "step_000008"


@pytest.mark.parametrize(
    ("silent", "said"),
    [
        ([1, 3], "rank 1 and rank 3 fell silent after step 7; --resume goes on from the beginning"),
        ([], "ranks lost each other (NCCL error: no shared memory) after step 7; --resume"),
    ],
)
def test_where_no_rank_is_silent_the_error_itself_is_told(silent, said, tmp_path):
    here = SimpleNamespace(silent_ranks=lambda: silent, is_first=lambda what: True)
    trainer = SimpleNamespace(runtime=here, folder=tmp_path, step=7)
    error = RuntimeError("NCCL error:\n  no shared memory")
    assert str(ending.lost_rank(trainer, error)).startswith(said)


def test_one_of_several_ranks_ends_without_the_interpreter_whatever_it_raises(monkeypatch, capfd):
    def fail(*words):
        raise KeyError("a bug")

    left = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(train, "train", fail)
    monkeypatch.setattr(ending, "leave", left.append)
    assert train.main(["recipe.toml"]) == 1
    assert left == [1]
    assert "KeyError: 'a bug'" in capfd.readouterr().err


# Threads.


def test_a_resumed_run_keeps_its_number_of_threads(fit, monkeypatch):
    """They are measured once, when it starts; the number is in the event."""
    taken, measured = [4], [3]
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(runtime, "ALL_THREADS", 4)
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: taken[-1])
    monkeypatch.setattr(runtime, "fastest_threads", lambda width, dtype: measured.pop())
    folder = fit("run", "train.steps=2")
    fit("run", "train.steps=4", resume=True)
    lines = [line for line in runlog.read_metrics(folder) if line["kind"] == "event"]
    assert [line["threads"] for line in lines if "threads" in line] == [3, 3]
    told = [line["message"] for line in lines if line["event"] == "note"]
    assert ["busy" in words for words in told if "3 of 4 threads" in words] == [True, False]
    assert begun.earlier_threads(folder, 1) == 3
    assert begun.earlier_threads(folder, 2) == 0
