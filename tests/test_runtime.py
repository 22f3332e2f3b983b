"""Which device, dtype and compiler are chosen, and that ranks agree."""

import dataclasses
import json
import os
import platform
import socket
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from buildgpt.gpt import runtime as runtime_module
from buildgpt.gpt.config import ModelConfig, RuntimeConfig, UsageError
from buildgpt.gpt.model import GPT
from buildgpt.gpt.modern import build
from buildgpt.gpt.runtime import (
    Replica,
    Runtime,
    choose_compile,
    choose_device,
    choose_dtype,
    choose_threads,
    fastest_threads,
    start_runtime,
)

FAULTS = """
import resource, sys, torch
from buildgpt.gpt.runtime import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        pieces = [torch.zeros(2**20) for _ in range(8)]
        del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine: so many GPUs of a capability, Apple's, a CPU with bf16."""

    def pretend(gpus=0, capability=(9, 0), mps=False, cpu_bf16=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        found = {"avx512_bf16": cpu_bf16, "amx_bf16": False}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)

    return pretend


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """Pretend that a C++ compiler and Python's headers are there, or not."""

    def pretend(found=("g++",), headers=True):
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(runtime_module.shutil, "which", lambda c: c if c in found else None)
        monkeypatch.setattr(runtime_module.sysconfig, "get_path", lambda name: str(tmp_path))
        if headers:
            (tmp_path / "Python.h").touch()

    return pretend


def one_line(notes: list[str]) -> str:
    (note,) = notes
    assert note
    assert "\n" not in note
    return note


# Devices.


def test_cuda_comes_before_mps_before_the_cpu(machine):
    machine(gpus=1, mps=True)
    assert choose_device("auto") == CUDA
    machine(mps=True)
    assert choose_device("auto") == MPS
    machine()
    assert choose_device("auto") == CPU


def test_a_device_that_is_here_can_be_wished_for(machine):
    machine(gpus=2, mps=True)
    for wish in ("cpu", "mps", "cuda", "cuda:0", "cuda:1"):
        assert str(choose_device(wish)) == wish


@pytest.mark.parametrize("wish", ["cuda", "cuda:0", "mps", "tpu", "", "cpu:x", "CPU"])
def test_a_device_that_is_not_here_is_refused(machine, wish):
    machine()
    with pytest.raises(UsageError) as refused:
        choose_device(wish)
    assert refused.value.exit_status == 2
    assert repr(wish) in str(refused.value)
    assert "this machine has: cpu" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("wish", ["cuda:2", "cuda:-1", "cuda:first", "cuda:", "mps"])
def test_a_gpu_too_many_is_refused(machine, wish):
    machine(gpus=2)
    with pytest.raises(UsageError, match="this machine has: cuda"):
        choose_device(wish)


# Dtypes.

BEST = [
    (CUDA, {"gpus": 1, "capability": (9, 0)}, BF16),
    (CUDA, {"gpus": 1, "capability": (8, 0)}, BF16),
    (CUDA, {"gpus": 1, "capability": (7, 5)}, FP16),
    (MPS, {"mps": True}, FP32),
    (CPU, {"cpu_bf16": True}, BF16),
    (CPU, {"cpu_bf16": False}, FP32),
]


@pytest.mark.parametrize(("device", "abilities", "best"), BEST, ids=str)
def test_the_best_dtype_is_taken_without_a_word(machine, device, abilities, best):
    machine(**abilities)
    assert choose_dtype("auto", device) == (best, [])


def test_a_torch_that_does_not_tell_capabilities_gets_fp32(machine, monkeypatch):
    machine(cpu_bf16=True)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert choose_dtype("auto", CPU) == (FP32, [])


@pytest.mark.parametrize(("device", "abilities", "best"), BEST, ids=str)
def test_fp32_works_everywhere(machine, device, abilities, best):
    machine(**abilities)
    assert choose_dtype("fp32", device) == (FP32, [])


