"""Walk the whole path of a reproduction on two CPU cores, small: python tools/rehearsal.py

Each command is printed before it runs, and what it proved afterwards; the end is a table of both.
Nothing is downloaded. It works in tmp/rehearsal, which it empties first; `buildgpt` is this
checkout's. Exit status 1 and one sentence where something is not as it should be.
"""

import json
import lzma
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "tmp" / "rehearsal"
SHARED = Path(os.environ.get("BUILDGPT_SHARED_DATA", ROOT.parent / "shared" / "data"))
RANKS = 4
RUNS = ("undisturbed", "killed")
TRAIN = ["rehearsal", "--ranks", f"{RANKS}"]
KILLED = [*TRAIN, "--name", "killed", "--set", "train.mirror=mirror"]
KILL_AFTER = 40  # steps; a checkpoint is made there, and the kill comes some steps later
ITEMS = 20
PATIENCE = 600  # seconds, after which a command is taken for hanging

# Where the real items are not at hand. The first ending is each time the right one.
HANDMADE = [
    ("A man pours water into a kettle. He", ["puts it on the stove.", "eats the stove."]),
    ("A girl throws a ball to her dog. The dog", ["runs after it.", "reads a newspaper."]),
    ("Two men carry a sofa up the stairs. They", ["set it down.", "swim across the lake."]),
    ("A woman ties her shoes. She", ["starts to run.", "melts into butter."]),
    ("The boy cuts an apple in half. He", ["eats one half.", "drives it to the moon."]),
]


class WentWrong(Exception):
    """A step's result is not what it should be: one sentence."""


def need(condition: object, sentence: str) -> None:
    """Raise WentWrong(sentence) unless the condition holds."""
    if not condition:
        raise WentWrong(sentence)


# Commands.


def environment() -> dict[str, str]:
    """This checkout's code for every command, one thread a process, no network."""
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    # run.sh starts what LAUNCH says, and the `python` that it finds is to be this one.
    own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | own | {"LAUNCH": "python -m buildgpt train", "RESTART_PAUSE": "0"}


