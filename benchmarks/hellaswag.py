"""HellaSwag's speed on a CPU against one ending at a time, and that both answer alike.

    python benchmarks/hellaswag.py ../shared/data/hellaswag_val.jsonl.xz

The other scorer is the straightforward one: for each item four passes of the plain model over
context and ending, in the same precision. Both have a GPT-2 124M with the same random weights and
the same random items, in one process: a part of the items one by one, then all of them together,
round after round. The result goes into benchmarks/results/ with hardware, commit and command.
"""

import argparse
import json
import random
import shlex
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from record import HERE, commit, hardware, without_paths

sys.path.insert(0, str(HERE.parent / "src"))

SHAPE = {"layers": 12, "heads": 12, "width": 768, "context": 1024, "vocab_size": 50257}
# Losses that differ by less may be ordered either way: about what a dtype's products are off by.
ROUNDING = {"fp32": 1e-5, "bf16": 2e-3}


def one_by_one(model: Any, items: list[Any], runtime: Any) -> list[list[float]]:
    """The summed loss of each ending: a pass each over context and ending."""
    import torch

    sums = []
    for item in items:
        with torch.no_grad(), runtime.autocast():
            rows = [torch.tensor([item.context + ending]) for ending in item.endings]
            losses = [model(row[:, :-1], row[:, 1:], reduction="none")[0] for row in rows]
        pairs = zip(losses, item.endings)
        sums.append([loss[-len(ending) :].double().sum().item() for loss, ending in pairs])
    return sums


def compare(ours: list[list[float]], theirs: list[list[float]], rounding: float) -> dict[str, int]:
    """How many items have two best scores apart by more than rounding, and how many differ."""
    clear = differ = 0
    for mine, other in zip(ours, theirs):
        best, second = sorted(other)[:2]
        if second - best > 2 * rounding * second:
            clear += 1
            differ += mine.index(min(mine)) != other.index(best)
    return {"clear": clear, "answered_differently": differ}


def measure(core: Any, dtype: str, items: list[Any], rounds: int) -> dict[str, Any]:
    """Seconds of both in turn, in one dtype."""
    import torch

    torch.manual_seed(0)
    runtime = core.runtime.Runtime(torch.device("cpu"), core.runtime.DTYPES[dtype])
    model = core.model.GPT(core.config.ModelConfig(**SHAPE)).eval()
    fast = core.generate.for_decoding(model, runtime.dtype)
    one_by_one(model, items[:2], runtime)
    core.hellaswag.summed_losses(fast, items[:8], runtime, lambda *_: None)
    seconds: dict[str, list[float]] = {"one_by_one": [], "together": []}
    slow: list[list[float]] = []
    for number in range(rounds):
        part = items[number * len(items) // rounds : (number + 1) * len(items) // rounds]
        began = time.perf_counter()
        slow += one_by_one(model, part, runtime)
        between = time.perf_counter()
        together = core.hellaswag.summed_losses(fast, items, runtime, lambda *_: None)
        seconds["one_by_one"].append(between - began)
        seconds["together"].append(time.perf_counter() - between)
        print(f"{dtype}, round {number + 1} of {rounds}: {json.dumps(seconds)}", flush=True)
    ratio = sum(seconds["one_by_one"]) / (sum(seconds["together"]) / rounds)
    rates = {name: len(items) / sum(took) for name, took in seconds.items()}
    rates["together"] *= rounds
    answers = compare(together.tolist(), slow, ROUNDING[dtype])
    return {"items_a_second": rates, "ratio": ratio, "seconds": seconds, **answers}


def main() -> None:
    """Measure, show and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="hellaswag_val.jsonl, packed as .xz or not")
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", action="append", choices=list(ROUNDING))
    parser.add_argument("--out", type=Path, help="results/DATE-hellaswag.json otherwise")
    words = parser.parse_args()
    import torch

    from buildgpt.core import load_core

    core = load_core()
    torch.set_num_threads(words.threads)
    tokenizer = core.tokenizer.GPT2Tokenizer()
    chosen = random.Random(0).sample(core.hellaswag.read_hellaswag(words.file), words.items)
    items = [core.hellaswag.spell(item, tokenizer, SHAPE["context"]) for item in chosen]
    result: dict[str, Any] = {"date": date.today().isoformat(), "commit": commit()}
    command = f"python benchmarks/hellaswag.py {without_paths(shlex.join(sys.argv[1:]))}"
    result |= {"command": command, "hardware": hardware(), "model": SHAPE, "items": len(items)}
    for dtype in words.dtype or ROUNDING:
        result[dtype] = row = measure(core, dtype, items, words.rounds)
        print(
            f"{dtype}: {row['ratio']:.2f} times as fast as one by one;"
            f" {row['answered_differently']} of {row['clear']} clear items answered differently"
        )
    out = words.out or HERE / "results" / f"{result['date']}-hellaswag.json"
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"recorded in {out}")


if __name__ == "__main__":
    main()
