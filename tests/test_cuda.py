"""What only an NVIDIA GPU can show. On a machine with one: python -m pytest -k cuda"""

import dataclasses
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from buildgpt.decoding import for_decoding
from buildgpt.gpt import runlog, train
from buildgpt.gpt.config import ModelConfig, RuntimeConfig
from buildgpt.gpt.generate import Sampling, generate
from buildgpt.gpt.model import GPT
from buildgpt.gpt.runtime import compiler_missing, start_runtime

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

DEVICE = "cuda"
SMALL = ModelConfig(layers=2, heads=2, width=64, context=64, vocab_size=500)


@pytest.fixture(autouse=True)
def precision():
    """TF32 is on for a test only: the runtime switches it on for the whole process."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def runtime():
    """runtime("bf16") is what a run of that dtype computes on."""
    return lambda dtype: start_runtime(RuntimeConfig(device=DEVICE, dtype=dtype, compile="off"))


def losses(run: Path) -> list[float]:
    """The training loss of every step, the latest attempt's."""
    lines = runlog.read_metrics(run)
    return list({li["step"]: li["loss"] for li in lines if li["kind"] == "train"}.values())


@pytest.mark.parametrize("dtype,near", [("fp32", 5e-4), ("bf16", 2e-3)])
def test_the_loss_is_the_cpus(runtime, dtype, near):
    model = GPT(SMALL)
    ids, targets = torch.randint(SMALL.vocab_size, (2, 4, 64))
    expected = model(ids, targets).item()
    here = runtime(dtype)
    with here.autocast():
        found = model.to(here.device)(*here.send(ids, targets))
    assert found.item() == pytest.approx(expected, abs=near)


def test_a_batch_arrives_as_it_was_sent(runtime):
    here = runtime("fp32")
    both = torch.randint(500, (4, 65))
    for sent, arrived in zip((both[:, :-1], both[:, 1:]), here.send(both[:, :-1], both[:, 1:])):
        assert arrived.device.type == DEVICE
        assert torch.equal(arrived.cpu(), sent)


def test_gradients_are_the_cpus(runtime):
    model = GPT(SMALL)
    ids, targets = torch.randint(SMALL.vocab_size, (2, 4, 64))
    model(ids, targets).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    here = runtime("bf16")
    with here.autocast():
        loss = model.to(here.device)(*here.send(ids, targets))
    loss.backward()
    for name, parameter in model.named_parameters():
        error = (parameter.grad.cpu() - expected[name]).norm() / expected[name].norm()
        assert error < 2e-2, name


def test_training_agrees_with_the_cpu_compiled_or_not(fit):
    settings = [f"runtime.device={DEVICE}", "runtime.dtype=bf16"]
    on_cpu = losses(fit("cpu"))
    eager = losses(fit("eager", *settings))
    assert all(math.isfinite(loss) for loss in eager)
    assert eager == pytest.approx(on_cpu, abs=2e-2)
    if compiler_missing(torch.device(DEVICE)):
        pytest.skip("torch.compile lacks its compiler here")
    compiled = losses(fit("compiled", *settings, "runtime.compile=on"))
    assert compiled == pytest.approx(on_cpu, abs=2e-2)


def test_evaluation_is_the_cpus(fit):
    on_cpu = runlog.read_metrics(fit("cpu"))
    on_gpu = runlog.read_metrics(fit("gpu", f"runtime.device={DEVICE}"))
    for mine, theirs in zip(
        *([li for li in run if li["kind"] == "val"] for run in (on_gpu, on_cpu))
    ):
        assert mine["scored"] == theirs["scored"]
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-2)


def test_a_resumed_run_goes_on_as_the_undisturbed_one_did(fit):
    settings = [f"runtime.device={DEVICE}", "train.keep_checkpoints=9"]
    whole = fit("whole", *settings)
    broken = whole.with_name("broken")
    shutil.copytree(whole, broken)
    for later in ("step_000006", "step_000008"):
        shutil.rmtree(broken / "checkpoints" / later)
    (broken / "state").write_text("RUNNING\n")
    fit("broken", resume=True)
    assert {line["attempt"] for line in runlog.read_metrics(broken)} == {1, 2}
    # Not to the bit: sums by atomic additions end in any order on a GPU.
    assert losses(broken) == pytest.approx(losses(whole), abs=1e-3)


def test_greedy_decoding_gives_the_cpus_ids():
    torch.set_float32_matmul_precision("highest")
    model = GPT(dataclasses.replace(SMALL, init_std=0.3)).eval()  # far from ties
    sampling = Sampling(max_tokens=80, temperature=0)  # beyond the context
    on_cpu = [int(token) for token in generate(model, [1, 2, 3], sampling)]
    on_gpu = [int(token) for token in generate(model.to(DEVICE), [1, 2, 3], sampling)]
    assert on_gpu == on_cpu


@pytest.mark.parametrize("samples", [1, 3])
def test_recorded_steps_decode_as_the_model_does(samples):
    """The CUDA graph, also for a second prompt and beyond the context."""
    torch.manual_seed(0)
    config = ModelConfig(layers=2, heads=2, width=32, context=16, vocab_size=50)
    model = GPT(config).cuda().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    decoder = for_decoding(model)
    assert type(decoder) is not GPT
    sampling = Sampling(max_tokens=24, temperature=0, samples=samples)
    for prompt in ([1, 2, 3], [4]):
        plain, recorded = (
            torch.stack(list(generate(m, prompt, sampling))) for m in (model, decoder)
        )
        assert torch.equal(plain, recorded)
    assert decoder.graph is not None


@pytest.mark.skipif(not dist.is_nccl_available(), reason="this torch has no NCCL")
def test_ranks_talk_over_nccl(monkeypatch, tmp_path):
    for key, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(key, value)
    here = start_runtime(RuntimeConfig(device=DEVICE))
    group = {"init_method": f"file://{tmp_path}/group", "rank": 0, "world_size": 1}
    dist.init_process_group("cpu:gloo,cuda:nccl", **group)
    two = dataclasses.replace(here, world_size=2)  # so that it asks the group, of one
    for device in ("cpu", DEVICE):
        assert two.sum(torch.tensor([1.5, 2.0], device=device)).tolist() == [1.5, 2.0]
    assert two.agree(3.25) == 3.25
    assert two.any(True) and not two.any(False)
    two.close()
    assert not dist.is_initialized()


def test_a_run_under_torchrun_ends_well(tiny, tmp_path, environment):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = ["--nproc-per-node", "1", "-m", "buildgpt.gpt.train", str(tiny), "--name", "run"]
    words += ["--runs", str(tmp_path), "--set", f"runtime.device={DEVICE}"]
    done = subprocess.run(
        [*torchrun, *words], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert train.read_state(tmp_path / "run") == "DONE"
    assert os.listdir(tmp_path / "run" / "checkpoints")
