"""Write the README's performance tables from the newest benchmarks/results/*-cpu.json.

    python tools/bench_table.py          # write them between the README's two marks
    python tools/bench_table.py --check  # say whether they are there already; `make lint` does

`make bench` makes the record.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = "benchmarks/results"
BEGIN, END = "<!-- figures: tools/bench_table.py -->", "<!-- end of figures -->"


def newest(root: Path) -> Path:
    """The newest record; dates sort as names."""
    return max((root / RESULTS).glob("*-cpu.json"))


def figures(path: Path) -> str:
    """A record as the README shows it: where it is from, and a table for each part that it has."""
    record = json.loads(path.read_text(encoding="utf-8"))
    parts = (training, decoding, generating, learning, rest)
    tables = [text for part in parts if (text := part(record))]
    return "\n\n".join([introduction(record, path), *tables])


def introduction(record: dict[str, Any], path: Path) -> str:
    """On what the figures were taken, and the picture if there is one."""
    hardware = record["hardware"]
    picture = path.with_suffix(".svg")
    words = (
        f"Measured on {record['date']} on {hardware['cores']} cores of an {hardware['processor']}"
        f" ({'avx512_bf16, ' if hardware['bf16'] else ''}PyTorch {hardware['torch']}) by"
        " `make bench`: all contenders in turn, medians over rounds, the same\ndtype, each at the"
        f" settings that its documentation names ([the record]({RESULTS}/{path.name}), with commit"
        " and command)."
    )
    drawn = f"\n\n![The figures as bars and curves]({RESULTS}/{picture.name})"
    return words + (drawn if picture.exists() else "")


def training(record: dict[str, Any]) -> str:
    """Everybody's training, the fastest first."""
    rows = record.get("training", {}).get("rows", {})
    head = ("training, 10.7M parameters, T = 256, batch 16, bf16", "tokens/s")
    cells = [
        (label(name), thousands(row["median"]), share(row, "share_of_peak"), gigabytes(row))
        for name, row in sorted(rows.items(), key=lambda item: -item[1]["median"])
    ]
    return table((*head, "share of the matmul peak", "peak memory"), cells)


def decoding(record: dict[str, Any]) -> str:
    """One sample: tokens/s, and the share of the memory's speed that this reads weights at."""
    part = record.get("decoding", {})
    read = part.get("read_gb_per_second")
    with_read = f" at {read:.0f} GB/s" if read else ""
    head = (
        "decoding, 124M parameters, batch 1",
        "tokens/s",
        f"share of what the memory allows{with_read}",
    )
    cells = [
        (label(name), thousands(row["median"]), share(row, "share_of_read"))
        for name, row in part.get("rows", {}).items()
    ]
    return table(head, cells)


def generating(record: dict[str, Any]) -> str:
    """A long prompt, and many samples."""
    titles = {"prefill": "a prompt of 512 tokens", "batch": "32 samples at once"}
    cells = [
        (f"{label(name)}, {titles[verb]}", thousands(row["median"]))
        for verb, rows in record.get("generating", {}).items()
        if verb in titles
        for name, row in rows.items()
    ]
    return table(("124M parameters, bf16", "tokens/s"), cells)


def learning(record: dict[str, Any]) -> str:
    """What the recipes learn in their seconds."""
    cells = [
        (f"`{name}` on {row['text']}, {longest(row):.0f} s", loss_cell(row))
        for name, row in record.get("learning", {}).items()
        if isinstance(row, dict)
    ]
    head = "learning: characters, the whole validation split, final weights, whole commands"
    return table((head, "validation loss"), cells)


def longest(row: dict[str, Any]) -> float:
    """The seconds of the longest of its commands, where they were taken."""
    taken = [seed.get("command_seconds", 0) for seed in row.get("seeds", [])]
    return max(taken, default=0) or row["seconds"]


def loss_cell(row: dict[str, Any]) -> str:
    """A loss; where it is the mean of several seeds, these too."""
    losses = [f"{seed['val_loss']:.3f}" for seed in row.get("seeds", [])]
    mean = f"**{row['val_loss']:.3f}**"
    return mean if len(losses) < 2 else f"{mean}, the mean of {', '.join(losses)}"


def rest(record: dict[str, Any]) -> str:
    """Data, start-up and memory."""
    cells = []
    for name, row in record.get("starting", {}).items():
        if isinstance(row, dict):
            cells.append((f"`{name}`: from the command to the first step", f"{row['later']:.1f} s"))
    found = record.get("preparing", {})
    if "share_of_tiktoken" in found:
        cells.append(
            (
                "`prepare` beside tiktoken's own speed, per core",
                f"{found['share_of_tiktoken']:.0%}",
            )
        )
    for name, row in record.get("loading", {}).items():
        if "share_of_step" in row:
            model = "10.7M parameters" if name == "train ours" else name
            cells.append((f"the loader's share of a step ({model})", f"{row['share_of_step']:.2%}"))
    found = record.get("memory", {})
    if "ratio" in found:
        words = f"a step's memory with the logits of {found['micro_batch']} x {found['context']}"
        words += " tokens at once, times that of the model's own loss"
        cells.append((words, f"{found['ratio']:.2f}"))
    return table(("and besides", ""), cells)


def table(head: tuple[str, ...], cells: list[tuple[str, ...]]) -> str:
    """Markdown; nothing if there are no cells."""
    lines = [head, ("---",) * len(head), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if cells else ""


def label(name: str) -> str:
    """ "decode ours bfloat16" -> "**buildgpt**, bf16" """
    who, *how = name.split()[1:]
    who = "**buildgpt**" if who == "ours" else who
    return ", ".join(
        [who, *(h.replace("bfloat16", "bf16").replace("float32", "fp32") for h in how)]
    )


def thousands(rate: float) -> str:
    """Three digits of it: "3,890"."""
    digits = 3 - len(f"{rate:.0f}")
    return f"{round(rate, min(digits, 0)):,.0f}"


def share(row: dict[str, Any], key: str) -> str:
    """A share in per cent, where it is known."""
    return f"{row[key]:.0%}" if key in row else ""


def gigabytes(row: dict[str, Any]) -> str:
    """A worker's peak memory."""
    return f"{row['peak_memory_gb']:.2f} GB"


def fill(text: str, found: str) -> str:
    """The README with the figures between its marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{found}\n{END}{after}"


def main(root: Path = ROOT) -> int:
    """Write, or check; returns the exit status."""
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    wanted = fill(text, figures(newest(root)))
    if "--check" in sys.argv:
        if wanted != text:
            print("README.md's figures are not those of the newest record: tools/bench_table.py")
        return int(wanted != text)
    readme.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
