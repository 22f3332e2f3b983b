"""Where to compute: device, dtype, ranks. One value that is passed on, never a global."""

import ctypes
import os
import platform
import shutil
import statistics
import sys
import sysconfig
import threading
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from .config import RuntimeConfig, require
from .modern import build_like

GRACE_SECONDS = 4.0  # after a failure, to see which of the other ranks are still alive
ALL_THREADS = torch.get_num_threads()  # as many as torch takes, before any are left out
THREAD_ROUNDS, ROUND_SECONDS = 5, 0.02  # of each number of threads that is tried
# glibc's mallopt: which number stands for which threshold, and the highest value it may have.
TRIM_THRESHOLD, MMAP_THRESHOLD = (-1, 2**31 - 1), (-3, 2**25)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Runtime:
    """What this process computes on, and which of how many processes it is.

    `notes` holds a line for everything that was wished for and cannot be had here.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32  # of matrix products (fp32: TF32 on CUDA); weights are fp32
    compile: bool = False
    parallel: str = "ddp"
    checkpoint_activations: bool = False
    rank: int = 0
    world_size: int = 1
    store: Any = None  # where ranks leave notes for each other, even when one of them is dead
    agreements: Any = None  # the group of ranks in which CPU tensors are added up
    notes: tuple[str, ...] = ()

    @property
    def is_main(self) -> bool:
        """Only rank 0 writes and speaks."""
        return self.rank == 0

    @property
    def needs_scaler(self) -> bool:
        """fp16's small gradients would vanish without a loss scale (Micikevicius et al. 2018)."""
        return self.dtype == torch.float16

    @property
    def shards(self) -> bool:
        """Whether each rank holds a part of every weight only."""
        return self.parallel == "fsdp" and self.world_size > 1

    def autocast(self) -> AbstractContextManager:
        """Matrix products in `dtype`, sums and norms in fp32."""
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=enabled)

    def send(self, *tensors: Tensor) -> list[Tensor]:
        """Copy tensors to the device; on CUDA the host does not wait for it."""
        cuda = self.device.type == "cuda"  # elsewhere a copy that is not waited for may be torn
        # A view with gaps, as the targets of a batch are, would be packed into pageable memory on
        # its way, for which the host does wait.
        pinned = (tensor.contiguous().pin_memory() if cuda else tensor for tensor in tensors)
        return [tensor.to(self.device, non_blocking=cuda) for tensor in pinned]

    def device_name(self) -> str:
        """What the device calls itself, "NVIDIA H100 80GB HBM3" or the processor's name."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return processor_name() if self.device.type == "cpu" else self.device.type

    def peak_memory(self) -> int:
        """Bytes that this rank needed at most: of the GPU, else of the whole process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if sys.platform == "win32":
            return 0  # not known
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def facts(self) -> dict[str, Any]:
        """What a run notes of the place where it computes."""
        return {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": str(self.device),
            "device_name": self.device_name(),
            "dtype": str(self.dtype).removeprefix("torch."),
            "compiled": self.compile,
            "parallel": self.parallel,
            "ranks": self.world_size,
        }

    # What the ranks do together. Each of these must be called by all of them, in the same order.

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, on the CPU."""
        if self.world_size == 1:
            return values.cpu()
        self.sign()
        shared = values.clone()
        dist.all_reduce(shared, group=None if shared.is_cuda else self.agreements)
        return shared.cpu()

    def agree(self, value: float) -> float:
        """Rank 0's value, on every rank."""
        mine = value if self.is_main else 0.0
        return float(self.sum(torch.tensor(mine, dtype=torch.float64)))

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on some rank."""
        return bool(self.sum(torch.tensor(float(flag))) > 0)

    def wait(self) -> None:
        """Return when every rank is here."""
        self.sum(torch.zeros(()))

    def collect(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors on rank 0, nothing on others. Parts are put together one by one, on the
        CPU, as all of them at once might not fit into one device's memory."""
        if not self.shards:
            return tensors
        gathered = {}
        for name, tensor in tensors.items():
            full = whole(tensor)
            if self.is_main:
                gathered[name] = full.cpu()
        return gathered

    def spread(self, tensors: dict[str, Tensor], like: dict[str, Any]) -> dict[str, Tensor]:
        """Of each whole tensor the part that this rank holds of the parameter in `like`, which
        names it up to a slash."""
        return {k: part_of(tensor, like.get(k.partition("/")[0])) for k, tensor in tensors.items()}

    def whole_model(self, model: Any) -> Any:
        """The plain module with all weights, for evaluation and sampling: mostly, the model."""
        if not self.shards:
            return model
        with torch.device("meta"):
            plain = build_like(model)
        weights = {name: whole(tensor) for name, tensor in model.state_dict().items()}
        plain.load_state_dict(weights, assign=True)
        return plain

    def close(self) -> None:
        """Leave the group of ranks, all at once; whatever wraps a model must be gone before."""
        if self.world_size > 1:
            self.wait()
            dist.destroy_process_group()

    # When a rank is lost.

    def sign(self) -> None:
        """Leave a sign before the others are waited for."""
        if self.store:
            self.store.add(f"signs of rank {self.rank}", 1)

    def is_first(self, what: str) -> bool:
        """Whether this rank is the first to ask for this; each process asks once."""
        try:
            return self.store is None or self.store.add(what, 1) == 1
        except RuntimeError:  # the store is gone with its process
            return True

    def silent_ranks(self) -> list[int]:
        """The ranks that are dead, or else those that hang; none if that cannot be known.

        Takes some seconds. A process that is dead has no heartbeat. One that hangs may have one,
        but all ranks wait for each other equally often, so it has left fewer signs than others.
        """
        ranks = range(self.world_size)
        try:
            self.store.set(f"question of rank {self.rank}", "who is silent?")
            before = [self.store.add(f"beats of rank {rank}", 0) for rank in ranks]
            time.sleep(GRACE_SECONDS)
            beats = [self.store.add(f"beats of rank {rank}", 0) for rank in ranks]
            signs = [self.store.add(f"signs of rank {rank}", 0) for rank in ranks]
            asked = [self.store.check([f"question of rank {rank}"]) for rank in ranks]
        except RuntimeError:  # the store is gone with its process
            return []
        mute = [rank for rank in ranks if not asked[rank]]
        dead = [rank for rank in mute if beats[rank] == before[rank]]
        return dead or [rank for rank in mute if signs[rank] < max(signs)]


