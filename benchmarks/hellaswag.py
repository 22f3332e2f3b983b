"""HellaSwag's speed on a CPU against one ending at a time, and that both answer alike.

    python benchmarks/hellaswag.py ../shared/data/hellaswag_val.jsonl.xz

The other scorer is the straightforward one: for each item four passes of the plain model over
context and ending, in the same precision. Both have a GPT-2 124M with the same random weights, in
one process, and both score some of the groups that the whole validation split is computed in,
drawn at random: half of a group one by one, the whole group together, the other half one by one,
so that whatever else the machine does hits both alike. The result goes into benchmarks/results/
with hardware, commit and command.
"""

import argparse
import json
import random
import shlex
import statistics
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

from record import HERE, commit, hardware, save, without_paths

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


def measure(core: Any, dtype: str, groups: list[list[Any]]) -> dict[str, Any]:
    """Seconds of both in turn, in one dtype."""
    import torch

    from buildgpt.decoding import for_decoding

    torch.manual_seed(0)
    runtime = core.runtime.Runtime(torch.device("cpu"), core.runtime.DTYPES[dtype])
    model = core.model.GPT(core.config.ModelConfig(**SHAPE)).eval()
    fast = for_decoding(model, runtime.dtype)

    def together(items: list[Any]) -> list[list[float]]:
        return core.hellaswag.summed_losses(fast, items, runtime, lambda *_: None).tolist()

    one_by_one(model, groups[0][:2], runtime)
    together(groups[0][:8])
    seconds: dict[str, list[float]] = {"one_by_one": [], "together": []}
    answers = {"clear": 0, "answered_differently": 0}
    for number, group in enumerate(groups, 1):
        times = [time.perf_counter()]
        slow = one_by_one(model, group[::2], runtime)
        times.append(time.perf_counter())
        ours = together(group)
        times.append(time.perf_counter())
        slow += one_by_one(model, group[1::2], runtime)
        times.append(time.perf_counter())
        seconds["one_by_one"].append(times[1] - times[0] + times[3] - times[2])
        seconds["together"].append(times[2] - times[1])
        for name, count in compare(ours[::2] + ours[1::2], slow, ROUNDING[dtype]).items():
            answers[name] += count
        print(f"{dtype}, {number} of {len(groups)}: {json.dumps(seconds)}", flush=True)
    ratios = [slow / ours for slow, ours in zip(seconds["one_by_one"], seconds["together"])]
    figures = {"ratio": statistics.median(ratios), "ratios": ratios, "seconds": seconds}
    return figures | {"items": sum(map(len, groups))} | answers


def main() -> None:
    """Measure, show and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="hellaswag_val.jsonl, packed as .xz or not")
    parser.add_argument("--groups", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", action="append", choices=list(ROUNDING))
    parser.add_argument("--out", type=Path, help="results/DATE-hellaswag.json otherwise")
    words = parser.parse_args()
    import torch

    from buildgpt.core import load_core

    core = load_core()
    torch.set_num_threads(words.threads)
    tokenizer = core.tokenizer.GPT2Tokenizer()
    read = core.hellaswag.read_hellaswag(words.file)
    items = [core.hellaswag.spell(item, tokenizer, SHAPE["context"]) for item in read]
    drawn = random.Random(0).sample(core.hellaswag.groups(items), words.groups)
    groups = [[items[i] for i in group] for group in drawn]
    result: dict[str, Any] = {"date": date.today().isoformat(), "commit": commit()}
    command = f"python benchmarks/hellaswag.py {without_paths(shlex.join(sys.argv[1:]))}"
    result |= {"command": command, "hardware": hardware(), "model": SHAPE}
    for dtype in words.dtype or ROUNDING:
        result[dtype] = row = measure(core, dtype, groups)
        print(
            f"{dtype}: {row['ratio']:.2f} times as fast as one by one (median);"
            f" {row['answered_differently']} of {row['clear']} clear items answered differently"
        )
    save(result, "hellaswag", words.out)


if __name__ == "__main__":
    main()
