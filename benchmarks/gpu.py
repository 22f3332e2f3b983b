"""Speed, memory and learning on one GPU: this project, transformers and, with --peer, others.

    PYTHONPATH=src python benchmarks/gpu.py --data FOLDER --minutes 9 --peer ../build-nanogpt

Five phases, all within --minutes: the peaks of the GPU; the training speed of GPT-2 124M at
T = 1024, contenders in turn; what `plan` says of its memory; decoding; and a training run on the
folder's shards with the time that is left. Each contender lives in a process of its own for every
micro-batch it is tried with, so that all of them compile at once; on the GPU they are one at a
time, from their first kernel on. After each turn a contender gives the GPU's memory back, all but
weights and moments, so that they can stay side by side.

The record is written after every phase and every round, so that whatever ends the script early
leaves what is known by then. Needs no network. --race lets GPT-2 and the modern architecture learn
from the shards instead: see race.py.
"""

import argparse
import json
import lzma
import queue
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from contenders import FULL, OPTIONS, STEPS_A_TURN, TINY, Scale, in_a_line
from record import add_peers, commit, environment, hardware, without_paths

from buildgpt.api import find_recipe
from buildgpt.core import load_core

HERE = Path(__file__).resolve().parent
PHASES = ("peak", "throughput", "memory", "decoding", "training")
# The shares of the time at whose end contenders have to be ready, and the alternation over.
READY, ALTERNATED = 0.4, 0.62
AIMS = {"tokens_per_second": 580_000, "ratio_to_best_peer": 1.1, "decoding_ratio": 10}
NEAR = 0.1  # how far plan's estimate may be from the measured memory


class Clock:
    """How much of the time is left."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self.total, self.now, self.started = seconds, now, now()

    def passed(self) -> float:
        """Seconds since the start."""
        return self.now() - self.started

    def left(self, share: float = 1.0) -> float:
        """Seconds until that share of the time is over; negative afterwards."""
        return share * self.total - self.passed()


class Worker:
    """A process that measures."""

    def __init__(self, who: str, micro_batch: int, **order: Any) -> None:
        self.who, self.micro_batch = who, micro_batch
        order |= {"who": who, "micro_batch": micro_batch}
        command = [sys.executable, str(HERE / "contenders.py"), json.dumps(order)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment()
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        """Collect the worker's answers; what else it prints is its contender's own talk."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith('{"answer"'):
                self.lines.put(line)
        self.lines.put("")

    def answer(self, seconds: float) -> dict[str, Any]:
        """What it says within so many seconds; {"error": why} if it does not."""
        try:
            line = self.lines.get(timeout=max(seconds, 0.01))
        except queue.Empty:
            return {"error": "no answer in time"}
        if not line:
            return {"error": f"ended with exit status {self.process.wait()}"}
        return json.loads(line)["answer"]

    def turn(self, seconds: float) -> dict[str, Any]:
        """One measurement."""
        assert self.process.stdin
        try:
            print("go", file=self.process.stdin, flush=True)
        except OSError:
            pass  # it has ended: `answer` says how
        return self.answer(seconds)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


Start = Callable[[str, int], Any]
Tell = Callable[[dict[str, Any]], None]


def throughput(
    who: list[str], scale: Scale, clock: Clock, until: float, start: Start, tell: Tell
) -> dict[str, Any]:
    """The contenders' speeds in turn, each with the micro-batch that suits it best.

    `until` is the share of the clock's time at which it ends; `tell` gets the rows so far.
    """
    rows: dict[str, Any] = {name: {"sweep": {}} for name in who}
    workers = [start(name, size) for size in scale.micro_batches for name in who]
    try:
        ready = get_ready(workers, rows, clock, until * READY / ALTERNATED)
        chosen, longest = choose(ready, rows, clock, until)
        for worker in ready:
            if worker not in chosen:
                worker.close()
        alternate(chosen, rows, clock, until, longest, scale.most_rounds, tell)
    finally:
        for worker in workers:
            worker.close()
    return {name: summarise(row, rows[who[0]]) for name, row in rows.items()}


def get_ready(workers: list, rows: dict[str, Any], clock: Clock, until: float) -> list:
    """Those that are ready in time."""
    ready = []
    for worker in workers:
        answer = worker.answer(clock.left(until))
        if "error" in answer:
            note(rows, worker, answer)
            worker.close()
        else:
            rows[worker.who]["settings"] = answer
            ready.append(worker)
        say_when(clock, f"{label(worker)}: {answer.get('error', 'ready')}")
    return ready