def start_heartbeat(store: Any, rank: int) -> None:
    """Count in the store, once a second, as long as this process lives."""

    def beat() -> None:
        with suppress(RuntimeError):  # the store is gone with its process
            while True:
                store.add(f"beats of rank {rank}", 1)
                time.sleep(1.0)

    threading.Thread(target=beat, daemon=True).start()


def is_part(tensor: Any) -> bool:
    """Whether it is torch's DTensor, whose import takes a second that most runs can do without."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Any) -> Tensor:
    """A tensor of which each rank holds a part, put together on every rank; others as they are."""
    return tensor.full_tensor() if is_part(tensor) else tensor


def part_of(tensor: Tensor, like: Any) -> Tensor:
    """What this rank holds of a whole tensor that is divided as `like` is."""
    if not is_part(like) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    here = tensor.to(like.device)
    return distribute_tensor(here, like.device_mesh, like.placements, src_data_rank=None)


def is_lost_rank(error: BaseException) -> bool:
    """Whether this comes from waiting for other ranks in vain; gloo only says so in words."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    )


class Replica:
    """A model as all ranks train it: each computes its own micro-batches, gradients are averaged.

    ddp: every rank has all weights (Li et al. 2020). fsdp: every rank has a part, and gathers a
    block's weights when it comes to that block (Zhao et al. 2023; torch's fully_shard).
    """

    def __init__(self, model: Any, runtime: Runtime) -> None:
        self.model, self.runtime = model, runtime
        self.wrapped: Any = model
        if runtime.checkpoint_activations:
            forget_activations(model)
        if runtime.shards:
            shard(model, runtime)
        elif runtime.world_size > 1:
            self.wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True)
        whole_graph = runtime.compile and not runtime.shards  # shard() has compiled the blocks
        self.call = torch.compile(self.wrapped) if whole_graph else self.wrapped

    def __call__(self, ids: Tensor, targets: Tensor, last: bool) -> Tensor:
        """The loss. On the last micro-step of an update its backward pass averages the gradients.

        Both ways read this in the forward pass already; set after it, the flag would come a
        micro-step too late, and ranks would drift apart.
        """
        if self.runtime.shards:
            self.wrapped.set_requires_gradient_sync(last)
        elif self.runtime.world_size > 1:
            self.wrapped.require_backward_grad_sync = last
        return self.call(ids, targets)

    def settle(self, micro_batch: int) -> None:
        """Fix in which layout gradients are summed, by a pass whose gradients are thrown away.

        DDP sorts parameters into buckets by what its first pass sees, and sums depend on the
        buckets in their last bits. A resumed run is to end in the same bits, so its first step
        must already find the buckets of all others.
        """
        if self.runtime.world_size == 1:
            return
        shape = (micro_batch, self.model.config.context)
        (ids,) = self.runtime.send(torch.zeros(shape, dtype=torch.int64))
        with self.runtime.autocast():
            loss = self(ids, ids, last=True)
        loss.backward()
        self.wrapped.zero_grad(set_to_none=True)


