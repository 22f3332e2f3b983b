"""The command line: thin, one verb, one call. torch is imported only by the verbs that compute."""

import json
import math
import os
import re
import shlex
import sys
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from . import __version__, api
from .core import Core, load_core
from .course.commands import app as course
from .course.own import core_for, explainer, train_early
from .program import program_name

app = typer.Typer(
    help="Build GPT-2 from an empty file, then reproduce it for the price of a lunch.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(course, name="course")

DEMO = "modern-shakespeare"
# Compiled it would learn faster, but the first thing that somebody sees of this project should
# not be half a minute of waiting; nor does every machine have a compiler.
DEMO_SETTINGS = ["runtime.compile=off", "train.log_every=5", "sample.at=[0,40,120,300]"]

Runs = Annotated[Path, typer.Option("--runs", help="The folder of all runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line.")]
Step = Annotated[int | None, typer.Option(help="A checkpoint's step; the newest otherwise.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key: --set train.steps=20."),
]
Code = Annotated[
    Path | None,
    typer.Option("--code", metavar="DIR", help="Your own package, DIR/gpt, does the work."),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its name.")]


@app.callback(invoke_without_command=True)
def about(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Build GPT-2 from an empty file, then reproduce it for the price of a lunch."""
    if version:
        print(__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def demo(
    seconds: Annotated[float, typer.Option(help="How long to train.")] = 0.0,
    runs: Runs = api.RUNS,
    settings: Settings = None,
) -> None:
    """Train a small GPT on the bundled Shakespeare and let it talk: a minute or two."""
    core = load_core()
    name = free_name(runs, "demo")
    wishes = [*DEMO_SETTINGS, *([f"train.max_seconds={seconds}"] if seconds else [])]
    wishes += settings or []
    print("buildgpt demo: a GPT learns to write like Shakespeare, from nothing.")
    status = run_training(core, DEMO, name, runs, wishes, resume=False, as_json=False)
    close_demo(runs, name)
    raise typer.Exit(status)


def close_demo(runs: Path, name: str) -> None:
    """Where the run lies, and what to try next."""
    from . import watch

    folder, program = runs / name, program_name()
    where = "" if runs == api.RUNS else f" --runs {runs}"
    state = (folder / "state").read_text().strip() if (folder / "state").exists() else ""
    if state == "PREEMPTED":
        print(
            f"\nstopped and saved; go on with: {program} train {DEMO} --name {name}{where} --resume"
        )
    elif state == "DONE":
        progress = watch.Progress(folder / "metrics.jsonl")
        progress.follow()
        summary = progress.summary
        loss = math.nan if summary["val_loss"] is None else summary["val_loss"]
        print(
            f"\nvalidation loss {loss:.4f} after {summary['step']:,} steps and"
            f" {summary['seconds']:.0f} s.\nThe run lies in {folder}. Try next:\n"
        )
        for words, effect in (
            (f'sample {name}{where} "JULIET:"', "let it say more"),
            (f"play {name}{where}", "in the browser"),
            (f"eval {name}{where}", "measure it"),
            ("prepare FILE --out data/mine", "take your own text"),
        ):
            print(f"  {effect + ':':<20} {program} {words}")


def free_name(runs: Path, wish: str) -> str:
    """The wished name, or the first of wish-2, wish-3, ... that no run has."""
    names = [wish, *(f"{wish}-{number}" for number in range(2, 10_000))]
    return next(name for name in names if not (runs / name).exists())


def run_training(
    core: Core,
    recipe: str,
    name: str,
    runs: Path,
    settings: list[str],
    resume: bool,
    as_json: bool,
    ranks: int = 1,
    profile: int = 0,
) -> int:
    """Train in a process of its own, or in several, and show it; returns the exit status."""
    from . import profiling, watch

    path, settings, resolved = api.ready(core, recipe, settings, runs, name, resume, ranks)
    words = [str(path), "--name", name or path.stem, "--runs", str(runs)]
    words += [word for setting in settings for word in ("--set", setting)]
    words += (["--resume"] if resume else []) + (["--json"] if as_json else [])
    title = name or path.stem
    earlier = profile_of(runs / title)
    status = watch.launch(core, words, runs / title, resolved, title, as_json, ranks, profile)
    if status:
        mark_failed(core, runs / title)
    facts = profile_of(runs / title)
    if profile and not as_json and facts and facts != earlier:
        profiling.show(facts, Console())
    return status


def profile_of(folder: Path) -> dict[str, Any]:
    """Where a step's time went in a run, as far as it was measured."""
    path = folder / "profile" / "profile.json"
    return json.loads(path.read_text()) if path.exists() else {}


def mark_failed(core: Core, folder: Path) -> None:
    """Say so of a run that ended too suddenly to do it itself, unless another process has it."""
    if core.runlog.read_state(folder) != "RUNNING":
        return
    with suppress(core.config.UserError), core.runlog.locked(folder, True):
        core.config.write_text(folder / "state", "FAILED\n")


@app.command()
def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A bundled recipe or a TOML file.")
    ],
    name: Annotated[str, typer.Option(help="The run's name; the recipe's otherwise.")] = "",
    runs: Runs = api.RUNS,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option(help="Go on where the run stopped.")] = False,
    gpus: Annotated[
        int, typer.Option("--gpus", "--ranks", min=1, help="Processes, by torchrun: one a GPU.")
    ] = 1,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say where a step's time went, with a trace.")
    ] = False,
    profile_steps: Annotated[
        int,
        typer.Option(min=0, show_default=False, metavar="N", help="The same over N steps, not 3."),
    ] = 0,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Train a recipe into runs/NAME. Ctrl-C saves; --resume goes on.

    With --code DIR your own package trains: what the course ends with, or a changed copy of it. A
    package of lesson 4 or later trains by its own command.
    """
    from .profiling import STEPS

    steps = profile_steps or (STEPS if profile else 0)
    wishes = settings or []
    words = [recipe, *(word for wish in wishes for word in ("--set", wish))]
    words += ["--name", name] * bool(name) + ["--resume"] * resume
    words += ["--runs", str(runs)] * (runs != api.RUNS)
    beside = {"--gpus": gpus > 1, "--profile": steps, "--json": as_json}
    status = train_early(code, words, [word for word, wished in beside.items() if wished])
    if status is not None:
        raise typer.Exit(status)
    with core_for("train", code) as core:
        status = run_training(core, recipe, name, runs, wishes, resume, as_json, gpus, steps)
    raise typer.Exit(status)


@app.command()
def ablate(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A bundled recipe or a TOML file.")
    ],
    switches: Annotated[
        str, typer.Option(metavar="A,B,C", help="Changes to remove and to add; 'all': every one.")
    ] = "",
    vary: Annotated[
        str, typer.Option(metavar="KEY=A,B", help="A key's values: train.lr=1e-3,2e-3.")
    ] = "",
    seeds: Annotated[int, typer.Option(help="How often each is trained.")] = 3,
    budget: Annotated[
        str, typer.Option(help="For each run: 60s, 5min, or tokens, as 2M; the recipe's otherwise.")
    ] = "",
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder of all that; RUNS/RECIPE-... otherwise.")
    ] = None,
    runs: Runs = api.RUNS,
    as_json: Json = False,
) -> None:
    """Say which changes to a recipe pay, and which are noise: train variations with several seeds.

    Interrupted, the same command goes on. Weights are not kept, figures are.
    """
    from . import ablate as ablation

    console = Console()
    live = console.is_terminal and not as_json
    wishes = (switches, vary, seeds, budget, settings or [], out, runs)
    results = ablation.ablate(load_core(), recipe, *wishes, live, console)
    if as_json:
        print(json.dumps(results))
    else:
        ablation.show(results, console)


@app.command()
def sample(
    run: RunName,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to go on from.")] = "",
    max_tokens: Annotated[int, typer.Option(help="How many tokens to add.")] = 200,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Only the K likeliest tokens; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Only the likeliest that make up P.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Same seed, same text.")] = None,
    samples: Annotated[int, typer.Option(help="How many texts.")] = 1,
    step: Step = None,
    runs: Runs = api.RUNS,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Let a run continue a prompt. RUN may also be a Hugging Face folder or hf:owner/name.

    With --code DIR your own package does it, as it is: the one that trained the run.
    """
    seed = int.from_bytes(os.urandom(4)) if seed is None else seed
    wishes = {"max_tokens": max_tokens, "temperature": temperature, "top_k": top_k}
    wishes |= {"top_p": top_p, "seed": seed, "samples": samples}
    with core_for("sample", code) as core:
        core.generate.Sampling(**wishes)  # wrong words are told before a model is loaded
        model = api.load(run, step, runs, core)
        if samples == 1 and not as_json:
            say_as_it_comes(model, prompt, wishes)
            return
        texts = [prompt + more for more in model.continuations(prompt, **wishes)]
    if as_json:
        print(json.dumps({"run": model.source, "step": model.step, "seed": seed, "texts": texts}))
    else:
        print("\n---\n".join(texts))


