"""All figures that need no GPU, in a quarter of an hour: `make bench`.

    python benchmarks/cpu.py --peer ../build-nanogpt --peer ../nanoGPT --text tinyshakespeare.txt

Speed side by side with transformers and, with --peer, others: each contender lives in a process of
its own. They are asked in turn, round after round, so that whatever else the machine does hits all
alike; figures are medians over rounds, and ratios are taken round by round. The other parts are in
parts.py. The result goes into benchmarks/results/ with hardware, commit and command, and a picture
beside it; tools/bench_table.py puts the newest into the README.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

import parts  # noqa: E402
from picture import draw  # noqa: E402
from record import add_peers, commit, hardware, save, without_paths  # noqa: E402

# The 10.7M-parameter character model on which nanoGPT and build-nanogpt report.
TRAINING = {"layers": 6, "heads": 6, "width": 384, "context": 256, "vocab_size": 65}
BATCH = 16
DECODING = {"layers": 12, "heads": 12, "width": 768, "context": 1024, "vocab_size": 50257}
# How a model is asked to generate: tokens of the prompt, new tokens, samples side by side.
GENERATING = {"decode": (4, 48, 1), "prefill": (512, 1, 1), "batch": (4, 16, 32)}
STEPS_A_ROUND = 3
READ_BYTES = 2**30  # far more than caches hold


# Contenders: each makes its model and returns a function that is timed, and what one call does.


def train_ours(compiled: bool) -> tuple[Any, float]:
    """This project's model, optimizer and update."""
    import torch

    from buildgpt.core import load_core

    core = load_core()
    core.runtime.start_runtime(core.config.RuntimeConfig(device="cpu"))
    model = core.model.GPT(core.config.ModelConfig(**TRAINING))
    optimizer = core.optim.build_optimizer(model, core.config.TrainConfig())
    run = torch.compile(model) if compiled else model
    return training_step(lambda x, y: run(x, y), model, optimizer)


def train_transformers(compiled: bool) -> tuple[Any, float]:
    """transformers' GPT2LMHeadModel with its fused attention, and torch's fused AdamW."""
    import torch
    from torch.nn import functional as F

    model = hugging_face_model(TRAINING).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, fused=True)
    run = torch.compile(model) if compiled else model

    def loss(x: Any, y: Any) -> Any:
        logits = run(x, use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())

    return training_step(loss, model, optimizer)


def train_peer(folder: Path, compiled: bool) -> tuple[Any, float]:
    """The model and optimizer of a checkout of build-nanogpt or nanoGPT, as it sets them up."""
    import torch

    model, optimizer = peer_model(folder, TRAINING, "cpu", dropout=0.0)
    run = torch.compile(model) if compiled else model
    return training_step(lambda x, y: run(x, y)[1], model, optimizer)


def peer_model(folder: Path, shape: dict[str, int], device: str, **wishes: Any) -> tuple[Any, Any]:
    """A peer's model of the shape, on the device, and its optimizer; wishes where it knows them."""
    names = peer_names(folder)
    known = names["GPTConfig"].__dataclass_fields__
    config = names["GPTConfig"](
        block_size=shape["context"],
        vocab_size=shape["vocab_size"],
        n_layer=shape["layers"],
        n_head=shape["heads"],
        n_embd=shape["width"],
        **{key: value for key, value in wishes.items() if key in known},
    )
    model = names["GPT"](config).to(device)
    if "train_gpt2.py" in os.listdir(folder):
        return model, model.configure_optimizers(0.1, 6e-4, device)
    return model, model.configure_optimizers(0.1, 6e-4, (0.9, 0.95), device)


def peer_names(folder: Path) -> dict[str, Any]:
    """The imports and classes of a peer's model file, without the script that may follow them."""
    import ast

    path = next(p for p in (folder / "train_gpt2.py", folder / "model.py") if p.exists())
    tree = ast.parse(path.read_text(encoding="utf-8"))
    definitions = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef)
    tree.body = [n for n in tree.body if isinstance(n, definitions) and not of_peer(n, folder)]
    module = sys.modules["peer"] = type(sys)("peer")  # dataclasses and torch.compile look there
    module.master_process = False
    exec(compile(tree, str(path), "exec"), vars(module))
    return vars(module)