def choose(ready: list, rows: dict[str, Any], clock: Clock, until: float) -> tuple[list, float]:
    """The fastest worker of each contender, and the seconds that the slowest turn took."""
    best: dict[str, Any] = {}
    rates, longest = {}, 0.0
    for worker in ready:
        if clock.left(until) < longest:
            note(rows, worker, {"error": "no time left to try it"})
            continue
        began = clock.passed()
        answer = worker.turn(clock.left(until))
        longest = max(longest, clock.passed() - began)
        note(rows, worker, answer)
        rates[worker] = answer.get("rate", 0.0)
        if rates[worker] > rates.get(best.get(worker.who), 0.0):
            best[worker.who] = worker
        say_when(clock, f"{label(worker)}: {in_words(answer)}")
    for who, worker in best.items():
        rows[who] |= {"micro_batch": worker.micro_batch, "turns": []}
    return [best[who] for who in rows if who in best], longest


def note(rows: dict[str, Any], worker: Any, answer: dict[str, Any]) -> None:
    """Keep what came of a contender with a micro-batch."""
    rows[worker.who]["sweep"][str(worker.micro_batch)] = answer


def alternate(
    workers: list,
    rows: dict[str, Any],
    clock: Clock,
    until: float,
    longest: float,
    most: int,
    tell: Tell,
) -> None:
    """Round after round, each in its turn, there and back, while there is time for a round."""
    for number in range(most):
        if not workers or clock.left(until) < longest * len(workers):
            return
        for worker in list(workers if number % 2 == 0 else reversed(workers)):
            began = clock.passed()
            answer = worker.turn(clock.left(until))
            longest = max(longest, clock.passed() - began)
            if "error" in answer:
                rows[worker.who]["error"] = answer["error"]
                workers.remove(worker)
            else:
                rows[worker.who]["turns"].append(answer)
        say_when(clock, f"round {number + 1}")
        tell(rows)


