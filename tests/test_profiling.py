"""A profile says where a step's time went, and leaves the run as it is."""

import json
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from buildgpt import api, profiling
from buildgpt.gpt import runlog, runtime, train

STEPS = 2


@pytest.fixture(scope="module")
def profiled(tiny, tmp_path_factory):
    """The tiny recipe, profiled; not to be changed."""
    runs = tmp_path_factory.mktemp("profiled")
    api.train(tiny, "tiny", runs, profile=STEPS)
    return runs / "tiny"


def facts_of(run):
    return json.loads((run / "profile" / "profile.json").read_text())


def test_the_bits_stay(profiled, trained):
    for name in ("model.safetensors", "optimizer.safetensors"):
        mine, theirs = (run / "checkpoints" / "step_000008" / name for run in (profiled, trained))
        assert mine.read_bytes() == theirs.read_bytes()


def test_everything_is_put_back(profiled):
    assert train.Trainer.__module__ == train.__name__
    assert torch.Tensor.backward.__name__ == "backward"
    assert runtime.Runtime.send.__name__ == "send"


def test_the_parts_are_a_whole_step(profiled):
    facts = facts_of(profiled)
    parts = {(part, detail): ms for part, detail, ms in facts["parts"]}
    assert facts["steps"] == STEPS
    assert sum(parts.values()) == pytest.approx(facts["step_ms"], abs=0.01)
    assert min(parts.values()) >= 0
    assert {part for part, _ in parts} == {"data", "forward", "backward", "optimizer", "other"}
    for part in ("forward", "backward"):
        purposes = {detail for p, detail in parts if p == part}
        assert purposes == {what for what, _ in profiling.PURPOSES} | {profiling.REST}


def test_the_trace_holds_the_steps_and_their_parts(profiled):
    trace = json.loads((profiled / "profile" / "trace.json").read_text())
    names = [e.get("name") for e in trace["traceEvents"] if e.get("cat") == "user_annotation"]
    rounds = 2  # micro-batches a step: 64 tokens, 2 sequences of 16
    assert names.count("step") == STEPS
    assert names.count("forward") == names.count("backward") == STEPS * rounds
    assert names.count("data") == STEPS * rounds * 2  # read, and sent to the device
    assert "aten::bmm" in {e.get("name") for e in trace["traceEvents"]}


def test_the_run_says_where_it_is(profiled):
    (note,) = [line for line in runlog.read_metrics(profiled) if line.get("event") == "note"]
    assert "steps 5 to 6" in note["message"]
    assert str(profiled / "profile" / "trace.json") in note["message"]
    assert facts_of(profiled)["trace"] in note["message"]


def test_a_run_that_ends_too_early_says_so(tiny, runs):
    api.train(tiny, "x", runs, ["train.steps=4"], profile=STEPS)
    notes = [line for line in runlog.read_metrics(runs / "x") if line.get("event") == "note"]
    assert "at least 5 steps" in notes[0]["message"]
    assert not (runs / "x" / "profile").exists()


def test_a_run_that_ends_meanwhile_says_what_there_is(tiny, runs):
    api.train(tiny, "x", runs, ["train.steps=5"], profile=STEPS)
    assert facts_of(runs / "x")["steps"] == 1


def test_a_resumed_run_is_profiled_after_its_own_first_steps(tiny, runs):
    api.train(tiny, "x", runs, ["train.steps=2"], profile=STEPS)
    api.train(tiny, "x", runs, ["train.steps=8"], resume=True, profile=STEPS)
    notes = [line["message"] for line in runlog.read_metrics(runs / "x") if "message" in line]
    assert any("steps 7 to 8" in note for note in notes)


def test_a_terminal_shows_the_table(cli, tiny):
    done = cli("train", tiny, "--profile-steps", 1, "--set", "train.steps=5")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    rows = {" ".join(line[:-3]): line[-3] for line in lines if line[-1:] == ["%"]}
    assert {"data", "forward", "backward", "optimizer", "attention", "a step"} <= set(rows)
    assert float(rows["a step"]) > 0
    again = cli("train", tiny, "--profile")
    assert (again.returncode, again.stdout) == (2, "")  # an old one is not shown


def test_json_stays_one_object(cli, tiny):
    done = cli("train", tiny, "--profile", "--json", "--set", "train.steps=5")
    assert json.loads(done.stdout.splitlines()[-1])["step"] == 5


# What is counted as what.


