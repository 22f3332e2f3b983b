"""A run's metrics for TensorBoard and Weights & Biases, where these are installed."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from buildgpt.core import Core

from .history import Run

SUFFIX = ".buildgpt"  # at the end of our event files' names: no others are ever removed
FIGURES = {
    "train": ("loss", "lr", "grad_norm", "tokens_per_second", "step_seconds"),
    "val": ("loss", "bits_per_byte"),
    "hellaswag": ("acc", "acc_norm"),
}


def scalars(run: Run) -> Iterator[tuple[int, float, dict[str, float]]]:
    """(step, seconds, {"train/loss": 3.3, ...}) of every step with figures, in order."""
    rows = run.history.rows
    for step in sorted({step for kind in FIGURES for step in rows[kind]}):
        here = {kind: rows[kind][step] for kind in FIGURES if step in rows[kind]}
        values = {
            f"{kind}/{key}": row[key]
            for kind, row in here.items()
            for key in FIGURES[kind]
            if row.get(key) is not None
        }
        yield step, max(row["seconds"] for row in here.values()), values


def write_tensorboard(core: Core, run: Run, folder: Path) -> Path:
    """Write the run's figures and samples into folder/NAME, in place of those written before."""
    try:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError:
        raise missing(core, "--tensorboard", "tensorboard") from None
    place = folder / run.name
    place.mkdir(parents=True, exist_ok=True)
    earlier = list(place.glob(f"events.out.tfevents.*{SUFFIX}"))
    writer = EventFileWriter(str(place), filename_suffix=SUFFIX)
    began = run.folder.joinpath("metrics.jsonl").stat().st_mtime if run.history.attempts else 0.0
    began -= max(run.history.clock.values(), default=0.0)
    for step, seconds, values in scalars(run):
        entries = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        writer.add_event(event(step, began + seconds, Summary(value=entries)))
    for row in run.history.series("sample", "text"):
        writer.add_event(event(row["step"], began + row["seconds"], text(row["text"])))
    writer.close()
    for path in earlier:
        path.unlink()
    return place


def event(step: int, when: float, summary: Any) -> Any:
    """One entry of an event file."""
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=when, step=step, summary=summary)


def text(sample: str) -> Any:
    """A sample, as TensorBoard's text page wants it: Markdown, here as it is."""
    from tensorboard.plugins.text.summary_v2 import text_pb

    quoted = "\n".join(f"    {line}" for line in sample.splitlines())
    return text_pb("sample", quoted)


def write_wandb(core: Core, run: Run, project: str) -> str:
    """Log the run's figures to a project of Weights & Biases; returns the run's id there.

    The id follows from the run, so that a second call goes on where the first one ended: W&B
    itself leaves out steps that it has.
    """
    try:
        import wandb
    except ImportError:
        raise missing(core, "--wandb", "wandb") from None
    told = f"{run.name} {run.environment.get('seconds')} {core.config.to_toml(run.recipe)}"
    key = hashlib.sha256(told.encode()).hexdigest()[:12]
    config = {name: vars(section) for name, section in vars(run.recipe).items()}
    log = wandb.init(project=project, name=run.name, id=key, resume="allow", config=config)
    for step, _, values in scalars(run):
        log.log(values, step=step)
    log.finish()
    return key


def missing(core: Core, option: str, extra: str) -> Exception:
    """What to say where a package is not installed."""
    return core.config.UserError(f"{option} wants {extra}: pip install 'buildgpt[{extra}]'")
