"""benchmarks/gpu.py: rehearsed at toy size on the CPU, and its decisions with counted time."""

import argparse
import json
import lzma
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from buildgpt import reproduce
from buildgpt.gpt.data import header

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

gpu = pytest.importorskip("gpu", reason="benchmarks/gpu.py is for Linux", exc_type=ImportError)
contenders = pytest.importorskip("contenders", exc_type=ImportError)

# A peer in the form of nanoGPT's model.py: a bigram model with the names that are looked for.
GOOD_PEER = """
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class GPTConfig:
    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.n_embd)
        self.head = nn.Linear(config.n_embd, config.vocab_size)

    def forward(self, x, y):
        logits = self.head(self.embedding(x))
        return logits, F.cross_entropy(logits.flatten(0, 1), y.flatten())

    def configure_optimizers(self, decay, rate, betas, device):
        return torch.optim.AdamW(self.parameters(), rate, betas, weight_decay=decay)
"""
BAD_PEER = "class GPTConfig:\n    __dataclass_fields__ = {}\n"  # which takes no arguments


def write_shards(folder: Path, packed: bool) -> Path:
    """Random GPT-2 tokens, 5,000 to train on and 500 to validate."""
    folder.mkdir()
    draw = np.random.RandomState(0)
    for name, count in (("classics_train_000001", 5000), ("classics_val_000000", 500)):
        data = header(count) + draw.randint(0, 50257, count).astype("<u2").tobytes()
        path = folder / f"{name}.bin"
        path.write_bytes(data)
        if packed:
            path.with_suffix(".bin.xz").write_bytes(lzma.compress(data))
            path.unlink()
    return folder


