"""What benchmarks/gpu.py measures, each in a process of its own: contenders, and the GPU itself.

A worker is started with an order as JSON, gets ready, says so, and then takes a turn for every line
that comes in. Its answers are lines of JSON; whatever else is printed is the contender's own talk.
"""

import fcntl
import gc
import json
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cpu import generate_ours, generate_transformers, hugging_face_model, peer_model

from buildgpt.core import load_core

PADDED = 50304  # GPT-2's 50,257 ids, widened for the matrix kernels as all peers document it
STEPS_A_TURN = 3
# What `gpu.py --options` tries beside what this project does.
OPTIONS = ("flash", "cudnn", "loss outside", "max-autotune")


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    device: str
    shape: dict[str, int]
    tokens_per_step: int
    micro_batches: tuple[int, ...]  # the largest first
    products: tuple[tuple[int, int, int], ...]  # (M, K) @ (K, N)
    copied_bytes: int
    most_rounds: int
    reserve: float  # seconds for saving, validation and a sample after the training run's steps
    settings: tuple[str, ...]  # of the training run
    decoded: int  # new tokens after a prompt of four


FULL = Scale(
    device="cuda",
    shape={"layers": 12, "heads": 12, "width": 768, "context": 1024, "vocab_size": 50257},
    tokens_per_step=524288,
    micro_batches=(64, 32, 16),
    # Squares, and two of the model's own: into the MLP, and the head.
    products=(
        *((n, n, n) for n in (4096, 8192, 16384)),
        (65536, 768, 3072),
        (65536, 768, PADDED),
    ),
    copied_bytes=2**32,
    most_rounds=12,
    reserve=35.0,
    # A smaller step than the recipe's half million tokens: a few minutes hold too few of those.
    settings=("train.tokens_per_step=131072", "train.warmup_steps=100", "train.steps=100000"),
    decoded=256,
)
TINY = Scale(
    device="cpu",
    shape={"layers": 1, "heads": 2, "width": 16, "context": 16, "vocab_size": 50257},
    tokens_per_step=128,
    micro_batches=(2,),
    products=((64, 64, 64), (128, 128, 128)),
    copied_bytes=2**20,
    most_rounds=3,
    reserve=1.0,
    settings=(
        *("model.layers=1", "model.heads=2", "model.width=16", "model.context=16"),
        *("train.tokens_per_step=128", "train.warmup_steps=2", "train.steps=20"),
    ),
    decoded=4,
)


# The contenders. Each gives its model, its optimizer and a function from ids and targets to the
# loss; `compiled` compiles where this project's runtime would.


def ours(scale: Scale, compiled: Callable) -> tuple[Any, Any, Callable]:
    """This project's model and optimizer."""
    core = load_core()
    model = core.model.GPT(core.config.ModelConfig(**scale.shape)).to(scale.device)
    optimizer = core.optim.build_optimizer(model, core.config.TrainConfig())
    return model, optimizer, compiled(model)


def option(name: str, scale: Scale, compiled: Callable) -> tuple[Any, Any, Callable]:
    """This project's, with one choice made otherwise than torch or the model makes it."""
    import torch
    from torch.nn import functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel

    model, optimizer, call = ours(scale, compiled)
    if name == "max-autotune" and scale.device == "cuda":
        call = torch.compile(model, mode="max-autotune-no-cudagraphs")
    elif name == "loss outside":
        call = compiled(model)
        return model, optimizer, lambda x, y: F.cross_entropy(call(x).flatten(0, 1), y.flatten())
    elif name in ("cudnn", "flash"):
        kernel = SDPBackend.CUDNN_ATTENTION if name == "cudnn" else SDPBackend.FLASH_ATTENTION

        def chosen(x: Any, y: Any) -> Any:
            with sdpa_kernel(kernel):
                return call(x, y)

        return model, optimizer, chosen
    return model, optimizer, call