def forget_activations(model: Any) -> None:
    """Keep only what goes into each block; its backward pass computes the rest once more (Chen et
    al. 2016). Without gradients nothing changes."""
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def shard(model: Any, runtime: Runtime) -> None:
    """Divide each block's weights over the ranks, and the rest's. Products are taken in `dtype`
    anyway, so blocks are gathered in it (a CPU's layer norm cannot); gradients are summed in
    fp32."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    require(runtime.dtype != torch.float16, "runtime.parallel = 'fsdp' needs bf16 or fp32")
    mesh = dist.init_device_mesh(runtime.device.type, (runtime.world_size,))
    narrow = runtime.dtype if runtime.device.type == "cuda" else None
    policy = MixedPrecisionPolicy(narrow, torch.float32, cast_forward_inputs=False)
    for block in model.blocks:
        if runtime.compile:
            block.compile()
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh)


def start_runtime(config: RuntimeConfig) -> Runtime:
    """Choose device, dtype and whether to compile; join the ranks that torchrun started, if any.

    Raises UsageError for a device that is not here; lesser wishes fall back, with a note.
    """
    rank, world_size = (int(os.environ.get(k, d)) for k, d in (("RANK", "0"), ("WORLD_SIZE", "1")))
    device = choose_device(config.device)
    if device.type == "cpu":
        keep_freed_memory()
    if world_size > 1 and device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        require_gpus(local + 1)
        device = torch.device("cuda", local)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TF32 where a product stays fp32
    store, group = join(config, rank, world_size) if world_size > 1 else (None, None)
    dtype, dtype_notes = choose_dtype(config.dtype, device)
    compiles, compile_notes = choose_compile(config.compile, device)
    notes = (*dtype_notes, *compile_notes)
    ways = (config.parallel, config.checkpoint_activations)
    return Runtime(device, dtype, compiles, *ways, rank, world_size, store, group, notes)


def keep_freed_memory() -> None:
    """Let the C library keep what a step frees for the next step.

    glibc gives large pieces back to the system at once, which then has to clear and map every page
    of them anew: a sixth of a small model's step. Other libraries are left as they are.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "mallopt"):
        library.mallopt(*TRIM_THRESHOLD)
        library.mallopt(*MMAP_THRESHOLD)


def choose_threads(runtime: Runtime, wish: int, before: int, width: int) -> Runtime:
    """Set how many threads a CPU computes with; a note says so where some are left out.

    What the recipe wishes counts, then OMP_NUM_THREADS, then how many the run had `before`, as it
    goes on in the same bits on as many only, then what is fastest for a model of that width.
    """
    if runtime.device.type != "cpu" or (not wish and "OMP_NUM_THREADS" in os.environ):
        return runtime
    goes_on = 0 < before <= ALL_THREADS
    threads = wish or (before if goes_on else fastest_threads(width, runtime.dtype))
    torch.set_num_threads(threads)
    if wish or threads == ALL_THREADS:
        return runtime
    reason = "as more are slower now: another process seems busy"
    if goes_on:
        reason = f"as this run had so far; --set runtime.threads={ALL_THREADS} takes all"
    note = f"training on {threads} of {ALL_THREADS} threads, {reason}"
    return replace(runtime, notes=(*runtime.notes, note))


