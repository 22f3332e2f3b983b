"""What `buildgpt plan` says of memory against what a training step takes, on a CPU.

    python benchmarks/memory.py

Each shape trains in a process of its own: two steps of two micro-batches. Measured is how far the
process's resident memory grows at its peak, from where it was with torch loaded and warm.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from record import HERE, commit, hardware, save

sys.path.insert(0, str(HERE.parent / "src"))

# Layers, heads, width, context, vocabulary, micro-batch, dtype.
SHAPES = [
    (12, 12, 768, 256, 50257, 2, "bf16"),
    (12, 12, 768, 512, 50257, 4, "bf16"),
    (12, 12, 768, 1024, 50257, 2, "bf16"),
    (12, 12, 768, 1024, 50257, 4, "bf16"),
    (12, 12, 768, 1024, 50257, 2, "fp32"),
    (6, 6, 384, 256, 65, 32, "bf16"),
    (6, 6, 384, 256, 65, 32, "fp32"),
    (8, 8, 512, 512, 4096, 16, "bf16"),
]
# Freed blocks go back to the system at once, so that resident memory is memory in use.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}


def recipe_of(shape: list[Any]) -> Any:
    """A recipe of a step of two micro-batches."""
    from buildgpt.core import load_core

    config = load_core().config
    layers, heads, width, context, vocabulary, micro_batch, dtype = shape
    model = config.ModelConfig(layers, heads, width, context, vocabulary)
    train = config.TrainConfig(tokens_per_step=2 * micro_batch * context, micro_batch=micro_batch)
    runtime = config.RuntimeConfig(device="cpu", dtype=dtype, compile="off")
    return config.Recipe(model=model, train=train, runtime=runtime)


def resident(key: str) -> int:
    """Bytes of this process's memory: VmRSS now, VmHWM at its peak."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


def work(shape: list[Any], whole: bool = False) -> int:
    """Train two steps; by how many bytes the peak is above what was there before.

    `whole` takes the loss from all logits at once instead of the model's own."""
    recipe = recipe_of(shape)
    small = dataclasses.replace(recipe.model, layers=1, vocab_size=128, width=64, heads=1)
    steps(dataclasses.replace(recipe, model=small), whole)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    steps(recipe, whole)
    return resident("VmHWM") - before


def steps(recipe: Any, whole: bool) -> None:
    """Two updates as the training loop makes them."""
    import torch
    from torch.nn import functional as F

    from buildgpt.core import load_core

    core = load_core()
    model = core.model.GPT(recipe.model)
    optimizer = core.optim.build_optimizer(model, recipe.train)
    runtime = core.runtime.start_runtime(recipe.runtime)
    shape = (recipe.train.micro_batch, recipe.model.context)
    for _ in range(2):
        for _ in range(2):
            ids, targets = (torch.randint(recipe.model.vocab_size, shape) for _ in range(2))
            with runtime.autocast():
                if whole:
                    logits = model.logits(model.hidden(ids))
                    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten()) / 2
                    del logits
                else:
                    loss = model(ids, targets) / 2
            loss.backward()
            del loss
        core.optim.clip_gradients(model, recipe.train.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def run(shape: list[Any], whole: bool = False) -> int:
    """What `work` finds, in a process of its own."""
    command = [sys.executable, __file__, "--worker", json.dumps([shape, bool(whole)])]
    done = subprocess.run(command, env=os.environ | MALLOC, check=True, stdout=subprocess.PIPE)
    return int(done.stdout)


def compare(shape: list[Any]) -> dict[str, Any]:
    """Estimate and measurement of one shape."""
    from buildgpt.reproduce.memory import memory

    recipe = recipe_of(shape)
    parts = memory(recipe, recipe.train.micro_batch, 1, "cpu")
    parts.pop("evaluation")  # there is none here
    measured, estimated = run(shape), sum(parts.values())
    names = ("layers", "heads", "width", "context", "vocabulary", "micro_batch", "dtype")
    row = dict(zip(names, shape)) | {"estimated_gb": estimated / 1e9, "measured_gb": measured / 1e9}
    return row | {"ratio": estimated / measured, "parts": parts}


def main() -> None:
    """Measure, show and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="the result's file; results/DATE-memory.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.worker:
        print(work(*json.loads(words.worker)))
        return
    result: dict[str, Any] = {"date": date.today().isoformat(), "commit": commit()}
    result |= {"command": "python benchmarks/memory.py", "hardware": hardware(), "shapes": []}
    for shape in SHAPES:
        row = compare(list(shape))
        result["shapes"].append(row)
        sizes = f"{row['estimated_gb']:6.3f} GB estimated, {row['measured_gb']:6.3f} GB measured"
        print(f"{shape!s:48} {sizes}, ratio {row['ratio']:.3f}", flush=True)
    save(result, "memory", words.out)


if __name__ == "__main__":
    main()