def say_as_it_comes(model: api.Loaded, prompt: str, wishes: dict[str, Any]) -> None:
    """The prompt and its continuation, piece by piece."""
    model.tokenizer.encode(prompt)  # an unknown character is told before anything is printed
    print(prompt, end="", flush=True)
    for piece in model.stream(prompt, **wishes):
        print(piece, end="", flush=True)
    print()


@app.command()
def play(
    run: RunName,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="0.0.0.0: for others, too; no password.")] = "127.0.0.1",
    show: Annotated[bool, typer.Option("--open", help="Open a browser there.")] = False,
    step: Step = None,
    runs: Runs = api.RUNS,
    code: Code = None,
) -> None:
    """Play with a run in the browser: write, let it go on, see what may come next and how likely.

    RUN may also be a Hugging Face folder or hf:owner/name. The page's questions may be asked by
    programs, too: POST /api/continue and /api/next.
    """
    from .playground.player import Player
    from .playground.server import listen, serve

    with core_for("play", code) as core, listen(core, host, port) as playground:
        loaded = api.load(run, step, runs, core)
        serve(playground, Player(loaded, explainer("play", code)), show)


@app.command("eval")
def evaluate(
    run: RunName,
    data: Annotated[str, typer.Option(help="A folder of shards; the run's own otherwise.")] = "",
    hellaswag: Annotated[bool, typer.Option("--hellaswag", help="HellaSwag instead.")] = False,
    limit: Annotated[int, typer.Option(help="HellaSwag's first items only; 0: all.")] = 0,
    file: Annotated[str, typer.Option(help="HellaSwag's items; downloaded otherwise.")] = "",
    step: Step = None,
    runs: Runs = api.RUNS,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Measure a run's loss on the validation split, or HellaSwag.

    RUN may also be a Hugging Face folder or hf:owner/name.
    """
    with core_for("eval", code) as core:
        if hellaswag and data:
            raise core.config.UsageError("--data is for the loss; HellaSwag's items come by --file")
        if not hellaswag and (limit or file):
            raise core.config.UsageError("--limit and --file are HellaSwag's; add --hellaswag")
        model = api.load(run, step, runs, core)
        if hellaswag:
            measure_hellaswag(model, file, limit, as_json)
        else:
            measure_loss(model, data, as_json)


def measure_loss(model: api.Loaded, data: str, as_json: bool) -> None:
    """Measure and show."""
    result = model.evaluate(data)
    known = model.core.runlog.known
    if as_json:
        figures = {"val_loss": known(result.loss), "bits_per_byte": known(result.bits_per_byte)}
        print(
            json.dumps(
                {"run": model.source, "step": model.step, **figures, "tokens": result.tokens}
            )
        )
    else:
        print(
            f"validation loss {result.loss:.4f} nats a token, {result.bits_per_byte:.4f} bits a"
            f" byte, over {result.tokens:,} tokens ({model.source}, step {model.step:,})"
        )


def measure_hellaswag(model: api.Loaded, file: str, limit: int, as_json: bool) -> None:
    """Measure and show, with a bar on a terminal meanwhile."""
    from .reproduce import hellaswag

    facts = hellaswag.measure(model, file, limit)
    print(json.dumps(facts) if as_json else hellaswag.describe(facts))


@app.command()
def prepare(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="fineweb-edu, fineweb, shakespeare, hellaswag; or files and folders.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="The new folder; data/NAME otherwise.")] = None,
    tokens: Annotated[str, typer.Option(help="Of a public corpus: 10B (default), 350M.")] = "",
    sample: Annotated[bool, typer.Option("--sample", help="Only 100M tokens, for a try.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Take its text and encode it here.")] = False,
    tokenizer: Annotated[
        str | None, typer.Option(help="Of your files: char (default), byte, bpe or gpt2.")
    ] = None,
    val_fraction: Annotated[float, typer.Option(help="The share held out.")] = 0.1,
    vocab_size: Annotated[int, typer.Option(help="For bpe: how many ids.")] = 1024,
    column: Annotated[str, typer.Option(help="The text in .jsonl and .parquet.")] = "text",
    verify: Annotated[
        bool, typer.Option("--verify", help="Only check the shards of the folder FILE.")
    ] = False,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Turn a public corpus or your own text into shards of tokens.

    Your own text may be .txt, .md, .jsonl (also .gz, .zst), .parquet and folders of them. A public
    corpus that was interrupted goes on when the same command is run again.
    """
    with core_for("prepare", code) as core:
        name = str(sources[0])
        public = len(sources) == 1 and name in PUBLIC and not sources[0].exists()
        check_prepare_words(core, name, public, tokens, sample, raw, tokenizer)
        if verify:
            show_verified(core, sources, as_json)
        elif public and name == "hellaswag":
            from .datasets.download import provide_hellaswag

            path = provide_hellaswag(core)
            print(json.dumps({"file": str(path)}) if as_json else f"{path}: HellaSwag's items")
        elif public:
            result = api.prepare_corpus(name, out or "", tokens, sample, raw, core)
            show_prepared(result, "gpt2", "gpt2-124m", as_json)
        else:
            kind, out = tokenizer or "char", out or Path("data") / sources[0].name.partition(".")[0]
            result = api.prepare([*sources], out, kind, val_fraction, vocab_size, column, core)
            show_prepared(result, kind, "shakespeare", as_json)


PUBLIC = ("fineweb-edu", "fineweb", "hellaswag")


def check_prepare_words(
    core: Core, name: str, public: bool, tokens: str, sample: bool, raw: bool, tokenizer: str | None
) -> None:
    """Raise UsageError for options that do not go with what is prepared."""
    corpus = public and name != "hellaswag"
    core.config.require(
        corpus or not (tokens or sample or raw),
        f"--tokens, --sample and --raw go with fineweb-edu and fineweb, not with {name}",
    )
    core.config.require(
        not corpus or tokenizer in (None, "gpt2"),
        f"{name} comes in GPT-2's tokens; leave --tokenizer out",
    )
    core.config.require(not (tokens and sample), "give either --tokens or --sample")


def show_prepared(result: dict[str, object], kind: str, recipe: str, as_json: bool) -> None:
    """What a prepared folder holds, and how to train on it."""
    if as_json:
        print(json.dumps(result))
        return
    out = Path(str(result["out"]))
    print(
        f"{out}: {result['train_tokens']:,} tokens to train on, {result['val_tokens']:,} held out,"
        f" {result['vocab_size']:,} ids ({kind})"
    )
    own = recipe == "gpt2-124m" and out == Path("data/fineweb-edu")  # what the recipe reads
    where = [] if own else ["--name", plain_name(out.name), "--set", f"data.path={out}"]
    print(f"train on it: {program_name()} {shlex.join(['train', recipe, *where])}")


def plain_name(name: str) -> str:
    """A name that a run may have, like this one."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._") or "mine"


def show_verified(core: Core, folders: list[Path], as_json: bool) -> None:
    """Check each folder of shards."""
    from .datasets.verify import verify

    for folder in folders:
        found = verify(core, folder)
        print(
            json.dumps(found)
            if as_json
            else f"{folder}: {found['shards']} shards, {found['tokens']:,} tokens, all as the"
            " manifest says"
        )


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A Hugging Face GPT-2 folder, or hf:owner/name.")
    ],
    run: Annotated[str, typer.Argument(metavar="RUN", help="The new run's name.")],
    runs: Runs = api.RUNS,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Make a run of a Hugging Face GPT-2's weights."""
    with core_for("import", code) as core:
        folder = api.import_run(source, run, runs, core)
    print(json.dumps({"run": str(folder)}) if as_json else f"{folder}: weights of {source}")


@app.command("export")
def export(
    run: RunName,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new folder.")],
    step: Step = None,
    runs: Runs = api.RUNS,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Write a run as a Hugging Face folder that `transformers` opens.

    A modern model has no place there: it goes into a folder of our own format.
    """
    with core_for("export", code) as core:
        api.export_run(run, folder, step, runs, core)
    print(json.dumps({"folder": str(folder)}) if as_json else f"{folder}: written")


@app.command()
def plan(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A bundled recipe or a TOML file.")
    ],
    gpu: Annotated[str, typer.Option(help="One kind, such as h100; all otherwise.")] = "",
    gpus: Annotated[int, typer.Option(help="How many of them.")] = 1,
    settings: Settings = None,
    prices: Annotated[
        Path | None, typer.Option(help="A TOML file with your own prices and GPUs.")
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Train 20 steps here, too.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a recipe needs: memory, micro-batch, time, bill, disk. No GPU is needed."""
    from .reproduce import plan as planning

    result = planning.plan(
        load_core(), recipe, settings or [], gpu, gpus, prices, measure, program_name()
    )
    if as_json:
        print(json.dumps(result))
    else:
        planning.show(result, Console(width=80 if not sys.stdout.isatty() else None))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can do, and what will not work and why. Takes some seconds."""
    from .reproduce import doctor as examination

    report = examination.examine(load_core())
    if as_json:
        print(json.dumps(report))
    else:
        examination.show(report, Console())


@app.command()
def report(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs' folders, or names.")],
    out: Annotated[Path | None, typer.Option(help="The page; RUN/report.html otherwise.")] = None,
    against: Annotated[str, typer.Option(metavar="RUN", help="A run to compare with.")] = "",
    tensorboard: Annotated[Path | None, typer.Option(help="Write events for it here.")] = None,
    wandb: Annotated[str, typer.Option(metavar="PROJECT", help="Log to Weights & Biases.")] = "",
    runs: Runs = api.RUNS,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Say whether runs are on the curve, what went wrong and what they cost; write a page."""
    from .reproduce.report import Report, write_tensorboard, write_wandb

    with core_for("report", code) as core:
        found = Report(core, names, runs, against)
        console = Console(width=min(Console().width, 80))
        if not as_json:
            found.show(console)
        for run in found.runs:
            if tensorboard:
                place = write_tensorboard(core, run, tensorboard)
                print(f"events for TensorBoard: {place}", file=sys.stderr)
            if wandb:
                write_wandb(core, run, wandb)
        if out or not as_json:
            page = out or found.default_file()
            found.write(page)
            print(f"\nthe whole report: {page}", file=sys.stderr if as_json else sys.stdout)
        if as_json:
            print(json.dumps(found.to_dict()))


def main() -> None:
    """Run a verb; a user's mistake gets one sentence on stderr and the exit status of its kind."""
    core = load_core()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # an old console's encoding may lack characters
            stream.reconfigure(errors="replace")
    try:
        status = app(standalone_mode=False)
    except core.config.UserError as error:
        status = complain(str(error), error.exit_status)
    except OSError as error:
        status = complain(str(error), 1)
    except MemoryError:
        status = complain("not enough memory for this", 1)
    except (KeyboardInterrupt, typer.Abort):
        status = complain("stopped", 1)
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's own words for wrong words
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # a group of verbs, and no verb
            print(error.format_message())
            status = 0
        else:
            words = [program_name(), *verbs_of(getattr(error, "ctx", None)), "--help"]
            status = complain(f"{error.format_message().rstrip('.')}; see: {' '.join(words)}", 2)
    sys.exit(status or 0)


def verbs_of(context: Any) -> list[str]:
    """The verb, after its group if it is in one, that a parser's context belongs to."""
    if context is None or context.parent is None:
        return []
    return [*verbs_of(context.parent), context.info_name]


def complain(sentence: str, status: int) -> int:
    """Say one sentence on stderr; returns the exit status."""
    print(f"error: {sentence}", file=sys.stderr)
    return status
