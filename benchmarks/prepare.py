"""Memory and speed of `buildgpt prepare` on much text, beside tiktoken's own speed on one core.

    python benchmarks/prepare.py --gb 2

The bundled Shakespeare, over and over, is written as one .txt and as .jsonl and .parquet of
documents of some 5,000 characters, then prepared with GPT-2's tokenizer by the command line in a
process of its own. Memory is that of all its processes together, asked for ten times a second (what
they share is counted for each). tiktoken encodes the same documents before and after, in one
process. Speeds are also given per second of processor time, which other programs on the machine
disturb less. The result goes into benchmarks/results/ with hardware, commit and command.
"""

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))
sys.path.insert(0, str(HERE))

from record import commit, hardware, save  # noqa: E402

from buildgpt.core import load_core  # noqa: E402
from buildgpt.datasets.text import shakespeare  # noqa: E402

FORMATS = ("txt", "jsonl", "parquet")
DOCUMENT = 5000  # characters


def documents(size: int) -> Iterator[str]:
    """Parts of Shakespeare's works, numbered, so many bytes of them in all."""
    whole = "\n\n".join(work.content for work in shakespeare())
    number = 0
    while size > 0:
        start = number * DOCUMENT % (len(whole) - DOCUMENT)
        text = f"{number}\n{whole[start : start + DOCUMENT]}"
        size -= len(text)
        number += 1
        yield text


def write(path: Path, size: int) -> None:
    """The documents in the format that the path's name ends with."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([("text", pa.string())])
        with pq.ParquetWriter(path, schema, compression="zstd") as file:
            batch: list[str] = []
            for text in documents(size):
                batch.append(text)
                if len(batch) == 1000:  # rows of a group, as FineWeb has them
                    file.write_table(pa.table({"text": batch}, schema))
                    batch = []
            file.write_table(pa.table({"text": batch}, schema))
        return
    with path.open("w", encoding="utf-8") as file:
        for text in documents(size):
            file.write(json.dumps({"text": text}) + "\n" if path.suffix == ".jsonl" else text)


def resident(pid: int) -> int:
    """Bytes of memory of a process and all that descend from it."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(int(child)) for child in children)


def prepare(path: Path, out: Path) -> dict[str, Any]:
    """Run the command line; its time, its memory and its tokens."""
    words = ["prepare", str(path), "--out", str(out), "--tokenizer", "gpt2", "--json"]
    source = os.environ | {"PYTHONPATH": str(HERE.parent / "src")}
    before, began, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), 0
    tool = [sys.executable, "-m", "buildgpt", *words]
    with subprocess.Popen(tool, env=source, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.1)
        assert process.stdout and process.returncode == 0
        made = json.loads(process.stdout.read().splitlines()[-1])
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    tokens = made["train_tokens"] + made["val_tokens"]
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "bytes": path.stat().st_size,
        "tokens": tokens,
        "documents": made["documents"],
        "seconds": seconds,
        "processor_seconds": busy,
        "tokens_per_second_per_core": tokens / seconds / (os.cpu_count() or 1),
        "tokens_per_processor_second": tokens / busy,
        "peak_memory_gb": peak / 1e9,
    }


def tiktoken_alone() -> float:
    """Tokens per second of processor time of tiktoken's own GPT-2 pattern, on some documents."""
    import tiktoken
    from tiktoken_ext.openai_public import r50k_pat_str

    tokenizer = load_core().tokenizer.GPT2Tokenizer()
    ranks = {piece: i for i, piece in enumerate(tokenizer.pieces[:-1])}
    own = tiktoken.Encoding("gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={})
    texts = list(documents(20_000_000))
    began = time.process_time()
    tokens = sum(len(own.encode_ordinary(text)) for text in texts)
    return tokens / (time.process_time() - began)


def measure(words: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    command = f"python benchmarks/prepare.py {shlex.join(sys.argv[1:])}".strip()
    result: dict[str, Any] = {"date": date.today().isoformat(), "commit": commit()}
    result |= {"command": command, "hardware": hardware()}
    rates = [tiktoken_alone()]
    for name in words.formats:
        with tempfile.TemporaryDirectory(dir=words.scratch) as folder:
            path = Path(folder) / f"much.{name}"
            write(path, round(words.gb * 1e9))
            result[name] = prepare(path, Path(folder) / "out")
        rates.append(tiktoken_alone())
        print(f"{name}: {result[name]}", flush=True)
    result["tiktoken_tokens_per_processor_second"] = statistics.median(rates)
    for name in words.formats:
        rate = result[name]["tokens_per_processor_second"]
        result[name]["share_of_tiktoken"] = rate / statistics.median(rates)
    return result


def main() -> None:
    """Measure, show and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=2.0, help="of text, in each format")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--scratch", type=Path, help="a folder with room for it")
    parser.add_argument("--out", type=Path, help="results/DATE-prepare.json otherwise")
    words = parser.parse_args()
    result = measure(words)
    for name in words.formats:
        row = result[name]
        print(
            f"{name:8} {row['peak_memory_gb']:.2f} GB, {row['tokens_per_second_per_core']:,.0f}"
            f" tokens/s a core, {row['share_of_tiktoken']:.0%} of tiktoken's own by processor time"
        )
    save(result, "prepare", words.out)


if __name__ == "__main__":
    main()
