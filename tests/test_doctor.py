"""doctor: what this machine can do, and for each problem what to do about it."""

import io
import json
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from buildgpt.reproduce import doctor

ROWS = ["versions", "machine", "device", "ranks", "dtype", "memory", "disk", "compiling"]
ROWS += ["matrix products"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The smallest measurements."""
    monkeypatch.setattr(doctor, "SECONDS_A_MEASUREMENT", 0.001)
    monkeypatch.setattr(doctor, "MATMUL_SIZE", {"cpu": 8, "mps": 8, "cuda": 8})


def printed(report: dict) -> str:
    console = Console(width=200, file=io.StringIO(), color_system=None)
    doctor.show(report, console)
    return console.file.getvalue()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's memory has another name")
def test_the_report_says_what_is_here(core):
    report = doctor.examine(core)
    assert [check["name"] for check in report["checks"]][: len(ROWS)] == ROWS
    values = {check["name"]: check["value"] for check in report["checks"]}
    assert torch.__version__.partition("+")[0] in values["versions"]
    assert values["device"] == "cpu" or torch.backends.mps.is_available()
    assert values["dtype"].split()[0] in ("fp32", "bf16")
    assert "TFLOP/s" in values["matrix products"]
    assert "GB free" in values["disk"]


def test_the_report_is_json_on_the_command_line(say):
    outcome = say("doctor", "--json")
    assert outcome.status == 0
    report = json.loads(outcome.out.splitlines()[-1])
    assert report.keys() == {"checks", "fit"}
    assert all(check.keys() == {"name", "value", "problem"} for check in report["checks"])
    assert report["fit"] == (not any(check["problem"] for check in report["checks"]))


def test_the_report_is_a_table_for_people(say):
    outcome = say("doctor")
    assert (outcome.status, outcome.err) == (0, "")
    for name in ("versions", "disk", "compiling", "matrix products", "python: "):
        assert name in outcome.out


def test_a_full_disk_and_little_memory_are_problems_with_a_way_out(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e9))
    assert "free some space" in doctor.disk()["problem"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.os, "sysconf", lambda name: 4096 if "SIZE" in name else 1000)
    assert "close other programs" in doctor.memory()["problem"]


def test_a_package_that_is_missing_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
    assert doctor.versions()["problem"] == "install no-such-package"


def test_what_compiling_lacks_is_said(core, monkeypatch):
    from buildgpt.gpt import runtime

    device = torch.device("cpu")
    monkeypatch.setattr(runtime, "compiler_missing", lambda device: "there is no C++ compiler")
    assert "not here: there is no C++ compiler" in doctor.compiling(core, device)["value"]
    monkeypatch.setattr(runtime, "compiler_missing", lambda device: "")
    assert doctor.compiling(core, device)["value"] == "works here; not used by default"


@pytest.mark.parametrize(("gain", "is_problem"), [(0.5, True), (1.9, False)])
def test_threads_that_do_not_help_are_a_problem(gain, is_problem):
    check = doctor.thread_check(4, gain)
    assert bool(check["problem"]) == is_problem
    assert f"{gain:.2f} times as fast" in check["value"]


def test_threads_are_measured_and_put_back(core, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    names = [check["name"] for check in doctor.speed(core, torch.device("cpu"))]
    assert names == ["matrix products", "threads"]
    assert asked == [1, 3]


@pytest.mark.parametrize(("gpus", "nccl", "problem"), [(1, False, 0), (8, False, 1), (8, True, 0)])
def test_several_gpus_need_nccl(monkeypatch, gpus, nccl, problem):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: nccl)
    check = doctor.ranks(torch.device("cuda"))
    assert bool(check["problem"]) == bool(problem)
    assert f"{gpus} GPUs" in check["value"]


def test_processes_of_a_cpu_talk_over_gloo():
    assert "gloo" in doctor.ranks(torch.device("cpu"))["value"]


def test_each_problem_is_said_with_what_to_do():
    bad = {"name": "disk", "value": "1 GB", "problem": "free some space"}
    good = {"name": "memory", "value": "9 GB", "problem": ""}
    text = printed({"checks": [bad, good], "fit": False})
    assert "disk: free some space" in text
    assert "see above for what to do" in text
    assert "fit for training" in printed({"checks": [good], "fit": True})


def test_flops_are_two_n_cubed_a_product(monkeypatch):
    """A clock that moves one second whenever it is read: four products a second."""
    clock = iter(range(10_000))
    monkeypatch.setattr(doctor, "SECONDS_A_MEASUREMENT", 20)
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: float(next(clock)))
    assert doctor.matmul_flops(torch.device("cpu"), torch.float32, 8) == 2 * 8**3 * 4