def of_peer(node: Any, folder: Path) -> bool:
    """Whether this imports another file of the peer's, such as its HellaSwag."""
    module = getattr(node, "module", None) or ""
    return (folder / f"{module}.py").exists()


def training_step(loss: Any, model: Any, optimizer: Any) -> tuple[Any, float]:
    """A function that makes some updates, alike for all; and their tokens."""
    import torch

    generator = torch.Generator().manual_seed(0)
    size = (BATCH, TRAINING["context"] + 1)
    ids = torch.randint(TRAINING["vocab_size"], size, generator=generator)
    x, y = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def steps() -> None:
        for _ in range(STEPS_A_ROUND):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                value = loss(x, y)
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return steps, STEPS_A_ROUND * x.numel()


def hugging_face_model(shape: dict[str, int]) -> Any:
    """transformers' GPT-2 of the shape, with random weights and without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    theirs = {"n_layer": shape["layers"], "n_head": shape["heads"], "n_embd": shape["width"]}
    dropouts = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
    sizes = {"n_positions": shape["context"], "vocab_size": shape["vocab_size"]}
    config = GPT2Config(**theirs, **dropouts, **sizes, attn_implementation="sdpa")
    return GPT2LMHeadModel(config)


def generate_ours(
    dtype: str,
    prompt: int,
    tokens: int,
    samples: int,
    shape: dict[str, int] = DECODING,
    device: str = "cpu",
) -> Any:
    """This project's generate with its cache, greedy."""
    import torch

    from buildgpt.core import load_core
    from buildgpt.decoding import FEW_ROWS, for_decoding, pack_for_few

    core = load_core()
    model = core.model.GPT(core.config.ModelConfig(**shape)).eval().to(device)
    model = for_decoding(model, getattr(torch, dtype))
    if samples <= FEW_ROWS:
        pack_for_few(model)
    sampling = core.generate.Sampling(max_tokens=tokens, temperature=0, samples=samples)
    ids = list(range(1, prompt + 1))
    return lambda: list(core.generate.generate(model, ids, sampling))


def generate_transformers(
    dtype: str,
    prompt: int,
    tokens: int,
    samples: int,
    shape: dict[str, int] = DECODING,
    device: str = "cpu",
) -> Any:
    """transformers' generate with its default cache, greedy."""
    import torch

    model = hugging_face_model(shape).eval().to(device, getattr(torch, dtype))
    ids = torch.arange(1, prompt + 1, device=device).expand(samples, -1)
    wishes = {"max_new_tokens": tokens, "min_new_tokens": tokens}
    wishes |= {"do_sample": False, "pad_token_id": 0}
    return lambda: model.generate(ids, attention_mask=torch.ones_like(ids), **wishes)


def generation(verb: str, who: str, dtype: str) -> tuple[Any, float]:
    """A contender that generates; counted are the prompt's tokens or else the new ones."""
    prompt, tokens, samples = GENERATING[verb]
    make = {"ours": generate_ours, "transformers": generate_transformers}[who]
    return make(dtype, prompt, tokens, samples), prompt if verb == "prefill" else tokens * samples