def begin(command: list[str], log: Path) -> subprocess.Popen:
    """Print a command and start it in the rehearsal's folder; all it says goes into a file."""
    print(f"\n$ {shlex.join(command)}", flush=True)
    real = {"buildgpt": [sys.executable, "-m", "buildgpt"], "cloud/run.sh": [ROOT / "cloud/run.sh"]}
    with log.open("w") as file:
        return subprocess.Popen(
            [*real[command[0]], *command[1:]],
            cwd=PLACE,
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def end(process: subprocess.Popen, log: Path) -> str:
    """Wait for a command's end; returns what it said. WentWrong where it hangs."""
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.terminate()
        raise WentWrong(f"no end after {PATIENCE} s, see {log}") from None
    return log.read_text(errors="replace")


def call(*command: str) -> str:
    """Run a command that must succeed; returns what it said."""
    log = PLACE / f"{len(list(PLACE.glob('*.log'))) + 1:02d}-{command[1]}.log"
    process = begin([*command], log)
    said = end(process, log)
    last = (said.strip().splitlines() or ["nothing"])[-1]
    need(process.returncode == 0, f"exit status {process.returncode}, see {log}: {last}")
    return said


def call_json(*command: str) -> dict:
    """Run a command with --json; returns the object in its last line."""
    return json.loads(call(*command, "--json").strip().splitlines()[-1])


def descendants(process: int) -> dict[int, str]:
    """The processes that come from one, with their command lines."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True)
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    family, found = {process}, {}
    for pid, parent, args in (row for row in sorted(rows, key=lambda r: int(r[0])) if len(row) > 2):
        if int(parent) in family:
            family.add(int(pid))
            found[int(pid)] = args
    return found


def rank_of(process: int) -> int | None:
    """The rank that a worker was given; None where the system does not tell."""
    try:
        variables = Path(f"/proc/{process}/environ").read_text().split("\0")
        return next(int(v[5:]) for v in variables if v.startswith("RANK="))
    except (OSError, StopIteration):
        return None


# The steps: each returns what it has proved.


def doctor() -> str:
    """Is this machine fit?"""
    report = call_json("buildgpt", "doctor")
    need(report, "the report is empty")
    return "this machine was examined"


def prepare() -> str:
    """Text into shards."""
    words = ["shakespeare", "--tokenizer", "gpt2", "--out", "data/rehearsal"]
    result = call_json("buildgpt", "prepare", *words)
    shards = sorted((PLACE / "data/rehearsal").glob("*.bin"))
    size = sum((path.stat().st_size - 1024) // 2 for path in shards)
    need(size == result["train_tokens"] + result["val_tokens"], "the shards hold another number")
    return f"{size:,} tokens of GPT-2's tokenizer in {len(shards)} shards"


def plan() -> str:
    """What an H100 would take, and, by twenty real steps, this machine."""
    result = call_json("buildgpt", "plan", "rehearsal", "--gpu", "h100", "--measure")
    for key in ("hours", "dollars", "memory_gb", "micro_batch"):
        need(key in result, f"the plan lacks {key}")
    hours = [result["measured"][key] for key in ("hours_low", "hours", "hours_high")]
    need(0 < hours[0] <= hours[1] <= hours[2], f"odd hours: {hours}")
    low, middle, high = (3600 * value for value in hours)
    return f"{middle:.0f} s foreseen on one process, {low:.0f} to {high:.0f}"


def train() -> str:
    """Four ranks, undisturbed."""
    summary = call_json("buildgpt", "train", *TRAIN, "--name", "undisturbed")
    run = PLACE / "runs" / "undisturbed"
    need((run / "state").read_text() == "DONE\n", "the state is not DONE")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    start = next(line for line in lines if line.get("event") == "start")
    need(start["ranks"] == RANKS, f"it ran on {start['ranks']} ranks")
    first = next(line["loss"] for line in lines if line["kind"] == "train")
    return (
        f"{summary['step']} steps on {RANKS} ranks: loss {first:.2f} to {summary['val_loss']:.4f}"
    )


def kill() -> str:
    """The same once more; one rank gets SIGKILL in the middle."""
    log = PLACE / "killed.log"
    process = begin(["buildgpt", "train", *KILLED], log)
    wanted = PLACE / f"mirror/killed/checkpoints/step_{KILL_AFTER:06d}/complete.json"
    deadline = time.monotonic() + PATIENCE
    while not wanted.exists():
        need(process.poll() is None and time.monotonic() < deadline, f"no checkpoint, see {log}")
        time.sleep(0.1)
    time.sleep(0.5)  # some steps beyond it
    family = descendants(process.pid)
    parents = ("torchrun", "torch.distributed.run")
    workers = [
        p for p, a in family.items() if ".gpt.train" in a and not any(name in a for name in parents)
    ]
    need(len(workers) == RANKS, f"{len(workers)} workers found instead of {RANKS}")
    victim = next((p for p in workers if rank_of(p) == RANKS - 1), workers[-1])
    rank = rank_of(victim)
    print(f"$ kill -9 {victim}  # rank {'unknown' if rank is None else rank}", flush=True)
    os.kill(victim, signal.SIGKILL)
    said = end(process, log)
    need(process.returncode, "the job ended with 0 although a rank was killed")
    need((PLACE / "runs/killed/state").read_text() == "FAILED\n", "the state is not FAILED")
    told = re.search(r"rank (\d+) .*step \d+", said)
    right = told and (rank is None or int(told[1]) == rank)
    need(right, f"the lost rank and its last step are not named, see {log}")
    alive = descendants(os.getpid())
    need(not alive.keys() & set(workers), "some workers live on")
    return f"the job ended: {told[0]}"


def resume() -> str:
    """On a fresh machine: the run folder is gone, the mirror is there."""
    shutil.move(PLACE / "runs/killed", PLACE / "lost")
    print("\n$ mv runs/killed lost  # as if on another machine")
    call("cloud/run.sh", *KILLED)
    run = PLACE / "runs/killed"
    need((run / "state").read_text() == "DONE\n", "the state is not DONE")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if line.get("event") == "resume"]
    need(steps and steps[-1] >= KILL_AFTER, f"it resumed at steps {steps}")
    return f"run.sh went on from step {steps[-1]}, out of the mirror, until DONE"


def compare() -> str:
    """Killed and resumed, it ends in the same bits."""
    import torch
    from safetensors.torch import load_file

    count = 0
    for name in ("model.safetensors", "optimizer.safetensors"):
        paths = [sorted((PLACE / "runs" / run).glob(f"checkpoints/*/{name}")) for run in RUNS]
        whole, resumed = (load_file(path[-1]) for path in paths)
        need(whole.keys() == resumed.keys(), f"{name} holds other tensors")
        for key in whole:
            need(torch.equal(whole[key], resumed[key]), f"{key} in {name} differs")
            count += whole[key].numel()
    return f"{count:,} numbers of weights and optimizer: equal in every bit"


def evaluate() -> str:
    """The validation loss, again, from the files."""
    found = call_json("buildgpt", "eval", "undisturbed")["val_loss"]
    lines = (PLACE / "runs/undisturbed/metrics.jsonl").read_text().splitlines()
    told = next(s for s in (json.loads(x).get("summary") for x in reversed(lines)) if s)["val_loss"]
    need(abs(found - told) < 1e-5, f"{found} is not the {told} of the training's end")
    return f"validation loss {found:.4f}, as on {RANKS} ranks at the end of training"


def hellaswag() -> str:
    """The benchmark's code, on a few items."""
    items = hellaswag_items()
    (PLACE / "hellaswag.jsonl").write_text("".join(f"{item}\n" for item in items))
    words = ["--hellaswag", "--limit", f"{ITEMS}", "--file", "hellaswag.jsonl"]
    result = call_json("buildgpt", "eval", "undisturbed", *words)
    need(result["items"] == len(items), f"{result['items']} items scored of {len(items)}")
    need(0 <= result["acc_norm"] <= 1, "acc_norm is no share")
    return f"{len(items)} items scored: acc_norm {result['acc_norm']:.2f} (chance 0.25)"


def hellaswag_items() -> list[str]:
    """Real items where there are some, else handmade ones; one JSON object each."""
    real = SHARED / "hellaswag_val.jsonl.xz"
    if real.exists():
        with lzma.open(real, "rt", encoding="utf-8") as lines:
            return [line.strip() for line, _ in zip(lines, range(ITEMS))]
    return [
        json.dumps({"ind": n, "ctx": text, "endings": [*ends, "sleeps.", "sings."], "label": 0})
        for n, (text, ends) in enumerate(HANDMADE)
    ]


def report() -> str:
    """One page about both runs."""
    call("buildgpt", "report", *RUNS, "--out", "report.html")
    page = (PLACE / "report.html").read_text(encoding="utf-8")
    need(all(name in page for name in RUNS), "the page does not name both runs")
    loaded = re.search(r"""<(?:script|img|link)[^>]+(?:src|href)=["']?https?:""", page)
    need(loaded is None, "the page loads something from elsewhere")
    return f"report.html, {len(page) / 1000:.0f} kB, self-contained"


def export() -> str:
    """A Hugging Face folder, opened by transformers: the same logits."""
    call("buildgpt", "export", "undisturbed", "exported")
    import torch
    import transformers

    import buildgpt

    print("$ python  # transformers and buildgpt on the same ids")
    transformers.logging.disable_progress_bar()
    theirs = transformers.GPT2LMHeadModel.from_pretrained(PLACE / "exported").eval()
    ours = buildgpt.load(PLACE / "runs/undisturbed").model
    ids = torch.randint(50257, (2, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = (theirs(ids).logits - ours(ids)[..., :50257]).abs().max().item()
    need(difference < 1e-4, f"logits differ by {difference:.1e}")
    return f"transformers opens it; logits differ by {difference:.0e} at most"


STEPS: list[tuple[str, Callable[[], str]]] = [
    ("doctor", doctor),
    ("prepare", prepare),
    ("plan --measure", plan),
    ("train, 4 ranks", train),
    ("kill a rank", kill),
    ("resume elsewhere", resume),
    ("same bits", compare),
    ("eval", evaluate),
    ("eval --hellaswag", hellaswag),
    ("report", report),
    ("export", export),
]


def main() -> int:
    """All steps in turn; returns the exit status."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    sys.path.insert(0, str(ROOT / "src"))
    os.environ["HF_HUB_OFFLINE"] = "1"
    rows, began = [], time.monotonic()
    print(f"a rehearsal of the whole path, in {PLACE}")
    for name, step in STEPS:
        start = time.monotonic()
        try:
            proof = step()
        except WentWrong as wrong:
            print(f"\nrehearsal: {name} went wrong: {wrong}", file=sys.stderr)
            return 1
        rows.append((name, time.monotonic() - start, proof))
        print(f"  {proof}", flush=True)
    rows.append(("all", time.monotonic() - began, "the whole path works on this machine"))
    print(f"\n{'what':<18} {'seconds':>7}  proof")
    for name, seconds, proof in rows:
        print(f"{name:<18} {seconds:>7.0f}  {proof}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