def fastest_threads(width: int, dtype: torch.dtype) -> int:
    """How many threads multiply fastest at the moment; all, unless fewer are a tenth faster.

    They wait for each other at the end of every product, and so for one whose core is shared.
    """
    rows = max(1, min(1024, 2**28 // (8 * width**2)))  # a product of milliseconds, as in an MLP
    x, weight = torch.ones(rows, width, dtype=dtype), torch.ones(width, 4 * width, dtype=dtype)
    counts = sorted({1, ALL_THREADS // 2, ALL_THREADS - 1, ALL_THREADS} - {0})
    rates: dict[int, list[float]] = {count: [] for count in counts}
    for count in counts * THREAD_ROUNDS if len(counts) > 1 else []:
        torch.set_num_threads(count)
        began, products = time.perf_counter(), 0
        while time.perf_counter() - began < ROUND_SECONDS:
            x @ weight
            products += 1
        rates[count].append(products / (time.perf_counter() - began))
    usual = {count: statistics.median(found or [1.0]) for count, found in rates.items()}
    return max(counts, key=lambda count: usual[count] * (1.1 if count == ALL_THREADS else 1.0))


def processor_name() -> str:
    """The CPU's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def join(config: RuntimeConfig, rank: int, world_size: int) -> tuple[Any, Any]:
    """Join the group of ranks; returns the store that they share, and the group of agreements.

    Tensors on a GPU go by NCCL, the ranks' agreements by gloo: those notice a lost rank, with an
    error that can be caught, while NCCL would wait and then end the process without a word of
    ours. Its time begins earlier in a step, so it gets twice as much.
    """
    timeout = timedelta(seconds=config.timeout_seconds)
    store, _, _ = next(dist.rendezvous("env://", rank, world_size, timeout=timeout))
    several = {"store": store, "rank": rank, "world_size": world_size}
    if torch.cuda.is_available():
        dist.init_process_group("cpu:gloo,cuda:nccl", **several, timeout=2 * timeout)
    else:
        dist.init_process_group("gloo", **several, timeout=timeout)
    start_heartbeat(store, rank)
    return store, dist.new_group(backend="gloo", timeout=timeout)


def require_gpus(ranks: int) -> None:
    """UsageError unless so many ranks on this machine have a GPU each."""
    here = torch.cuda.device_count()
    require(ranks <= here, f"this machine has {here} GPUs, one for each rank: --gpus {here}")


def choose_device(wish: str) -> torch.device:
    """CUDA before Apple's MPS before the CPU, unless one is wished for."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = ["cuda", *(f"cuda:{i}" for i in range(gpus))] if gpus else []
    here += ["mps"] if torch.backends.mps.is_available() else []
    here += ["cpu"]
    if wish == "auto":
        wish = here[0]
    require(
        wish in here,
        f"runtime.device = {wish!r} is not here; this machine has: {', '.join(here)}; to run on"
        f" that: --set runtime.device={here[0]}, and where memory is short train.micro_batch=1",
    )
    return torch.device(wish)


def choose_dtype(wish: str, device: torch.device) -> tuple[torch.dtype, list[str]]:
    """bf16 where the hardware multiplies it, else fp16 on CUDA, else fp32; and notes."""
    best = best_dtype(device)
    wish = best if wish == "auto" else wish
    works = {best, "fp32", {"cuda": "fp16", "cpu": "bf16"}.get(device.type)}
    if wish in works:
        return DTYPES[wish], []
    return DTYPES[best], [f"{wish} does not work well on this {device.type}; taking {best}"]


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
    """Whether to use torch.compile, and notes. Unless it is wished for, that is for GPUs: on a CPU
    it takes longer than it gives back in a short run."""
    missing = compiler_missing(device)
    if wish == "off" or (wish == "auto" and device.type != "cuda"):
        return False, []
    return not missing, [f"torch.compile is off: {missing}"] if missing else []


def compiler_missing(device: torch.device) -> str:
    """What torch.compile lacks on this machine, in a few words; empty if nothing."""
    if sys.platform == "win32" or device.type == "mps":
        return f"it does not work well on {sys.platform} with {device.type}"
    if not any(shutil.which(c) for c in (os.environ.get("CXX", "g++"), "clang++")):
        return "there is no C++ compiler; install g++ or clang"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "Python's C headers are missing; install python3-dev"
    return ""