def summarise(row: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """A contender's row with its median, and how many times as fast the first one is, by rounds."""
    turns = row.get("turns", [])
    if not turns:
        errors = [answer["error"] for answer in row["sweep"].values() if "error" in answer]
        return row | {"error": row.get("error") or (errors or ["no time left for a round"])[0]}
    rates = [turn["rate"] for turn in turns]
    ratios = [a["rate"] / b for a, b in zip(first.get("turns", []), rates)]
    spread = {"lowest": min(rates), "median": statistics.median(rates), "highest": max(rates)}
    memory = {key: max(turn[key] for turn in turns) for key in ("memory_gb", "reserved_gb")}
    ratio = statistics.median(ratios) if ratios else None
    return row | spread | memory | {"first_to_this": ratios, "first_to_this_median": ratio}


def memory_check(record: dict[str, Any], scale: Scale) -> dict[str, Any] | None:
    """plan's estimate beside what this project's model took, for each micro-batch; None without."""
    try:
        from buildgpt.reproduce import plan
    except ImportError:
        return None
    core = load_core()
    settings = [f"model.{key}={value}" for key, value in scale.shape.items()]
    recipe = core.config.load_recipe(find_recipe(core, "gpt2-124m"), settings)
    checks = {}
    sweep = record.get("throughput", {}).get("contenders", {}).get("ours", {}).get("sweep", {})
    for size, answer in sweep.items():
        if "memory_gb" in answer:
            parts = plan.memory(recipe, int(size), 1, scale.device)
            parts = {name: count / 1e9 for name, count in parts.items() if name != "evaluation"}
            ratio = sum(parts.values()) / answer["memory_gb"]
            found = {"measured_gb": answer["memory_gb"], "ratio": ratio}
            checks[size] = {"estimated_gb": sum(parts.values())} | found | {"parts_gb": parts}
    near = all(abs(check["ratio"] - 1) <= NEAR for check in checks.values()) if checks else None
    return {"by_micro_batch": checks, "wanted": f"within {NEAR:.0%}", "met": near}


def train(data: Path, micro_batch: int, scale: Scale, clock: Clock) -> dict[str, Any]:
    """Train the recipe on the folder's shards with the time that is left; curve and summary."""
    seconds = clock.left() - scale.reserve
    if seconds <= 0:
        return {"error": "no time left"}
    settings = [
        *("data.tokenizer=gpt2", "data.val_tokens=0", f"train.max_seconds={seconds:.1f}"),
        *(f"train.micro_batch={micro_batch}", f"runtime.device={scale.device}"),
        *("train.eval_every=0", "train.hellaswag_every=0", "sample.every=0"),
        *("train.checkpoint_every=0", "train.checkpoint_minutes=0"),
        *scale.settings,
    ]
    recipe = find_recipe(load_core(), "gpt2-124m")
    with tempfile.TemporaryDirectory() as runs:
        words = [word for wish in [f"data.path={data}", *settings] for word in ("--set", wish)]
        command = [sys.executable, "-m", "buildgpt.gpt.train", str(recipe), *words]
        named = [*command, "--name", "classics", "--runs", runs]
        process = subprocess.Popen(named, env=environment())
        status = wait_for(process, clock.left())
        lines = load_core().runlog.read_metrics(Path(runs) / "classics")
    return {"settings": settings, "exit_status": status} | story(lines)


def wait_for(process: subprocess.Popen, seconds: float) -> int:
    """The exit status of a process, which is ended if it takes longer."""
    try:
        return process.wait(timeout=max(seconds, 0.01))
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def story(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What a run's metrics say: its curve, its validation, its samples and how it ended."""
    kept = {"train": ("step", "tokens", "seconds", "loss", "tokens_per_second")}
    kept["val"] = ("step", "tokens", "seconds", "loss", "scored")
    curves = {
        kind: [{key: line.get(key) for key in keys} for line in lines if line["kind"] == kind]
        for kind, keys in kept.items()
    }
    events = [line for line in lines if line["kind"] == "event"]
    summary = next((line["summary"] for line in events if line["event"] == "done"), None)
    keys = ("val_loss", "train_loss", "tokens_per_second", "step", "tokens", "seconds")
    keys += ("peak_memory_gb",)
    told = {key: summary.get(key) for key in keys} if summary else {"error": "not finished"}
    samples = [line["text"] for line in lines if line["kind"] == "sample"]
    notes = [line["message"] for line in events if line["event"] == "note"]
    curve = {"curve": curves["train"], "validation": curves["val"]}
    return curve | told | {"samples": samples, "notes": notes}


def aims(record: dict[str, Any]) -> list[dict[str, Any]]:
    """What was to be reached on one H100, what was, and whether that is enough; None: unknown."""
    rows = record.get("throughput", {}).get("contenders", {})
    ratios = [row.get("first_to_this_median") for name, row in rows.items() if name != "ours"]
    measured = [ratio for ratio in ratios if ratio is not None]
    found = {
        "tokens_per_second": rows.get("ours", {}).get("median"),
        "ratio_to_best_peer": min(measured, default=None),
        "decoding_ratio": record.get("decoding", {}).get("ratio"),
    }
    device = record["hardware"].get("gpu", {}).get("name", "no GPU")
    return [
        {
            "aim": name,
            "meant_for": "one H100",
            "measured_on": device,
            "wanted": wanted,
            "found": found[name],
            "met": None if found[name] is None else found[name] >= wanted,
        }
        for name, wanted in AIMS.items()
    ]


def gpu() -> dict[str, Any]:
    """The GPU and what drives it, as far as torch and nvidia-smi say."""
    import torch

    facts: dict[str, Any] = {"cuda": torch.version.cuda}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        facts |= {"name": properties.name, "memory_gb": properties.total_memory / 1e9}
        facts["capability"] = f"{properties.major}.{properties.minor}"
        facts["cudnn"] = torch.backends.cudnn.version()
    return facts | nvidia_smi("driver_version", "power.limit", "clocks.max.sm", "clocks.max.memory")


def nvidia_smi(*fields: str) -> dict[str, str]:
    """Fields of the first GPU; empty without nvidia-smi."""
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return dict(zip(fields, (value.strip() for value in lines[0].split(",")))) if lines else {}


def state() -> dict[str, str]:
    """How hot and how fast the GPU is now."""
    return nvidia_smi("clocks.sm", "clocks.mem", "temperature.gpu", "power.draw")


def versions() -> dict[str, str | None]:
    """Of what matters besides torch."""
    found: dict[str, str | None] = {}
    for name in ("triton", "transformers", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def unpack(source: Path, target: Path) -> Path:
    """The folder of shards: the source, or, if some are packed, the target with all unpacked."""
    packed = sorted(source.glob("*.bin.xz"))
    if not packed:
        return source

    def one(path: Path) -> None:
        with lzma.open(path) as file, (target / path.stem).open("wb") as out:
            shutil.copyfileobj(file, out, 2**20)

    for path in source.glob("*.bin"):
        (target / path.name).symlink_to(path.resolve())
    with ThreadPoolExecutor() as pool:
        list(pool.map(one, (path for path in packed if not (target / path.stem).exists())))
    return target


class Session:
    """One run of this script: its record, phase by phase."""

    def __init__(self, words: argparse.Namespace, clock: Clock) -> None:
        self.words, self.clock = words, clock
        self.scale = TINY if words.tiny else FULL
        today = date.today().isoformat()
        kind = "race" if getattr(words, "race", False) else "gpu"
        self.out = words.out or HERE / "results" / f"{today}-{kind}.json"
        arguments = without_paths(shlex.join(sys.argv[1:]))
        self.record: dict[str, Any] = {
            "date": today,
            "commit": words.commit or commit(),
            "command": f"python benchmarks/gpu.py {arguments}",
            "tiny": words.tiny,
            "hardware": hardware() | {"gpu": gpu(), "versions": versions()},
            "minutes": words.minutes,
            "model": self.scale.shape,
            "tokens_per_step": self.scale.tokens_per_step,
            "phases": {},
        }

    def run(self) -> bool:
        """Every phase that was asked for; whether all of them came to something."""
        with tempfile.TemporaryDirectory() as folder:
            self.data, self.lock = unpack(self.words.data, Path(folder)), Path(folder) / "lock"
            self.lock.touch()
            for phase in PHASES:
                if self.words.only in ("", phase):
                    self.do(phase)
        parts = [self.record[phase] or {} for phase in self.record["phases"]]
        parts += [self.record.get("throughput", {}).get("contenders", {}).get("ours", {})]
        return not any("error" in part for part in parts)

    def race(self) -> bool:
        """The race instead of the phases; whether its jobs so far came to something."""
        from race import race

        def report(found: dict[str, Any]) -> None:
            self.record["race"] = found
            load_core().config.write_text(self.out, json.dumps(self.record, indent=1) + "\n")

        with tempfile.TemporaryDirectory() as folder:
            return race(self.words, unpack(self.words.data, Path(folder)), self.clock, report)

    def do(self, phase: str) -> None:
        """One phase, which may fail without ending the others."""
        began = self.clock.passed()
        say_when(self.clock, f"== {phase}")
        try:
            self.record[phase] = getattr(self, phase)()
        except Exception as error:
            traceback.print_exc()
            self.record[phase] = self.record.get(phase, {}) | {"error": in_a_line(error)}
        self.record["phases"][phase] = {"began": began, "seconds": self.clock.passed() - began}
        self.record["phases"][phase]["gpu_afterwards"] = state()
        self.save()

    def save(self) -> None:
        """Write what is known."""
        self.record["aims"] = aims(self.record)
        load_core().config.write_text(self.out, json.dumps(self.record, indent=1) + "\n")

    def start(self, who: str, micro_batch: int = 0) -> Worker:
        """A process for a contender; "peak" for the GPU itself."""
        places = {"data": str(self.data), "lock": str(self.lock)}
        return Worker(who, micro_batch, **places, tiny=self.words.tiny)

    def peak(self) -> dict[str, Any]:
        """Phase 1."""
        return self.alone("peak", self.clock.left(0.2))

    def decoding(self) -> dict[str, Any]:
        """Phase 4."""
        return self.alone("decoding", min(120.0, self.clock.left()))

    def alone(self, what: str, seconds: float) -> dict[str, Any]:
        """What a process of its own finds within so many seconds."""
        worker = self.start(what)
        try:
            return worker.answer(seconds)
        finally:
            worker.close()

    def throughput(self) -> dict[str, Any]:
        """Phase 2."""
        from buildgpt.reproduce.arithmetic import flops_per_token

        who = ["ours", "transformers", *map(str, self.words.peer)]
        if self.words.options:
            who = ["ours", *(f"ours, {name}" for name in OPTIONS)]
        flops = flops_per_token(load_core().config.ModelConfig(**self.scale.shape))
        until = 1.0 if self.words.only == "throughput" else ALTERNATED

        def result(rows: dict[str, Any]) -> dict[str, Any]:
            named = {Path(name).name: self.with_share(row, flops) for name, row in rows.items()}
            return {"flops_per_token": flops, "steps_a_turn": STEPS_A_TURN, "contenders": named}

        def tell(rows: dict[str, Any]) -> None:
            first = rows[who[0]]
            self.record["throughput"] = result({n: summarise(r, first) for n, r in rows.items()})
            self.save()

        return result(throughput(who, self.scale, self.clock, until, self.start, tell))

    def with_share(self, row: dict[str, Any], flops: float) -> dict[str, Any]:
        """A row with the share of the matmul peak that its model's FLOPs make."""
        peak = self.record.get("peak", {}).get("matmul_tflops")
        known = peak and "median" in row
        return row | {"share_of_peak": row["median"] * flops / peak / 1e12 if known else None}

    def memory(self) -> dict[str, Any] | None:
        """Phase 3."""
        return memory_check(self.record, self.scale)

    def training(self) -> dict[str, Any]:
        """Phase 5, with the micro-batch that was the fastest."""
        rows = self.record.get("throughput", {}).get("contenders", {})
        micro_batch = rows.get("ours", {}).get("micro_batch", self.scale.micro_batches[0])
        return train(self.data, micro_batch, self.scale, self.clock)


def label(worker: Any) -> str:
    """ "nanoGPT, micro-batch 32" """
    return f"{Path(worker.who).name}, micro-batch {worker.micro_batch}"


def in_words(answer: dict[str, Any]) -> str:
    """One turn's answer for the eye."""
    if "error" in answer:
        return answer["error"]
    return f"{answer['rate']:,.0f} tokens/s, {answer['memory_gb']:.1f} GB"


def say_when(clock: Clock, words: str) -> None:
    """A line of progress."""
    print(f"[{clock.passed():5.0f} s] {words}", flush=True)


def table(record: dict[str, Any]) -> str:
    """The record in words."""
    gpu = record["hardware"]["gpu"]
    lines = [f"\n{gpu.get('name', 'no GPU')}, torch {record['hardware']['torch']}"]
    if record["tiny"]:
        lines.append("A rehearsal at toy size on the CPU: its figures say nothing.")
    parts = (peak_lines, throughput_lines, memory_lines, decoding_lines, training_lines)
    for phase, words in zip(PHASES, parts):
        found = record.get(phase)
        if found:
            failed = [f"\n{phase} failed: {found['error']}"] if "error" in found else []
            lines += failed or words(found)
    lines.append("\naims, for one H100:")
    for aim in record["aims"]:
        met = {True: "met", False: "NOT met", None: "unknown"}[aim["met"]]
        found = "nothing" if aim["found"] is None else f"{aim['found']:,.2f}"
        lines.append(f"  {aim['aim']:20} wanted {aim['wanted']:,}, found {found}: {met}")
    return "\n".join(lines)


def peak_lines(peak: dict[str, Any]) -> list[str]:
    """What the GPU can do."""
    lines = [f"\npeak: {peak['matmul_tflops']:,.1f} TFLOP/s of bf16 products, of these sizes:"]
    for row in peak["products"]:
        lines.append(f"  {row['m']:>6} x {row['k']:>6} x {row['n']:>6} {row['tflops']:>9,.1f}")
    return [*lines, f"copy: {peak['copy_gb_per_second']:,.0f} GB/s, read and written"]


def throughput_lines(result: dict[str, Any]) -> list[str]:
    """The contenders side by side."""
    head = ("tokens/s", "(lowest-highest)", "ours to it", "of peak", "batch", "GB", "loss")
    widths = (10, 21, 18, 8, 6, 7, 7)
    lines = ["\ntraining" + " " * 13 + "".join(f"{h:>{w}}" for h, w in zip(head, widths))]
    for name, row in result["contenders"].items():
        if "median" not in row:
            lines.append(f"  {name:19} failed: {row['error']}")
            continue
        ratios, share = row["first_to_this"], row["share_of_peak"]
        spread = f"({row['lowest']:,.0f}-{row['highest']:,.0f})"
        by = f"{row['first_to_this_median']:.2f} ({min(ratios):.2f}-{max(ratios):.2f})"
        cells = (
            f"{row['median']:,.0f}",
            spread,
            by if ratios else "",
            f"{share:.1%}" if share is not None else "",
            row["micro_batch"],
            f"{row['memory_gb']:.1f}",
            f"{row['turns'][-1]['loss']:.2f}",
        )
        lines.append(f"  {name:19}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths)))
    return lines


def memory_lines(memory: dict[str, Any]) -> list[str]:
    """plan's estimate and the truth."""
    lines = ["\nmemory: estimated, measured, ratio"]
    for size, row in memory["by_micro_batch"].items():
        sizes = f"{row['estimated_gb']:.1f} GB, {row['measured_gb']:.1f} GB"
        lines.append(f"  micro-batch {size:>3}: {sizes}, {row['ratio']:.2f}")
    met = {True: "met", False: "NOT met", None: "unknown"}[memory["met"]]
    return [*lines, f"  {memory['wanted']}: {met}"]


def decoding_lines(decoding: dict[str, Any]) -> list[str]:
    """Both sides' decoding."""
    rates = [f"{who} {rate:,.0f}" for who, rate in decoding["tokens_per_second"].items()]
    return ["\ndecoding, one sample, tokens/s: " + f"{', '.join(rates)}; {decoding['ratio']:.1f}"]


def training_lines(training: dict[str, Any]) -> list[str]:
    """Where the run came to."""
    points = training["curve"]
    some = points[:: max(1, len(points) // 8)]
    lines = ["\ntraining run: step, tokens, loss"]
    lines += [f"  {p['step']:>6} {p['tokens']:>12,} {p['loss'] or float('nan'):.3f}" for p in some]
    tokens, rate = training["tokens"], training["tokens_per_second"]
    end = f"after {tokens:,} tokens in {training['seconds']:.0f} s, {rate:,.0f} tokens/s"
    loss = training["val_loss"]
    return [*lines, f"  validation loss {'?' if loss is None else f'{loss:.4f}'} {end}"]


def main() -> int:
    """Measure, show and record."""
    began = time.monotonic()  # before torch is imported, which takes seconds
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of GPT-2 shards, .bin or .bin.xz")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything (default: 9)")
    add_peers(parser)
    parser.add_argument("--only", default="", choices=["", *PHASES], help="one part alone")
    parser.add_argument(
        "--options", action="store_true", help="try kernels and ways to compile, not contenders"
    )
    parser.add_argument("--out", type=Path, help="the record; results/DATE-gpu.json otherwise")
    parser.add_argument("--commit", default="", help="of a copy without .git")
    parser.add_argument("--tiny", action="store_true", help="rehearse at toy size on the CPU")
    add_race(parser.add_argument_group("the race", "a call does what fits; repeat it"))
    words = parser.parse_args()
    words.only = words.only or ("throughput" if words.options else "")
    check(parser, words)
    session = Session(words, Clock(60 * words.minutes - (time.monotonic() - began)))
    good = session.race() if words.race else session.run()
    if not words.race:
        print(table(session.record))
    print(f"\nrecorded in {session.out}")
    return 0 if good else 1


def add_race(group: Any) -> None:
    """The words of --race."""
    place = HERE / "results" / "race"
    group.add_argument("--race", action="store_true", help="GPT-2 against the modern architecture")
    group.add_argument("--state", type=Path, default=place, help="what is done and half done")
    group.add_argument("--from", dest="source", type=Path, help="an older state folder to go on")
    group.add_argument("--sweep", type=int, default=234, help="million tokens of either's tuning")
    group.add_argument("--modern", default="modern-124m", help="the recipe of the modern side")
    group.add_argument("--set", action="append", default=[], help="for the modern side, as train's")


def check(parser: argparse.ArgumentParser, words: argparse.Namespace) -> None:
    """End with exit status 2 and a sentence where the words cannot work."""
    import torch

    if words.data is None or not list(words.data.glob("*train*.bin*")):
        parser.error("--data is no folder of shards such as classics_train_000001.bin(.xz)")
    if not words.tiny and not torch.cuda.is_available():
        parser.error("there is no NVIDIA GPU here; rehearse with --tiny")


if __name__ == "__main__":
    sys.exit(main())
