"""What this machine can do, and what will not work and why: before a run is started."""

import os
import platform
import shutil
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from buildgpt.core import Core

PACKAGES = ("torch", "numpy", "tiktoken", "safetensors")
DISK_GB, MEMORY_GB = 2, 2  # what the demo needs with room to spare
MATMUL_SIZE = {"cpu": 1024, "mps": 4096, "cuda": 8192}
SECONDS_A_MEASUREMENT = 1.0


def examine(core: Core) -> dict[str, Any]:
    """Look at everything and measure: {"checks": [{name, value, problem}], "fit": bool}.

    `problem` is empty, or says what is wrong and what to do.
    """
    device = core.runtime.choose_device("auto")
    checks = [versions(), machine(), device_check(core, device), ranks(device)]
    checks += [
        dtype_check(core, device),
        memory(),
        disk(),
        compiling(core, device),
        *speed(core, device),
    ]
    return {"checks": checks, "fit": not any(check["problem"] for check in checks)}


def check(name: str, value: str, problem: str = "") -> dict[str, str]:
    """One row of the report."""
    return {"name": name, "value": value, "problem": problem}


def versions() -> dict[str, str]:
    """Python's and the packages' versions."""
    found = {"python": platform.python_version()}
    missing = []
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            missing.append(package)
    problem = f"install {', '.join(missing)}" if missing else ""
    return check("versions", ", ".join(f"{k} {v}" for k, v in found.items()), problem)


def machine() -> dict[str, str]:
    """The system and how many threads torch uses on it."""
    import torch

    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    value = f"{platform.system()} {platform.machine()}, {cores} cores, {threads} threads in use"
    return check("machine", value)


def device_check(core: Core, device: Any) -> dict[str, str]:
    """What the model will run on."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return check("device", name)


def ranks(device: Any) -> dict[str, str]:
    """How many processes can train together, and over what they talk."""
    import torch
    import torch.distributed as dist

    if device.type != "cuda":
        talk = "gloo" if dist.is_available() and dist.is_gloo_available() else "nothing here"
        return check("ranks", f"processes talk over {talk}: for rehearsals, not for speed")
    gpus, nccl = torch.cuda.device_count(), dist.is_available() and dist.is_nccl_available()
    lacking = "" if nccl or gpus == 1 else "several GPUs need a PyTorch with NCCL; install one"
    return check("ranks", f"{gpus} GPUs, NCCL {'is here' if nccl else 'is missing'}", lacking)


def dtype_check(core: Core, device: Any) -> dict[str, str]:
    """The dtype of matrix products."""
    best = core.runtime.best_dtype(device)
    reasons = {"fp32": " (this hardware does not multiply bf16 faster)", "fp16": " with a scaler"}
    return check("dtype", best + reasons.get(best, ""))


def memory() -> dict[str, str]:
    """The memory that is free, on the GPU where there is one."""
    import torch

    place, amounts = "GPU memory" if torch.cuda.is_available() else "memory", memory_amounts()
    if amounts is None:
        return check(place, "unknown on this system")
    free, total = (amount / 1e9 for amount in amounts)
    little = f"close other programs; the demo wants {MEMORY_GB} GB" if total < MEMORY_GB else ""
    return check(place, f"{free:.1f} of {total:.1f} GB free", little)


def memory_amounts() -> tuple[int, int] | None:
    """Bytes that are free and bytes in all, of the GPU where there is one; None if unknown."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()
    names = getattr(os, "sysconf_names", {})
    if "SC_AVPHYS_PAGES" not in names:
        return None
    page = os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page


def disk() -> dict[str, str]:
    """The room where runs will lie."""
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    little = f"free some space: runs and data want {DISK_GB} GB" if free < DISK_GB else ""
    return check("disk", f"{free:.1f} GB free in {Path.cwd()}", little)


def compiling(core: Core, device: Any) -> dict[str, str]:
    """Whether torch.compile has what it needs; training works without it."""
    missing = core.runtime.compiler_missing(device)
    used = core.runtime.choose_compile("auto", device)[0]
    value = "works here" if not missing else f"not here: {missing}"
    return check("compiling", f"{value}; {'used' if used else 'not used'} by default")


def speed(core: Core, device: Any) -> list[dict[str, str]]:
    """Matrix products a second in the dtype of training, and how the threads share the work."""
    import torch

    dtype = core.runtime.DTYPES[core.runtime.best_dtype(device)]
    size = MATMUL_SIZE[device.type]
    best = matmul_flops(device, dtype, size)
    rows = [check("matrix products", f"{best / 1e12:.3f} TFLOP/s in {str(dtype)[6:]}")]
    threads = torch.get_num_threads()
    if device.type == "cpu" and threads > 1:
        torch.set_num_threads(1)
        single = matmul_flops(device, dtype, size)
        torch.set_num_threads(threads)
        rows.append(thread_check(threads, best / single))
    return rows


def thread_check(threads: int, gain: float) -> dict[str, str]:
    """Whether more threads help; on a busy machine they can be slower than one."""
    problem = ""
    if gain < 1:
        problem = "another program keeps a core busy: stop it, or training leaves threads out"
    return check("threads", f"{threads} threads are {gain:.2f} times as fast as one", problem)


def matmul_flops(device: Any, dtype: Any, size: int) -> float:
    """FLOP/s of square matrix products, 2 n^3 each, the best of several timings."""
    import torch

    def wait() -> None:
        if device.type != "cpu":
            getattr(torch, device.type).synchronize()

    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    a @ b
    wait()
    best, ends = float("inf"), time.perf_counter() + SECONDS_A_MEASUREMENT
    while time.perf_counter() < ends:
        began = time.perf_counter()
        for _ in range(4):
            a @ b
        wait()
        best = min(best, (time.perf_counter() - began) / 4)
    return 2 * size**3 / best


def show(report: dict[str, Any], console: Console) -> None:
    """The report as a table, then what to do about each problem."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for row in report["checks"]:
        table.add_row("!" if row["problem"] else "ok", row["name"], row["value"])
    console.print(table)
    for row in report["checks"]:
        if row["problem"]:
            console.print(f"{row['name']}: {row['problem']}", style="yellow")
    console.print("fit for training" if report["fit"] else "see above for what to do")
    console.print(f"python: {sys.executable}", style="dim")