def event(name, parent=None, start=0.0, end=0.0, own=0.0, kernels=(), label=False):
    """As torch's profiler gives them, in microseconds."""
    kinds = {"is_user_annotation": label, "device_type": "DeviceType.CPU"}
    spent = [SimpleNamespace(name=name, duration=time) for name, time in kernels]
    return SimpleNamespace(
        name=name,
        cpu_parent=parent,
        time_range=SimpleNamespace(start=start, end=end),
        self_cpu_time_total=own,
        kernels=spent,
        **kinds,
    )


@pytest.mark.parametrize(
    ("names", "kernel", "purpose"),
    [
        (["aten::copy_", "aten::addmm", "aten::linear", "forward"], "", "matrix products"),
        (["aten::mm", "MmBackward0", "backward"], "", "matrix products"),
        (
            ["aten::sum", "autograd::engine::evaluate_function: AddmmBackward0"],
            "",
            "matrix products",
        ),
        (["aten::bmm", "aten::matmul"], "", "attention"),
        (["aten::_softmax", "aten::softmax"], "", "attention"),
        (["aten::_scaled_dot_product_flash_attention"], "", "attention"),
        (["aten::_log_softmax", "aten::cross_entropy_loss"], "", "loss"),
        (["aten::nll_loss_backward"], "", "loss"),
        (["aten::sub_", "LossInParts", "forward"], "", "loss"),
        (["aten::native_layer_norm_backward"], "", "norms"),
        (["aten::_fused_rms_norm"], "", "norms"),
        (["aten::gelu"], "", "activations"),
        (["aten::add", "forward"], "", "the rest"),
        (["aten::embedding"], "", "the rest"),
        (["CompiledFunction", "forward"], "triton_per_fused_native_layer_norm_3", "norms"),
        (["CompiledFunction", "forward"], "sm90_xmma_gemm_bf16bf16_bf16f32", "matrix products"),
        (["aten::bmm"], "sm90_xmma_gemm_bf16bf16_bf16f32", "attention"),
    ],
)
def test_an_operator_s_purpose(names, kernel, purpose):
    found = None
    for name in reversed(names):
        found = event(name, found)
    assert profiling.purpose(found, kernel) == purpose


@pytest.fixture
def step():
    """A step of 100 us: data 10, forward 30 and backward 40 of which operators do 35 and 20."""
    label = {"label": True}
    return [
        event("step", None, 0, 100, 1, **label),
        event("accumulate", None, 5, 90, 1, **label),
        event("data", None, 5, 15, 10, **label),
        event("forward", None, 15, 45, 4, **label),
        event("aten::addmm", None, 16, 40, 20, kernels=[("gemm", 8.0)]),
        event("aten::native_layer_norm", None, 41, 44, 6, kernels=[("norm_kernel", 2.0)]),
        event("backward", None, 45, 85, 5, **label),
        event("aten::mm", None, 46, 80, 35, kernels=[("gemm", 16.0)]),
        event("aten::add_", None, 91, 99, 8, kernels=[("adam", 4.0)]),
        event("aten::mm", None, 200, 220, 20, kernels=[("gemm", 99.0)]),  # after the step
    ]


def test_on_a_cpu_parts_are_as_long_as_the_clock_says(step):
    found = profiling.shares(step, "cpu")
    assert (found["steps"], found["step_ms"]) == (1, 0.1)
    assert {(p, d): round(1000 * ms) for p, d, ms in found["parts"]} == {
        ("data", ""): 10,
        ("forward", "matrix products"): 20,
        ("forward", "norms"): 6,
        ("forward", "the rest"): 4,
        ("backward", "matrix products"): 35,
        ("backward", "the rest"): 5,
        ("optimizer", ""): 15,
        ("other", ""): 5,
    }


def test_on_a_gpu_they_are_the_kernels_and_what_is_left_is_waiting(step):
    parts = profiling.shares(step, "cuda")["parts"]
    assert {(p, d): round(1000 * ms) for p, d, ms in parts if ms} == {
        ("forward", "matrix products"): 8,
        ("forward", "norms"): 2,
        ("backward", "matrix products"): 16,
        ("optimizer", ""): 4,
        ("GPU waiting", ""): 70,
    }


def test_the_table_adds_up(step, capsys):
    facts = profiling.shares(step, "cpu") | {"device": "cpu", "trace": "runs/x/trace.json"}
    profiling.show(facts, Console(width=80))
    text = capsys.readouterr().out
    assert ["backward", "0.04", "40", "%"] in [line.split() for line in text.splitlines()]
    assert "runs/x/trace.json" in text