FALLS_BACK = [
    ("fp16", CPU, {"cpu_bf16": False}, FP32),
    ("fp16", CPU, {"cpu_bf16": True}, BF16),
    ("fp16", MPS, {"mps": True}, FP32),
    ("bf16", MPS, {"mps": True}, FP32),
    ("bf16", CUDA, {"gpus": 1, "capability": (7, 0)}, FP16),
]


@pytest.mark.parametrize(("wish", "device", "abilities", "taken"), FALLS_BACK, ids=str)
def test_a_dtype_that_cannot_be_had_falls_back_with_a_line(machine, wish, device, abilities, taken):
    machine(**abilities)
    dtype, notes = choose_dtype(wish, device)
    assert dtype == taken
    assert wish in one_line(notes)


def test_a_dtype_that_works_is_kept_though_another_is_faster(machine):
    machine(gpus=1)
    assert choose_dtype("fp16", CUDA) == (FP16, [])
    assert choose_dtype("bf16", CUDA) == (BF16, [])
    assert choose_dtype("bf16", CPU) == (BF16, [])


# Compiling.


def test_compiling_is_for_gpus_unless_wished_for(compiler):
    compiler()
    assert choose_compile("auto", CUDA) == (True, [])
    assert choose_compile("auto", CPU) == (False, [])
    assert choose_compile("auto", MPS) == (False, [])
    assert choose_compile("on", CPU) == (True, [])
    assert choose_compile("off", CUDA) == (False, [])


@pytest.mark.parametrize(
    ("missing", "advice"),
    [({"found": ()}, "install g++"), ({"headers": False}, "install python3-dev")],
    ids=str,
)
def test_without_a_compiler_one_line_says_what_to_install(compiler, missing, advice):
    compiler(**missing)
    for wish, device in (("on", CPU), ("auto", CUDA)):
        compiles, notes = choose_compile(wish, device)
        assert not compiles
        assert advice in one_line(notes)
    assert choose_compile("auto", CPU) == choose_compile("off", CUDA) == (False, [])


def test_any_compiler_will_do(compiler, monkeypatch):
    compiler(found=("clang++",))
    assert choose_compile("on", CPU) == (True, [])
    compiler(found=("my-g++",))
    monkeypatch.setenv("CXX", "my-g++")
    assert choose_compile("on", CPU) == (True, [])


def test_compiling_stays_off_on_mps_and_on_windows(compiler, monkeypatch):
    compiler()
    assert not choose_compile("on", MPS)[0]
    monkeypatch.setattr(sys, "platform", "win32")
    compiles, notes = choose_compile("on", CPU)
    assert not compiles
    assert "win32" in one_line(notes)


# The value that is passed on.


@pytest.fixture
def alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("alone")
def test_one_process_is_rank_0_of_1(machine, compiler):
    machine()
    compiler(found=())
    runtime = start_runtime(RuntimeConfig(dtype="fp16", compile="on"))
    assert (runtime.device, runtime.dtype, runtime.compile) == (CPU, FP32, False)
    assert (runtime.rank, runtime.world_size, runtime.is_main) == (0, 1, True)
    assert len(runtime.notes) == 2
    runtime.wait()
    runtime.close()


@pytest.mark.usefixtures("alone")
def test_a_missing_device_is_refused_before_anything_starts(machine):
    machine()
    with pytest.raises(UsageError, match="cuda"):
        start_runtime(RuntimeConfig(device="cuda"))


def test_one_process_agrees_with_itself():
    runtime = Runtime(CPU)
    values = torch.tensor([1.5, 2.5])
    assert torch.equal(runtime.sum(values), values)
    assert runtime.agree(0.1) == 0.1
    assert (runtime.any(True), runtime.any(False)) == (True, False)
    model = torch.nn.Linear(2, 2)
    assert runtime.whole_model(model) is model
    assert runtime.collect({"a": values})["a"] is values
    assert runtime.spread({"a": values}, {"a": values})["a"] is values