def transformers(scale: Scale, compiled: Callable) -> tuple[Any, Any, Callable]:
    """transformers' GPT-2 at its best: widened vocabulary, the flash kernel, loss compiled too.

    Up to torch 2.13 its "sdpa" makes a mask when compiled, which rules the flash kernel out. The
    same function under a name of our own gets none, as its documentation of custom attention says.
    """
    import torch
    from torch.nn import functional as F
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register("causal_sdpa", sdpa_attention_forward)
    model = hugging_face_model(scale.shape | {"vocab_size": PADDED}).train().to(scale.device)
    model.set_attn_implementation("causal_sdpa")
    betas = (0.9, 0.95)
    optimizer = torch.optim.AdamW(model.parameters(), 6e-4, betas, weight_decay=0.1, fused=True)

    def loss(x: Any, y: Any) -> Any:
        logits = model(x, use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())

    return model, optimizer, compiled(loss)


def peer(folder: Path, scale: Scale, compiled: Callable) -> tuple[Any, Any, Callable]:
    """A checkout of build-nanogpt or nanoGPT, with what its training script sets."""
    shape = scale.shape | {"vocab_size": PADDED}
    model, optimizer = peer_model(folder, shape, scale.device, dropout=0.0, bias=False)
    run = compiled(model)
    return model, optimizer, lambda x, y: run(x, y)[1]


class Contender:
    """A model in training, the same way for all: autocast, accumulation, clipping, AdamW."""

    def __init__(self, who: str, micro_batch: int, data: Path, scale: Scale) -> None:
        import torch

        core = load_core()
        self.runtime = core.runtime.start_runtime(core.config.RuntimeConfig(device=scale.device))
        torch.manual_seed(0)
        makers: dict[str, Callable] = {"ours": ours, "transformers": transformers}
        compiled = torch.compile if self.runtime.compile else lambda call: call
        makers |= {f"ours, {name}": partial(option, name) for name in OPTIONS}
        make = makers.get(who, partial(peer, Path(who)))
        self.model, self.optimizer, self.loss = make(scale, compiled)
        shard = core.data.open_shard(sorted(data.glob("*train*.bin"))[0])
        ids = torch.from_numpy(shard[: scale.tokens_per_step + 1].astype("int64"))
        x, y = (part.view(-1, scale.shape["context"]) for part in (ids[:-1], ids[1:]))
        # One step's, the same tokens whatever the micro-batch.
        self.batches = list(zip(*(p.to(scale.device).split(micro_batch) for p in (x, y))))
        self.tokens = scale.tokens_per_step

    def accumulate(self, batches: list) -> Any:
        """The gradients of some micro-batches; returns the mean loss."""
        total = 0.0
        for x, y in batches:
            with self.runtime.autocast():
                loss = self.loss(x, y) / len(batches)
            loss.backward()
            total = total + loss.detach()
        return total

    def update(self) -> float:
        """One step; returns its loss, for which it waits, as training loops do."""
        import torch

        total = self.accumulate(self.batches)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(total)

    def prepare(self, lock: Path) -> dict[str, Any]:
        """Compile, by one micro-batch, and run that with the GPU to itself.

        Kernels are chosen by timing them when they run first, so nobody else may be at work then.
        """
        from torch._dynamo.callback import callback_handler

        with lock.open() as file:

            def take(*_: Any) -> None:
                fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed

            if self.runtime.compile:
                callback_handler.register_end_callback(take)
            else:
                take()
            self.accumulate(self.batches[:1])
            callback_handler.end_callbacks.clear()
            self.free()
        dtype = str(self.runtime.dtype).removeprefix("torch.")
        return {"dtype": dtype, "compiled": self.runtime.compile, "notes": self.runtime.notes}

    def turn(self) -> dict[str, Any]:
        """Tokens a second over some steps after a first one, and the memory that they took."""
        self.update()
        began = time.perf_counter()
        losses = [self.update() for _ in range(STEPS_A_TURN)]
        rate = STEPS_A_TURN * self.tokens / (time.perf_counter() - began)
        return {"rate": rate, "loss": losses[-1]} | self.memory()

    def memory(self) -> dict[str, float]:
        """The most that was allocated since `free`, and what torch took from the device for it."""
        import torch

        if self.runtime.device.type != "cuda":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            return {"memory_gb": peak / 1e9, "reserved_gb": peak / 1e9}
        allocated, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return {"memory_gb": allocated / 1e9, "reserved_gb": reserved / 1e9}

    def free(self) -> None:
        """Give back what others may need now."""
        import torch

        self.optimizer.zero_grad(set_to_none=True)
        gc.collect()
        if self.runtime.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def peaks(scale: Scale) -> dict[str, Any]:
    """The fastest bf16 product, and the rate of a copy, bytes read and written counted."""
    import torch

    products = []
    for m, k, n in scale.products:
        a, b = (
            torch.randn(size, device=scale.device, dtype=torch.bfloat16)
            for size in ((m, k), (k, n))
        )
        seconds = seconds_of(lambda a=a, b=b: a @ b, scale.device)
        products.append({"m": m, "k": k, "n": n, "tflops": 2 * m * k * n / seconds / 1e12})
    source = torch.randint(256, (scale.copied_bytes,), device=scale.device, dtype=torch.uint8)
    target = torch.empty_like(source)
    copied = 2 * scale.copied_bytes / seconds_of(lambda: target.copy_(source), scale.device)
    best = max(product["tflops"] for product in products)
    return {"products": products, "matmul_tflops": best, "copy_gb_per_second": copied / 1e9}