def weight_bytes(dtype: str) -> float:
    """Bytes of the weights that a new token's products read: the blocks' and the head's."""
    from buildgpt.core import load_core

    core = load_core()
    widened = core.model.VOCABULARY_MULTIPLE
    rows = -(-DECODING["vocab_size"] // widened) * widened
    weights = 12 * DECODING["layers"] * DECODING["width"] ** 2 + rows * DECODING["width"]
    return weights * {"float32": 4, "bfloat16": 2}[dtype]


def reading() -> tuple[Any, float]:
    """A sum over an array, by all threads: nothing reads memory faster; the unit is a byte."""
    import torch

    array = torch.ones(READ_BYTES // 4)
    return array.sum, READ_BYTES


def matmul_peak() -> tuple[Any, float]:
    """Square bf16 products; the unit is FLOP."""
    import torch

    size, times = 2048, 4
    a, b = (torch.randn(size, size).bfloat16() for _ in range(2))

    def products() -> None:
        for _ in range(times):
            a @ b

    return products, times * 2.0 * size**3


def contender(name: str) -> tuple[Any, float]:
    """What a name such as "train ours", "decode transformers bfloat16" stands for."""
    verb, who, *how = shlex.split(name)
    compiled = how == ["compiled"]
    if verb == "peak":
        return matmul_peak() if who == "matmul" else reading()
    if verb == "train":
        makers = {"ours": train_ours, "transformers": train_transformers}
        return makers[who](compiled) if who in makers else train_peer(Path(who), compiled)
    return generation(verb, who, how[0])


def work(name: str) -> None:
    """The worker's life: get ready and warm, then time one call for every line that comes in."""
    import resource

    call, amount = contender(name)
    for _ in range(2):
        call()
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        call()
        rate = amount / (time.perf_counter() - began)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"rate": rate, "memory": memory}), flush=True)


class Worker:
    """A contender in its own process."""

    def __init__(self, name: str) -> None:
        self.name, self.rates, self.memory = name, [], 0
        command = [sys.executable, __file__, "--worker", name]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.answer()

    def answer(self) -> dict[str, Any]:
        """The next JSON line; other lines are the contender's own talk."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith('{"'):
                return json.loads(line)
        raise RuntimeError(f"{self.name} failed: see above")

    def measure(self) -> None:
        """One timed call."""
        assert self.process.stdin
        print("go", file=self.process.stdin, flush=True)
        result = self.answer()
        self.rates.append(result["rate"])
        self.memory = result["memory"]

    def close(self) -> None:
        """Let it end."""
        self.process.communicate()


def alternate(names: list[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Measure the contenders in turn; the ratio of each to the first, round by round."""
    print(f"getting ready: {', '.join(names)}", flush=True)
    workers = [Worker(name) for name in names]
    for number in range(rounds):
        for worker in workers:
            worker.measure()
            time.sleep(0.3)  # idle threads of one must not spin into the next one's time
        print(f"round {number + 1} of {rounds}", flush=True)
    for worker in workers:
        worker.close()
    first = workers[0].rates
    return {without_paths(w.name): summarise(w.rates, first, w.memory) for w in workers}


def summarise(rates: list[float], first: list[float], memory: float) -> dict[str, Any]:
    """Median, extremes and the median ratio to the first contender."""
    ratios = [a / b for a, b in zip(rates, first)]
    return {
        "median": statistics.median(rates),
        "lowest": min(rates),
        "highest": max(rates),
        "ratio_to_first": statistics.median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
        "peak_memory_gb": memory / 1e9,
    }


def training_flops() -> float:
    """FLOPs a token of the model that is trained."""
    from buildgpt.core import load_core
    from buildgpt.reproduce.arithmetic import flops_per_token

    return flops_per_token(load_core().config.ModelConfig(**TRAINING))


def training(words: argparse.Namespace) -> dict[str, Any]:
    """Everybody's training, and what share of the machine's bf16 products it reaches."""
    who = ["ours", "transformers", *(shlex.quote(str(peer)) for peer in words.peer)]
    ways = ["", " compiled"] if words.compile else [""]
    names = [f"train {name}{way}" for name in who for way in ways]
    rows = alternate([*names, "peak matmul"], words.rounds)
    peak, flops = rows.pop("peak matmul")["median"], training_flops()
    for row in rows.values():
        row["share_of_peak"] = row["median"] * flops / peak
    return {"matmul_peak_tflops": peak / 1e12, "rows": rows}