def test_it_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Runtime(CPU).rank = 1  # type: ignore[misc]


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_autocast_multiplies_in_its_dtype_and_adds_in_fp32(dtype):
    runtime = Runtime(CPU, dtype)
    weights = torch.randn(8, 8)
    with warnings.catch_warnings(), runtime.autocast():
        warnings.simplefilter("error")
        product = weights @ weights
        loss = torch.nn.functional.cross_entropy(product, torch.arange(8))
    assert product.dtype == dtype
    assert loss.dtype == weights.dtype == FP32


def test_only_fp16_needs_a_scaler():
    assert [Runtime(CPU, dtype).needs_scaler for dtype in (BF16, FP16, FP32)] == [
        False,
        True,
        False,
    ]


def test_tensors_are_sent_as_they_are():
    ids, targets = torch.randint(9, (2, 3, 4))
    sent = Runtime(CPU).send(ids, targets)
    assert [t.tolist() for t in sent] == [ids.tolist(), targets.tolist()]


@pytest.mark.parametrize("architecture", ["gpt2", "modern"])
def test_forgotten_activations_change_no_bit_but_are_not_kept(architecture):
    """Also not with dropout, which has to draw the same once more."""
    shape = {"layers": 4, "heads": 2, "width": 16, "context": 12, "vocab_size": 65}
    config = ModelConfig(**shape, dropout=0.3, architecture=architecture)
    ids = torch.randint(65, (2, 13))

    def train(**wishes):
        torch.manual_seed(7)
        model = build(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        replica = Replica(model, start_runtime(RuntimeConfig(device="cpu", dtype="fp32", **wishes)))
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            replica(ids[:, :-1], ids[:, 1:], last=True)
        torch.manual_seed(8)
        loss = replica(ids[:, :-1], ids[:, 1:], last=True)
        loss.backward()
        assert model.eval()(ids[:, :-1]).shape == (2, 12, 65)
        return [loss.detach(), *(p.grad for p in model.parameters())], len(kept)

    (plain, many), (frugal, few) = train(), train(checkpoint_activations=True)
    assert all(map(torch.equal, plain, frugal))
    assert few < many / 2


def test_what_goes_to_a_gpu_lies_in_pinned_memory_without_gaps(monkeypatch):
    """torch packs a view with gaps into pageable memory first, and then waits for the copy."""
    pinned = []

    def pin_memory(tensor):
        pinned.append(tensor.is_contiguous())
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, *place, **how: tensor)
    both = torch.randint(9, (3, 5))
    Runtime(CUDA).send(both[:, :-1], both[:, 1:])
    assert pinned == [True, True]


# Two processes.

SETUP = """
import json, os, sys, torch
from pathlib import Path
from types import SimpleNamespace
from buildgpt.gpt.config import ModelConfig, RuntimeConfig
from buildgpt.gpt.data import ShardWriter, Stream
from buildgpt.gpt.evaluate import evaluate
from buildgpt.gpt.model import GPT
from buildgpt.gpt.runtime import Replica, start_runtime
from buildgpt.gpt.tokenizer import CharTokenizer

torch.set_num_threads(1)
letters = CharTokenizer("abcdefgh")
config = ModelConfig(layers=2, heads=2, width=16, context=8, vocab_size=letters.vocab_size)

def fresh_model():
    torch.manual_seed(0)
    return GPT(config)

def batch():
    torch.manual_seed(1)
    ids = torch.randint(letters.vocab_size, (8, 9))
    return ids[:, :-1], ids[:, 1:]
"""

