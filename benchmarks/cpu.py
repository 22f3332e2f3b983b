"""Speed and memory on a CPU, side by side: this project, transformers and, with --peer, others.

    python benchmarks/cpu.py --peer ../build-nanogpt --peer ../nanoGPT --text tinyshakespeare.txt

Each contender lives in a process of its own. They are asked in turn, round after round, so that
whatever else the machine does hits all alike; figures are medians over rounds, and ratios are
taken round by round. The result goes into benchmarks/results/ with hardware, commit and command.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from record import commit, hardware, save, without_paths

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "src"))

# The 10.7M-parameter character model on which nanoGPT and build-nanogpt report.
TRAINING = {"layers": 6, "heads": 6, "width": 384, "context": 256, "vocab_size": 65}
BATCH = 16
DECODING = {"layers": 12, "heads": 12, "width": 768, "context": 1024, "vocab_size": 50257}
DECODED_TOKENS = 48
STEPS_A_ROUND = 3


# Contenders: each makes its model and returns a function that is timed, and what one call does.


def train_ours(compiled: bool) -> tuple[Any, float]:
    """This project's model, optimizer and update."""
    import torch

    from buildgpt.core import load_core

    core = load_core()
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


def decode_ours(dtype: str) -> tuple[Any, float]:
    """This project's generate with its cache, greedy, one sample."""
    import torch

    from buildgpt.core import load_core

    core = load_core()
    model = core.model.GPT(core.config.ModelConfig(**DECODING)).eval()
    model = core.generate.for_decoding(model, getattr(torch, dtype))
    sampling = core.generate.Sampling(max_tokens=DECODED_TOKENS, temperature=0)
    return lambda: list(core.generate.generate(model, [1, 2, 3, 4], sampling)), DECODED_TOKENS


def decode_transformers(dtype: str) -> tuple[Any, float]:
    """transformers' generate with its default cache, greedy, one sample."""
    import torch

    model = hugging_face_model(DECODING).eval().to(getattr(torch, dtype))
    ids = torch.tensor([[1, 2, 3, 4]])
    wishes = {"max_new_tokens": DECODED_TOKENS, "min_new_tokens": DECODED_TOKENS}
    wishes |= {"do_sample": False, "pad_token_id": 0}
    return lambda: model.generate(
        ids, attention_mask=torch.ones_like(ids), **wishes
    ), DECODED_TOKENS


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
        return matmul_peak()
    if verb == "train":
        makers = {"ours": train_ours, "transformers": train_transformers}
        return makers[who](compiled) if who in makers else train_peer(Path(who), compiled)
    return {"ours": decode_ours, "transformers": decode_transformers}[who](how[0])


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


def budget(text: Path, seconds: float) -> dict[str, Any]:
    """The validation loss after so many seconds of training on a text's first nine tenths."""
    source = os.environ | {"PYTHONPATH": str(HERE.parent / "src")}
    with tempfile.TemporaryDirectory() as folder:
        tool = [sys.executable, "-m", "buildgpt"]
        data, runs = f"{folder}/data", f"{folder}/runs"
        prepare = [*tool, "prepare", str(text), "--out", data, "--tokenizer", "char"]
        subprocess.run(prepare, check=True, env=source, stdout=subprocess.DEVNULL)
        settings = [f"data.path={data}", f"train.max_seconds={seconds}", "data.val_tokens=0"]
        words = [word for setting in settings for word in ("--set", setting)]
        train = [
            *tool,
            "train",
            "shakespeare",
            "--name",
            "budget",
            "--runs",
            runs,
            *words,
            "--json",
        ]
        output = subprocess.run(train, check=True, env=source, stdout=subprocess.PIPE, text=True)
        return json.loads(output.stdout.splitlines()[-1]) | {"run": "budget"}


def table(result: dict[str, Any]) -> str:
    """The result in words."""
    lines = []
    for part in ("training", "decoding"):
        lines.append(f"\n{part}: tokens/s (median), ratio to the first by rounds, peak memory")
        for name, row in result.get(part, {}).items():
            share = f"  {row['share_of_peak']:.0%} of peak" if "share_of_peak" in row else ""
            lowest, highest = row["ratio_lowest"], row["ratio_highest"]
            ratio = f"{row['ratio_to_first']:.2f} ({lowest:.2f}-{highest:.2f})"
            memory = f"{row['peak_memory_gb']:.2f} GB"
            lines.append(f"  {name:45} {row['median']:>9,.0f}  {ratio:>18}  {memory}{share}")
    if "budget" in result:
        row = result["budget"]
        lines.append(
            f"\nvalidation loss {row['val_loss']:.4f} after {row['seconds']:.1f} s of training"
        )
    return "\n".join(lines)


def training_flops() -> float:
    """FLOPs a token of the model that is trained."""
    from buildgpt.core import load_core
    from buildgpt.reproduce.arithmetic import flops_per_token

    return flops_per_token(load_core().config.ModelConfig(**TRAINING))


def measure(words: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    result: dict[str, Any] = {"date": date.today().isoformat(), "commit": commit()}
    command = f"python benchmarks/cpu.py {without_paths(shlex.join(sys.argv[1:]))}"
    result |= {"command": command, "hardware": hardware()}
    who = ["ours", "transformers", *(shlex.quote(str(peer)) for peer in words.peer)]
    ways = ["", " compiled"] if words.compile else [""]
    names = [f"train {name}{way}" for name in who for way in ways]
    if words.only in ("", "training"):
        rows = alternate([*names, "peak matmul"], words.rounds)
        peak, flops = rows.pop("peak matmul"), training_flops()
        result["matmul_peak_tflops"] = peak["median"] / 1e12
        for row in rows.values():
            row["share_of_peak"] = row["median"] * flops / peak["median"]
        result["training"] = rows
    if words.only in ("", "decoding"):
        pairs = [
            f"decode {n} {d}" for d in ("float32", "bfloat16") for n in ("ours", "transformers")
        ]
        result["decoding"] = alternate(pairs, words.rounds)
    if words.text and words.only in ("", "budget"):
        result["budget"] = budget(words.text, words.seconds)
    return result


def main() -> None:
    """Measure, show and record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--text", type=Path, help="train on this text for --seconds as well")
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="measure each compiled, too")
    parser.add_argument("--only", default="", choices=["", "training", "decoding", "budget"])
    parser.add_argument(
        "--out", type=Path, help="the result's file; results/DATE-cpu.json otherwise"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.worker:
        work(words.worker)
        return
    result = measure(words)
    print(table(result))
    save(result, "cpu", words.out)


if __name__ == "__main__":
    main()