def decoding(words: argparse.Namespace) -> dict[str, Any]:
    """One sample's new tokens, and what share of the memory's speed that reads weights at."""
    dtypes, who = ("bfloat16", "float32"), ("ours", "transformers")
    names = [f"decode {name} {dtype}" for dtype in dtypes for name in who]
    rows = alternate([*names, "peak read"], words.rounds)
    read = rows.pop("peak read")["median"]
    for name, row in rows.items():
        row["share_of_read"] = row["median"] * weight_bytes(name.split()[-1]) / read
    return {"read_gb_per_second": read / 1e9, "rows": rows}


def generating(words: argparse.Namespace) -> dict[str, Any]:
    """A prompt of 512 tokens, and 32 samples side by side."""
    pairs = {
        verb: [f"{verb} {who} bfloat16" for who in ("ours", "transformers")]
        for verb in ("prefill", "batch")
    }
    return {verb: alternate(names, max(2, words.rounds // 2)) for verb, names in pairs.items()}


PARTS = {"training": training, "decoding": decoding, "generating": generating} | parts.PARTS


def table(record: dict[str, Any]) -> str:
    """The record in words."""
    groups = {part: record.get(part, {}).get("rows", {}) for part in ("training", "decoding")}
    groups |= record.get("generating", {})
    lines = []
    for part, rows in groups.items():
        lines.append(f"\n{part}: tokens/s (median), ratio to the first by rounds, peak memory")
        for name, row in rows.items():
            share = row.get("share_of_peak", row.get("share_of_read"))
            of = "" if share is None else f"  {share:.0%} of what the machine can do"
            ratio = f"{row['ratio_to_first']:.2f} ({row['ratio_lowest']:.2f}-"
            ratio += f"{row['ratio_highest']:.2f})"
            memory = f"{row['peak_memory_gb']:.2f} GB"
            lines.append(f"  {name:45} {row['median']:>9,.0f}  {ratio:>18}  {memory}{of}")
    return "\n".join([*lines, *parts.lines(record)])


def measure(words: argparse.Namespace) -> dict[str, Any]:
    """All figures, part by part; a part that fails ends nothing."""
    command = f"python benchmarks/cpu.py {without_paths(shlex.join(sys.argv[1:]))}"
    record: dict[str, Any] = {"date": date.today().isoformat(), "commit": commit()}
    record |= {"command": command, "quick": words.quick, "hardware": hardware(), "seconds": {}}
    for name, part in PARTS.items():
        if name in words.only or not words.only:
            began = time.monotonic()
            print(f"== {name}", flush=True)
            try:
                record[name] = part(words) if name not in parts.PARTS else part(words, record)
            except (Exception, SystemExit) as error:
                record[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
                print(record[name]["error"], flush=True)
            record["seconds"][name] = round(time.monotonic() - began, 1)
    return record


def main() -> int:
    """Measure, show and record; exit status 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_peers(parser)
    parser.add_argument("--text", type=Path, help="learn from this text, not the bundled one")
    parser.add_argument("--seconds", type=float, help="of each learning run; else as many as usual")
    parser.add_argument("--seeds", type=int, default=1, help="how often each recipe learns")
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured")
    parser.add_argument("--compile", action="store_true", help="measure each compiled, too")
    parser.add_argument("--quick", action="store_true", help="two rounds, short runs: a rehearsal")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=PARTS,
        metavar="PART",
        help=f"of {', '.join(PARTS)}",
    )
    parser.add_argument(
        "--out", type=Path, help="the result's file; results/DATE-cpu.json otherwise"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.seeds < 1:
        parser.error("--seeds must be at least 1")
    if words.worker:
        work(words.worker)
        return 0
    if words.quick:
        words.rounds, words.seconds = 2, words.seconds or 10.0
    record = measure(words)
    print(table(record))
    draw(record, save(record, "cpu", words.out).with_suffix(".svg"))
    return int(any("error" in record[name] for name in PARTS if name in record))


if __name__ == "__main__":
    sys.exit(main())