WORK = """
class Late(Replica):
    def __call__(self, ids, targets, last):  # a known bug: DDP reads the flag in its forward pass
        loss = self.call(ids, targets)
        self.wrapped.require_backward_grad_sync = last
        return loss

runtime = start_runtime(RuntimeConfig(device="cpu", dtype="fp32", compile="off"))
rank = runtime.rank
model, (x, y) = fresh_model(), batch()
rounds = 2  # micro-batches on each rank
replica, late = Replica(model, runtime), Late(fresh_model(), runtime)
for one in (replica, late):
    one.settle(2)
    one.wrapped.require_backward_grad_sync = False
    for r in range(rounds):
        share = slice((r * 2 + rank) * 2, (r * 2 + rank) * 2 + 2)
        (one(x[share], y[share], last=r == rounds - 1) / rounds).backward()
stream = Stream(sorted(Path(sys.argv[1]).glob("*.bin")), letters.vocab_size)
held_out = SimpleNamespace(val=stream, val_tokens=len(stream), tokenizer=letters)
found = evaluate(fresh_model(), held_out, runtime, batch=2)
runtime.wait()
told = {
    "ranks": [rank, runtime.world_size, runtime.is_main],
    "sum": runtime.sum(torch.tensor([1.0, 10.0 ** rank])).tolist(),
    "agree": runtime.agree(0.1 + rank),
    "any": [runtime.any(False), runtime.any(rank == 1), runtime.any(True)],
    "gradients": [p.grad.tolist() for p in model.parameters()],
    "late": [p.grad.tolist() for p in late.model.parameters()],
    "evaluation": [found.loss, found.bits_per_byte, found.tokens],
}
Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(told))
del replica, late, one
runtime.close()
os._exit(0)  # as train.leave
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def setup() -> dict:
    """The names that both processes have, in this one."""
    names: dict = {}
    exec(SETUP, names)
    return names


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory, setup) -> list[dict]:
    """What each of two processes, started as torchrun starts them, found."""
    folder = tmp_path_factory.mktemp("ranks")
    writer = setup["ShardWriter"](folder, "val", shard_tokens=30)
    torch.manual_seed(2)
    writer.add(torch.randint(9, (100,)).tolist())
    writer.close()
    port = str(free_port())
    processes = []
    for rank in range(2):
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        command = [sys.executable, "-c", SETUP + WORK, str(folder)]
        processes.append(subprocess.Popen(command, env={**os.environ, **ranks, **address}))
    try:
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    told = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
    stream = setup["Stream"](sorted(folder.glob("*.bin")), 9)
    model, letters = setup["fresh_model"](), setup["letters"]
    held_out = SimpleNamespace(val=stream, val_tokens=100, tokenizer=letters)
    found = setup["evaluate"](model, held_out, Runtime(CPU), batch=2)
    return [*told, {"evaluation": [found.loss, found.bits_per_byte, found.tokens]}]


def test_ranks_are_those_of_torchrun(two_ranks):
    assert [told["ranks"] for told in two_ranks[:2]] == [[0, 2, True], [1, 2, False]]


def test_ranks_add_up_and_agree(two_ranks):
    for told in two_ranks[:2]:
        assert told["sum"] == [2.0, 11.0]
        assert told["agree"] == 0.1
        assert told["any"] == [False, True, True]


def test_averaged_gradients_are_those_of_the_whole_batch(two_ranks, setup):
    """Two ranks of two micro-batches train like one rank with all of it."""
    model, (x, y) = setup["fresh_model"](), setup["batch"]()
    assert isinstance(model, GPT)
    model(x, y).backward()
    for told in two_ranks[:2]:
        for parameter, gradient in zip(model.parameters(), told["gradients"]):
            torch.testing.assert_close(torch.tensor(gradient), parameter.grad, rtol=1e-4, atol=1e-7)
    assert two_ranks[0]["gradients"] == two_ranks[1]["gradients"]  # in every bit


def test_a_flag_that_is_set_too_late_would_be_noticed(two_ranks):
    """The bug of several known scripts: the gradients of the two ranks are not averaged."""
    assert two_ranks[0]["late"] != two_ranks[1]["late"]
    right, wrong = (torch.tensor(two_ranks[0][key][0]) for key in ("gradients", "late"))
    assert (wrong - right).norm() / right.norm() > 0.1


def test_the_validation_loss_does_not_depend_on_the_ranks(two_ranks):
    """In every bit: each window's sum is made by one rank, all are added in one order."""
    first, second, alone = (told["evaluation"] for told in two_ranks)
    assert first == second == alone