def run(*words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    """The whole script at toy size, with a peer that works and one that does not."""
    folder = tmp_path_factory.mktemp("gpu")
    data = write_shards(folder / "packed", packed=True)
    for name, text in (("good", GOOD_PEER), ("bad", BAD_PEER)):
        (folder / name).mkdir()
        (folder / name / "model.py").write_text(text)
    peers = ["--peer", folder / "good", "--peer", folder / "bad"]
    # An hour, so that no deadline decides here.
    done = run("--data", data, "--minutes", 60, "--tiny", "--out", folder / "gpu.json", *peers)
    return done, json.loads((folder / "gpu.json").read_text())


def test_the_record_says_on_what_when_and_how_it_was_made(rehearsal):
    done, record = rehearsal
    assert done.returncode == 0, done.stderr
    assert record["tiny"] is True
    assert record["command"].startswith("python benchmarks/gpu.py --data packed --minutes 60")
    assert {"date", "commit", "minutes", "model", "tokens_per_step"} <= record.keys()
    assert {"gpu", "versions", "torch", "python", "cores"} <= record["hardware"].keys()
    assert {"triton", "transformers", "numpy"} == record["hardware"]["versions"].keys()
    assert list(record["phases"]) == list(gpu.PHASES)


def test_the_peaks_are_of_the_best_product_and_a_copy(rehearsal):
    peak = rehearsal[1]["peak"]
    assert peak["matmul_tflops"] == max(row["tflops"] for row in peak["products"]) > 0
    assert len(peak["products"]) == len(gpu.TINY.products)
    assert peak["copy_gb_per_second"] > 0


def test_ratios_and_medians_are_those_of_the_raw_rates(rehearsal):
    rows = rehearsal[1]["throughput"]["contenders"]
    assert list(rows) == ["ours", "transformers", "good", "bad"]
    ours = [turn["rate"] for turn in rows["ours"]["turns"]]
    for name in ("ours", "transformers", "good"):
        rates = [turn["rate"] for turn in rows[name]["turns"]]
        assert len(rates) == gpu.TINY.most_rounds
        assert rows[name]["median"] == sorted(rates)[1]
        assert rows[name]["first_to_this"] == [a / b for a, b in zip(ours, rates)]
        assert all(math.isfinite(turn["loss"]) for turn in rows[name]["turns"])
    assert rows["ours"]["first_to_this_median"] == 1


def test_the_share_of_the_peak_counts_the_models_flops(rehearsal):
    record = rehearsal[1]
    shape, ours = record["model"], record["throughput"]["contenders"]["ours"]
    layers, width = shape["layers"], shape["width"]
    weights = shape["vocab_size"] * width + layers * (12 * width**2 + 13 * width) + 2 * width
    flops = 6 * weights + 12 * layers * shape["context"] * width
    assert record["throughput"]["flops_per_token"] == flops
    share = ours["median"] * flops / (record["peak"]["matmul_tflops"] * 1e12)
    assert ours["share_of_peak"] == pytest.approx(share)


def test_the_memory_that_plan_expects_stands_beside_the_measured_one(rehearsal):
    memory, scale = rehearsal[1]["memory"], gpu.TINY
    if memory is not None:  # this checkout has no plan
        (check,) = memory["by_micro_batch"].values()
        assert check["ratio"] == check["estimated_gb"] / check["measured_gb"]
        assert list(memory["by_micro_batch"]) == [str(size) for size in scale.micro_batches]


def test_a_failing_peer_is_recorded_and_ends_nothing(rehearsal):
    done, record = rehearsal
    bad = record["throughput"]["contenders"]["bad"]
    assert bad["error"].startswith("TypeError")
    assert "turns" not in bad
    assert "bad                 failed: TypeError" in done.stdout


def test_the_training_run_leaves_its_curve_and_its_validation_loss(rehearsal):
    training = rehearsal[1]["training"]
    assert [point["step"] for point in training["curve"]] == [10, 20]
    assert [point["tokens"] for point in training["curve"]] == [1280, 2560]
    assert training["exit_status"] == 0
    assert training["validation"][0]["scored"] == 499
    assert training["val_loss"] == pytest.approx(math.log(50257), abs=0.1)  # random tokens
    assert training["samples"]


def test_the_aims_are_computed_and_said(rehearsal):
    done, record = rehearsal
    rows, (speed, ratio, decoding) = record["throughput"]["contenders"], record["aims"]
    rates = record["decoding"]["tokens_per_second"]
    assert decoding["found"] == rates["ours"] / rates["transformers"]
    assert (speed["wanted"], ratio["wanted"]) == (580_000, 1.1)
    assert speed["found"] == rows["ours"]["median"]
    assert speed["met"] is False
    medians = [statistics.median(rows[n]["first_to_this"]) for n in ("transformers", "good")]
    assert ratio["found"] == min(medians)
    assert ratio["met"] is (min(medians) >= 1.1)
    assert "tokens_per_second    wanted 580,000" in done.stdout
    assert "rehearsal at toy size" in done.stdout


@pytest.mark.parametrize("name", contenders.OPTIONS)
def test_an_option_changes_no_loss(name):
    torch.manual_seed(0)
    _, _, usual = contenders.ours(contenders.TINY, lambda call: call)
    torch.manual_seed(0)
    _, _, other = contenders.option(name, contenders.TINY, lambda call: call)
    x, y = torch.randint(50257, (2, 2, 16))
    torch.testing.assert_close(other(x, y), usual(x, y))


# Decisions, with workers that only count.


class CountedTime:
    """A clock's `now` that workers push on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class CountedWorker:
    """Is ready after 20 seconds and takes 10 a turn, at given rates."""

    def __init__(self, time: CountedTime, who: str, size: int, rates: list[float]) -> None:
        self.time, self.who, self.micro_batch, self.rates = time, who, size, rates
        self.closed, self.turns = False, 0

    def answer(self, seconds: float) -> dict:
        self.time.now = max(self.time.now, 20.0)
        return {"compiled": True}

    def turn(self, seconds: float) -> dict:
        assert not self.closed
        self.time.now += 10.0
        self.turns += 1
        rate = self.rates[min(self.turns, len(self.rates)) - 1]
        if not rate:
            return {"error": "OutOfMemoryError: CUDA out of memory"}
        return {"rate": rate, "loss": 1.0, "memory_gb": 1.0, "reserved_gb": 2.0}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def race():
    """race(rates, seconds) lets "ours" and "theirs" race with micro-batches 64 and 32."""

    def race(rates: dict[tuple[str, int], list[float]], seconds: float, until: float = 1.0):
        time, workers = CountedTime(), []

        def start(who: str, size: int) -> CountedWorker:
            workers.append(CountedWorker(time, who, size, rates[who, size]))
            return workers[-1]

        scale = SimpleNamespace(micro_batches=(64, 32), most_rounds=5)
        clock, told = gpu.Clock(seconds, time), []
        who = ["ours", "theirs"]
        rows = gpu.throughput(who, scale, clock, until, start, lambda rows: told.append(1))
        assert all(worker.closed for worker in workers)
        return SimpleNamespace(rows=rows, passed=time.now, told=len(told), workers=workers)

    return race


RATES = {("ours", 64): [50.0], ("ours", 32): [60.0], ("theirs", 64): [40.0], ("theirs", 32): [30.0]}


def test_each_contender_takes_its_fastest_micro_batch(race):
    result = race(RATES, seconds=1000)
    assert result.rows["ours"]["micro_batch"] == 32
    assert result.rows["theirs"]["micro_batch"] == 64
    assert [worker.turns for worker in result.workers] == [1, 6, 6, 1]  # ours 64, theirs 64, ...
    assert result.rows["ours"]["sweep"]["64"]["rate"] == 50
    assert result.rows["theirs"]["first_to_this"] == [60 / 40] * 5
    assert result.told == 5


@pytest.mark.parametrize("seconds,rounds", [(79, 0), (80, 1), (99, 1), (100, 2), (1000, 5)])
def test_a_round_begins_only_if_it_can_end_in_time(race, seconds, rounds):
    # 20 seconds to get ready, 40 for the sweep, then rounds of 20.
    result = race(RATES, seconds)
    assert len(result.rows["ours"]["turns"]) == rounds
    assert result.passed <= seconds
    assert result.passed == 60 + 20 * rounds


def test_the_alternation_leaves_the_rest_of_the_time_alone(race):
    assert race(RATES, seconds=200, until=0.5).passed == 100


def test_a_micro_batch_is_not_tried_without_time_for_it(race):
    result = race(RATES, seconds=45)
    assert result.passed <= 45
    assert result.rows["ours"]["sweep"]["32"] == {"error": "no time left to try it"}
    assert result.rows["ours"]["error"] == "no time left to try it"


def test_a_micro_batch_that_does_not_fit_is_recorded_and_another_taken(race):
    result = race(RATES | {("theirs", 64): [0.0]}, seconds=1000)
    assert result.rows["theirs"]["sweep"]["64"]["error"].startswith("OutOfMemoryError")
    assert result.rows["theirs"]["micro_batch"] == 32
    assert result.rows["theirs"]["first_to_this"] == [2.0] * 5


def test_who_breaks_down_in_a_round_is_out_and_the_others_go_on(race):
    result = race(RATES | {("theirs", 64): [40.0, 40.0, 0.0]}, seconds=1000)
    assert result.rows["theirs"]["error"].startswith("OutOfMemoryError")
    assert result.rows["theirs"]["first_to_this"] == [1.5]
    assert len(result.rows["ours"]["turns"]) == 5


def test_a_worker_that_is_silent_or_gone_gives_an_error():
    worker = object.__new__(gpu.Worker)
    worker.lines = gpu.queue.Queue()
    assert worker.answer(0) == {"error": "no answer in time"}
    worker.process = SimpleNamespace(wait=lambda: -9)
    worker.lines.put("")
    assert worker.answer(0) == {"error": "ended with exit status -9"}


# The parts.


def session(data: Path, out: Path) -> gpu.Session:
    words = {"data": data, "out": out, "tiny": True, "only": "", "peer": [], "minutes": 1}
    words["options"] = False
    return gpu.Session(argparse.Namespace(**words, commit="c0ffee"), gpu.Clock(60))


def test_a_phase_that_fails_is_recorded_and_the_others_go_on(tmp_path, monkeypatch):
    def broken() -> None:
        raise RuntimeError("no\nmatter")

    measured = session(write_shards(tmp_path / "data", packed=False), tmp_path / "gpu.json")
    for phase in gpu.PHASES:
        monkeypatch.setattr(measured, phase, broken if phase == "throughput" else dict)
    assert measured.run() is False
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["throughput"] == {"error": "RuntimeError: no matter"}
    assert list(record["phases"]) == list(gpu.PHASES)
    assert record["commit"] == "c0ffee"
    assert [aim["met"] for aim in record["aims"]] == [None, None, None]
    assert "throughput failed: RuntimeError: no matter" in gpu.table(record)


def test_packed_shards_are_unpacked_beside_plain_ones(tmp_path):
    plain = write_shards(tmp_path / "plain", packed=False)
    packed = write_shards(tmp_path / "packed", packed=True)
    (packed / "more_train_000002.bin").write_bytes(header(0))
    (tmp_path / "target").mkdir()
    assert gpu.unpack(plain, tmp_path / "target") == plain
    target = gpu.unpack(packed, tmp_path / "target")
    names = sorted(path.name for path in target.iterdir())
    assert names == [
        "classics_train_000001.bin",
        "classics_val_000000.bin",
        "more_train_000002.bin",
    ]
    for path in plain.iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()


def test_the_memory_check_compares_what_plan_says(monkeypatch):
    parts = {"weights": 1_000_000_000, "activations": 3_000_000_000, "evaluation": 9}
    plan = SimpleNamespace(memory=lambda recipe, size, ranks, device: parts)
    monkeypatch.setattr(reproduce, "plan", plan, raising=False)
    sweep = {"64": {"memory_gb": 4.2}, "32": {"error": "does not fit"}}
    record = {"throughput": {"contenders": {"ours": {"sweep": sweep}}}}
    check = gpu.memory_check(record, gpu.TINY)
    assert check["by_micro_batch"].keys() == {"64"}
    assert check["by_micro_batch"]["64"]["ratio"] == pytest.approx(4 / 4.2)
    assert check["met"] is True
    sweep["64"]["memory_gb"] = 5.0
    assert gpu.memory_check(record, gpu.TINY)["met"] is False
    assert gpu.memory_check({}, gpu.TINY)["met"] is None


def test_a_run_that_did_not_finish_leaves_what_it_has():
    line = {"kind": "train", "step": 1, "tokens": 8, "seconds": 1.0, "loss": 2.0}
    told = gpu.story([line | {"tokens_per_second": 3.0}])
    assert told["error"] == "not finished"
    assert told["curve"][0]["loss"] == 2.0


def test_transformers_runs_without_a_mask_and_gives_what_its_own_attention_gives(monkeypatch):
    seen = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(q, k, v, attn_mask=None, **rest):
        seen.append((attn_mask, rest["is_causal"]))
        return attend(q, k, v, attn_mask=attn_mask, **rest)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    model, _, loss = contenders.transformers(gpu.TINY, lambda call: call)
    x, y = torch.randint(50257, (2, 2, 16))
    found = loss(x, y)
    assert seen == [(None, True)]
    model.set_attn_implementation("eager")
    torch.testing.assert_close(loss(x, y), found)


def test_wrong_words_are_refused_in_one_sentence(tmp_path):
    done = run("--data", tmp_path, "--tiny")
    assert done.returncode == 2
    assert "--data is no folder of shards" in done.stderr
    if not torch.cuda.is_available():
        done = run("--data", write_shards(tmp_path / "data", packed=False))
        assert done.returncode == 2
        assert "there is no NVIDIA GPU here; rehearse with --tiny" in done.stderr


# The race.

race_module = pytest.importorskip("race", exc_type=ImportError)


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    """The race at toy size, both sides GPT-2, the "modern" one with a better start."""
    folder = tmp_path_factory.mktemp("race")
    data = write_shards(folder / "shards", packed=True)
    words = ["--race", "--data", data, "--tiny", "--sweep", 1, "--modern", "gpt2-124m"]
    words += ["--minutes", 60, "--state", folder / "state", "--out", folder / "race.json"]
    done = run(*words)
    return done, json.loads((folder / "race.json").read_text()), folder, words


def test_the_race_runs_every_job_once_and_says_who_won(raced):
    done, record, _, _ = raced
    assert done.returncode == 0, done.stderr
    jobs = record["race"]["jobs"]
    sweeps = [f"{side}-sweep-{n}" for side in ("faithful", "modern") for n in (0, 1)]
    assert list(jobs) == [*sweeps, "faithful", "modern"]
    assert jobs["faithful"]["tokens"] == 5120
    assert jobs["faithful"]["validation"][-1]["loss"] == jobs["faithful"]["val_loss"]
    lowest = min((jobs["faithful-sweep-0"], jobs["faithful-sweep-1"]), key=lambda j: j["val_loss"])
    assert jobs["faithful"]["settings"] == lowest["settings"]
    assert record["race"]["verdict"]["swept_tokens"] == {"faithful": 2560, "modern": 2560}
    assert record["race"]["left"] is False


def test_a_race_that_is_called_again_runs_nothing_twice(raced):
    _, record, folder, words = raced
    again = [*words[:-4], "--state", folder / "new", "--from", folder / "state"]
    done = run(*again, "--out", folder / "again.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "again.json").read_text())["race"]["jobs"] == record["race"]["jobs"]
    assert "validation loss" not in done.stderr + done.stdout.partition("race:")[0]


def jobs_of(points: list[tuple[int, float, float]]) -> dict:
    """Jobs where the faithful side has ended with a loss of 3.5 at 1,000 tokens and 100 seconds."""
    validation = [{"tokens": t, "seconds": s, "loss": loss} for t, s, loss in points]
    faithful = {"tokens": 1000, "seconds": 100.0, "val_loss": 3.5, "validation": []}
    modern = {"val_loss": points[-1][2], "validation": validation}
    return {"faithful": faithful, "modern": modern}


@pytest.mark.parametrize(
    "points,tokens,met",
    [
        ([(100, 10.0, 4.0), (150, 15.0, 3.5), (200, 20.0, 3.4)], 0.15, True),
        ([(100, 20.0, 4.0), (200, 40.0, 3.4)], 0.2, False),  # too slow
        ([(300, 20.0, 3.4)], 0.3, False),  # too many tokens
        ([(200, 20.0, 3.6)], None, False),  # never
    ],
)
def test_the_verdict_is_the_first_point_as_low_as_the_faithful_end(points, tokens, met):
    found = race_module.verdict(jobs_of(points))
    assert found["tokens"] == tokens
    assert found["met"] is met
    assert race_module.verdict({"faithful": {}}) is None


def test_a_job_waits_that_does_not_fit_unless_no_call_is_longer(tmp_path):
    time = CountedTime()
    words = argparse.Namespace(tiny=True, modern="gpt2-124m", sweep=1, source=None, set=[])
    words.state = tmp_path / "state"
    found = race_module.Race(words, tmp_path, gpu.Clock(600, time))
    side = found.sides[0]
    assert found.fits("faithful", side, 10**9)  # nothing is known
    found.jobs["faithful-sweep-0"] = {"seconds": 10.0, "tokens": 100}
    time.now = 100.0
    assert found.fits("faithful", side, 4000)  # 400 of 500 seconds
    assert not found.fits("faithful", side, 5000)
    time.now = 1.0
    assert found.fits("faithful", side, 10_000)  # longer than any call


def test_a_run_that_cannot_begin_has_failed_and_is_not_done(tmp_path, capfd):
    words = argparse.Namespace(tiny=True, modern="gpt2-124m", sweep=1, source=None, set=[])
    words.state = tmp_path / "state"
    race = race_module.Race(words, tmp_path / "no-such-shards", gpu.Clock(3600))
    record = race.run()
    assert "faithful-sweep-0 failed" in record["failed"]
    assert (record["jobs"], record["left"]) == ({}, True)
    assert "no-such-shards" in capfd.readouterr().err
    assert record["failed"] in race_module.table(record)


def test_a_sweep_may_diverge_but_not_the_race_itself(tmp_path, monkeypatch):
    words = argparse.Namespace(tiny=True, modern="gpt2-124m", sweep=1, source=None, set=[])
    words.state = tmp_path / "state"
    race = race_module.Race(words, tmp_path, gpu.Clock(3600))

    def diverged(self, name, side, tokens, settings):
        story = race_module.story([{"kind": "train", "step": 3, "loss": None}])
        return {"settings": settings} | story

    monkeypatch.setattr(race_module.Race, "train", diverged)
    record = race.run()
    assert [*record["jobs"]] == [f"{s}-sweep-{n}" for s in ("faithful", "modern") for n in (0, 1)]
    assert "faithful failed" in record["failed"] and record["left"]


def test_a_run_that_is_stopped_in_time_goes_on_in_the_next_call(tmp_path, monkeypatch):
    """The process is told to stop, saves, and the next call resumes it to the same end."""
    data = write_shards(tmp_path / "shards", packed=False)
    words = argparse.Namespace(tiny=True, modern="gpt2-124m", sweep=1, source=None, set=[])
    words.state = tmp_path / "state"
    found = race_module.Race(words, data, gpu.Clock(3600))
    side = found.sides[0]
    settings = ["train.tokens_per_step=16", "train.lr=1e-3"]
    reserve = race_module.RESERVE

    def soon(command: list[str], seconds: float) -> int:
        process = subprocess.Popen(command, env=gpu.environment())
        metrics = words.state / "runs" / "faithful" / "metrics.jsonl"
        while process.poll() is None and '"train"' not in read(metrics):
            time.sleep(0.05)
        process.terminate()
        return process.wait()

    def read(path: Path) -> str:
        return path.read_text() if path.exists() else ""

    monkeypatch.setattr(race_module, "end_in_time", soon)
    assert found.train("faithful", side, 10**6, settings) is None
    assert (words.state / "runs" / "faithful" / "checkpoints").exists()
    monkeypatch.undo()
    assert race_module.RESERVE == reserve
    found.clock = gpu.Clock(race_module.RESERVE + 8)
    assert found.train("faithful", side, 10**6, settings) is None  # resumed, stopped by the clock
