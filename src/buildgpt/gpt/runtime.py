"""Where to compute: device, dtype, ranks. One value that is passed on, never a global."""

import os
import shutil
import sys
import sysconfig
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .config import RuntimeConfig, UsageError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Runtime:
    """What this process computes on, and which of how many processes it is.

    `notes` holds a line for everything that was wished for and cannot be had here.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32  # of matrix products (fp32: TF32 on CUDA); weights are fp32
    compile: bool = False
    rank: int = 0
    world_size: int = 1
    notes: tuple[str, ...] = ()

    @property
    def is_main(self) -> bool:
        """Only rank 0 writes and speaks."""
        return self.rank == 0

    @property
    def needs_scaler(self) -> bool:
        """fp16's small gradients would vanish without a loss scale (Micikevicius et al. 2018)."""
        return self.dtype == torch.float16

    def autocast(self) -> AbstractContextManager:
        """Matrix products in `dtype`, sums and norms in fp32."""
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=enabled)

    def send(self, *tensors: Tensor) -> list[Tensor]:
        """Copy tensors to the device; on CUDA the host does not wait for it."""
        cuda = self.device.type == "cuda"  # elsewhere a copy that is not waited for may be torn
        pinned = (tensor.pin_memory() if cuda else tensor for tensor in tensors)
        return [tensor.to(self.device, non_blocking=cuda) for tensor in pinned]

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, on the CPU."""
        if self.world_size == 1:
            return values.cpu()
        place = self.device if dist.get_backend() == "nccl" else torch.device("cpu")
        shared = values.to(place, copy=True)
        dist.all_reduce(shared)
        return shared.cpu()

    def agree(self, value: float) -> float:
        """Rank 0's value, on every rank."""
        mine = value if self.is_main else 0.0
        return float(self.sum(torch.tensor(mine, dtype=torch.float64)))

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on some rank."""
        return bool(self.sum(torch.tensor(float(flag))) > 0)

    def average_gradients(self, model: nn.Module) -> None:
        """Replace each gradient by its mean over the ranks.

        All of them travel in one vector, laid out the same at every step: sums depend on the
        layout in their last bits, and a resumed run is to end in the same bits.
        """
        if self.world_size == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        vector = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(vector)
        vector /= self.world_size
        for gradient, part in zip(gradients, vector.split([g.numel() for g in gradients])):
            gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        """Return when every rank is here."""
        if self.world_size > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the group of ranks, all at once."""
        if self.world_size > 1:
            self.wait()
            dist.destroy_process_group()


def start_runtime(config: RuntimeConfig) -> Runtime:
    """Choose device, dtype and whether to compile; join the ranks that torchrun started, if any.

    Raises UsageError for a device that is not here; lesser wishes fall back, with a note.
    """
    rank, world_size = (int(os.environ.get(k, d)) for k, d in (("RANK", "0"), ("WORLD_SIZE", "1")))
    device = choose_device(config.device)
    if world_size > 1 and device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TF32 where a product stays fp32
    if world_size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    dtype, dtype_notes = choose_dtype(config.dtype, device)
    compiles, compile_notes = choose_compile(config.compile, device)
    return Runtime(device, dtype, compiles, rank, world_size, (*dtype_notes, *compile_notes))


def choose_device(wish: str) -> torch.device:
    """CUDA before Apple's MPS before the CPU, unless one is wished for."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = ["cuda", *(f"cuda:{i}" for i in range(gpus))] if gpus else []
    here += ["mps"] if torch.backends.mps.is_available() else []
    here += ["cpu"]
    if wish == "auto":
        wish = here[0]
    if wish not in here:
        raise UsageError(
            f"runtime.device = {wish!r} is not here; this machine has: {', '.join(here)}"
        )
    return torch.device(wish)


def choose_dtype(wish: str, device: torch.device) -> tuple[torch.dtype, list[str]]:
    """bf16 where the hardware multiplies it, else fp16 on CUDA, else fp32; and notes."""
    best = best_dtype(device)
    if wish == "auto":
        return DTYPES[best], []
    cannot = (wish == "fp16" and device.type != "cuda") or (wish == "bf16" and device.type == "mps")
    slow = wish == "bf16" and device.type == "cuda" and best != "bf16"
    if cannot or slow:
        return DTYPES[best], [f"{wish} does not work well on this {device.type}; taking {best}"]
    return DTYPES[wish], []


def best_dtype(device: torch.device) -> str:
    """The name of the fastest dtype that trains well on the device."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if device.type == "cpu" and cpu_multiplies_bf16():
        return "bf16"
    return "fp32"


def cpu_multiplies_bf16() -> bool:
    """Whether the processor has instructions for bf16 products; without them bf16 is slower."""
    capabilities: Any = getattr(torch.cpu, "get_capabilities", dict)()  # not in older ones
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def choose_compile(wish: str, device: torch.device) -> tuple[bool, list[str]]:
    """Whether to use torch.compile, and notes."""
    missing = compiler_missing(device)
    if wish == "off" or (wish == "auto" and not pays_to_compile(device)):
        return False, []
    return not missing, [f"torch.compile is off: {missing}"] if missing else []


def pays_to_compile(device: torch.device) -> bool:
    """Compiling is for GPUs; on a CPU it takes longer than it gives back in a short run."""
    return device.type == "cuda"


def compiler_missing(device: torch.device) -> str:
    """What torch.compile lacks on this machine, in a few words; empty if nothing."""
    if sys.platform == "win32" or device.type == "mps":
        return f"it does not work well on {sys.platform} with {device.type}"
    if not any(shutil.which(c) for c in (os.environ.get("CXX", "g++"), "clang++")):
        return "there is no C++ compiler; install g++ or clang"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "Python's C headers are missing; install python3-dev"
    return ""