def decoding(scale: Scale) -> dict[str, Any]:
    """Tokens a second of one sample, in bf16, by this project and by transformers' default."""
    makers = {"ours": generate_ours, "transformers": generate_transformers}
    rates = {}
    for who, make in makers.items():
        call = make("bfloat16", 4, scale.decoded, 1, scale.shape, scale.device)
        rates[who] = scale.decoded / seconds_of(call, scale.device, times=1, groups=3)
    return {"tokens_per_second": rates, "ratio": rates["ours"] / rates["transformers"]}


def seconds_of(call: Callable, device: str, times: int = 10, groups: int = 5) -> float:
    """The median over groups of calls of the seconds that one takes, once warm."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    samples = []
    for group in range(groups + 1):
        wait()
        began = time.perf_counter()
        for _ in range(times):
            call()
        wait()
        samples += [(time.perf_counter() - began) / times] if group else []
    return statistics.median(samples)


def work(order: dict[str, Any]) -> None:
    """A worker's life: get ready and say so, then take a turn for every line that comes in."""
    scale = TINY if order["tiny"] else FULL
    alone = {"peak": peaks, "decoding": decoding}
    if order["who"] in alone:
        say(attempt(lambda: alone[order["who"]](scale)))
        return
    contenders: list[Contender] = []

    def ready() -> dict[str, Any]:
        contender = Contender(order["who"], order["micro_batch"], Path(order["data"]), scale)
        contenders.append(contender)
        return contender.prepare(Path(order["lock"]))

    say(attempt(ready))
    for _ in sys.stdin:
        (contender,) = contenders
        answer = attempt(contender.turn)
        contender.free()  # here, as an error holds the tensors it came from
        say(answer)


def attempt(act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What an act gives, or its error."""
    try:
        return act()
    except Exception as error:
        traceback.print_exc()
        return {"error": in_a_line(error)}


def say(answer: dict[str, Any]) -> None:
    """Give the parent its answer, as one line of JSON."""
    print(json.dumps({"answer": answer}), flush=True)


def in_a_line(error: BaseException) -> str:
    """An error in one line, for the record."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


if __name__ == "__main__":
    work(json.loads(sys.argv[1]))