# How many threads.


@pytest.fixture
def threads(monkeypatch):
    """A machine of 4 threads, on which nothing says how many to take; holds how many are taken."""
    taken = [4]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(runtime_module, "ALL_THREADS", 4)
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: taken[-1])
    return taken


@pytest.fixture
def fastest(monkeypatch):
    """fastest(2): so many threads are found to be fastest; not called, measuring is an error."""
    monkeypatch.setattr(runtime_module, "fastest_threads", None)
    return lambda count: monkeypatch.setattr(
        runtime_module, "fastest_threads", lambda width, dtype: count
    )


def test_the_fastest_number_of_threads_is_taken_and_told_if_it_is_not_all(threads, fastest):
    fastest(1)
    (note,) = choose_threads(Runtime(CPU, notes=()), 0, 0, 64).notes
    assert threads[-1] == 1
    assert "1 of 4 threads" in note and "busy" in note
    fastest(4)
    assert choose_threads(Runtime(CPU, notes=("x",)), 0, 0, 64).notes == ("x",)
    assert threads[-1] == 4


def test_a_run_goes_on_with_as_many_threads_as_it_had(threads, fastest):
    (note,) = choose_threads(Runtime(CPU), 0, 3, 64).notes
    assert threads[-1] == 3
    assert "3 of 4 threads" in note and "--set runtime.threads=4" in note
    assert not choose_threads(Runtime(CPU), 0, 4, 64).notes


def test_more_threads_than_this_machine_has_are_not_gone_on_with(threads, fastest):
    fastest(2)
    (note,) = choose_threads(Runtime(CPU), 0, 8, 64).notes
    assert threads[-1] == 2
    assert "busy" in note


@pytest.mark.usefixtures("fastest")
def test_what_the_recipe_says_comes_first_then_the_environment(threads, monkeypatch):
    assert not choose_threads(Runtime(CPU), 2, 3, 64).notes
    assert threads == [4, 2]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert not choose_threads(Runtime(CPU), 0, 2, 64).notes
    assert threads == [4, 2]
    choose_threads(Runtime(CPU), 1, 2, 64)
    assert threads == [4, 2, 1]


@pytest.mark.usefixtures("fastest")
def test_threads_are_a_matter_of_the_cpu_only(threads):
    choose_threads(Runtime(torch.device("cuda")), 2, 3, 64)
    assert threads == [4]


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 4, 2: 2, 3: 1.5, 4: 1}, 4),  # a quiet machine
        ({1: 1, 2: 4, 3: 8, 4: 9}, 1),  # a small model beside a busy process
        ({1: 4, 2: 2, 3: 1.5, 4: 3}, 3),  # a large one
        ({1: 0.95, 2: 2, 3: 2, 4: 1}, 4),  # too close to leave threads out for
    ],
)
def test_the_fastest_number_of_threads_is_found(threads, monkeypatch, seconds, best):
    """By a clock on which every product takes so many milliseconds."""
    now = [0.0]

    def clock():
        now[0] += seconds[threads[-1]] / 1000
        return now[0]

    monkeypatch.setattr(runtime_module.time, "perf_counter", clock)
    assert fastest_threads(8, torch.float32) == best
    assert set(threads[1:]) == {1, 2, 3, 4}


def test_a_single_thread_is_not_measured(threads, monkeypatch):
    monkeypatch.setattr(runtime_module, "ALL_THREADS", 1)
    assert fastest_threads(8, torch.float32) == 1
    assert threads == [4]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_taken_again_without_asking_the_system():
    def faults(how):
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    given_back = faults("given back")  # of 80 pieces of 1,024 pages each
    assert faults("kept") < 100
    if given_back < 10_000:  # something that lies above them in memory holds them
        pytest.skip("this process's memory keeps the pieces anyway")
