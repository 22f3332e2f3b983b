"""The loop, as named verbs. It writes the whole run folder; whoever watches reads metrics.jsonl.

    python -m gpt.train recipe.toml --set train.steps=20 --name NAME --runs FOLDER --resume

alone or under torchrun. Step N means N updates done.
"""

import argparse
import dataclasses
import json
import math
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import PROCESS_START, checkpoint, hub
from .config import (
    Recipe,
    UsageError,
    UserError,
    check_run_name,
    divisors_around,
    load_recipe,
    nearest_divisor,
    require,
    to_toml,
    tokens_before,
    tokens_of,
    write_text,
)
from .data import Batches, Corpus
from .evaluate import Evaluation, evaluate
from .generate import Sampling, continue_text
from .hellaswag import hellaswag, read_hellaswag
from .model import GPT
from .modern import build, build_like, set_window, switches_of
from .optim import (
    build_optimizer,
    clip_gradients,
    learning_rate,
    load_optimizer_tensors,
    momentum,
    optimizer_tensors,
    set_rates,
)
from .runlog import Clock, Log, finished_summary, lock, locked, read_metrics, read_state
from .runtime import Replica, Runtime, choose_threads, is_lost_rank, start_runtime, whole
from .tokenizer import Tokenizer, load_tokenizer

OUT_OF_MEMORY = "not enough memory; lower train.micro_batch, model.width or model.context"
SAME_STOP_SECONDS = 2.0  # within which a second signal says what the first one said
MOST_SKIPPED = 10  # updates without finite gradients, one after another: no more will help
# A resumed run must stay the same run, so these may not change.
FIXED_KEYS = (
    *("model.", "modern.", "data.tokenizer", "data.align", "train.seed", "train.tokens_per_step"),
    *("train.double_at", "train.optimizer", "train.normuon", "train.init_from"),
)


def known(value: float) -> float | None:
    """A number as JSON knows it: None for a nan or an infinity."""
    return value if math.isfinite(value) else None


class Trainer:
    """One run: what it consists of, and the verbs of its loop."""

    def __init__(
        self, folder: Path, recipe: Recipe, runtime: Runtime, started: float, initial: str
    ) -> None:
        self.folder, self.runtime = folder, runtime
        self.corpus = Corpus(recipe.data)
        self.tokenizer = self.corpus.tokenizer
        torch.manual_seed(recipe.train.seed)
        self.model, self.recipe = build_model(recipe, self.tokenizer, initial, folder.parent)
        self.model.to(runtime.device)
        # It shares the plain module's parameters; only the update goes through it.
        self.replica = Replica(self.model, runtime)
        self.optimizer = build_optimizer(self.model, self.recipe.train, runtime.dtype)
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.needs_scaler)
        context, seed = self.recipe.model.context, self.recipe.train.seed
        opening = self.tokenizer.end_of_text if recipe.data.align == "documents" else None
        self.batches = Batches(self.corpus.train, context, seed, opening)
        self.micro_batch = divide(self.recipe, runtime.world_size)
        self.step, self.end = 0, float(self.recipe.train.steps)  # updates done, and in all
        self.saved = self.reported = -1  # the step of the newest checkpoint, of the last report
        self.skipped = 0  # updates left out, one after another
        self.clock = Clock(started, 0.0, 0)
        self.mirror: checkpoint.Mirror | None = None
        if recipe.train.mirror and runtime.is_main:
            place, keep = Path(recipe.train.mirror) / folder.name, recipe.train.keep_checkpoints
            self.mirror = checkpoint.Mirror(folder, place, keep)
        self.interrupted = ""  # the name of the signal that asked this rank to stop
        # What the ranks agreed on: to stop, as some rank was asked to; to save before the step
        # that is one for it.
        self.stopping = self.overdue = False
        self.saved_at = time.monotonic()
        self.loss = self.norm = self.rate = math.nan
        self.validation: Evaluation | None = None

    # The loop.

    def run(self) -> dict[str, Any]:
        """Train to the end or to an interruption; returns the summary."""
        self.log = Log(self.folder, self.runtime.is_main)
        self.introduce()
        if self.recipe.train.hellaswag_every:
            read_hellaswag(Path(self.recipe.data.hellaswag), limit=1)  # it is missed now or never
        self.replica.settle(self.micro_batch)
        self.look_around()
        while not self.is_done():
            self.update()
            if is_due(self.step, self.recipe.train.log_every):
                self.report()
            if self.stopping:
                return self.break_off()
            if not self.is_done():
                self.look_around()
                self.save_if_due()
        return self.finish()

    def is_done(self) -> bool:
        """Whether all steps are done, or the time that is left is less than a step takes."""
        if self.recipe.train.max_seconds:
            self.end = self.runtime.agree(self.possible_steps())
        return self.end < self.step + 1

    def possible_steps(self) -> float:
        """The recipe's steps, or as many as its time allows at the pace so far, by this clock."""
        steps, pace = self.recipe.train.steps, self.clock.pace(self.step)
        left = self.recipe.train.max_seconds - self.clock.seconds()
        if not pace:
            return steps if left > 0 else self.step
        return min(steps, self.step + max(left, 0.0) / pace)

    def update(self) -> None:
        """One step: the gradients of all its tokens, clipped, then AdamW."""
        began = time.monotonic()
        self.rate = learning_rate(self.step, self.end, self.recipe.train)
        set_window(self.model, self.step / max(self.end, 1))
        set_rates(self.optimizer, self.rate, momentum(self.step, self.end))
        loss = self.accumulate()
        # Before anything waits for the GPU: this is where a rank that is lost is noticed.
        wishes = torch.tensor([bool(self.interrupted), self.is_overdue()]).double()
        self.stopping, self.overdue = (self.runtime.sum(wishes) > 0).tolist()
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.model, self.recipe.train.grad_clip)
        self.loss = float(self.runtime.sum(loss)) / self.runtime.world_size
        self.norm = float(whole(norm))
        if self.is_usable():
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.validation = None  # what was measured before this update is no longer true
        self.clock.count(self.step, began)

    def accumulate(self) -> Tensor:
        """Add up the gradients of this rank's share of the step, one micro-batch after another.

        Each micro-batch's loss is a mean over its own tokens, so dividing by their number makes
        the sum the mean over all. Which sequences a micro-batch holds follows from the step.
        """
        train, context = self.recipe.train, self.recipe.model.context
        sequences = tokens_of(self.step, train) // context
        rounds = sequences // (self.micro_batch * self.runtime.world_size)
        total = torch.zeros((), device=self.runtime.device)
        self.reseed()
        self.runtime.sign()
        for round_ in range(rounds):
            share = round_ * self.runtime.world_size + self.runtime.rank
            first = self.tokens() // context + share * self.micro_batch
            ids, targets = self.runtime.send(*self.batches(first, self.micro_batch))
            with self.runtime.autocast():
                loss = self.replica(ids, targets, last=round_ == rounds - 1) / rounds
            self.scaler.scale(loss).backward()
            total += loss.detach()
        return total

    def reseed(self) -> None:
        """What dropout draws follows from seed, step and rank: there is no state to be saved."""
        place = (self.recipe.train.seed, self.step, self.runtime.rank)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def is_usable(self) -> bool:
        """Whether loss and gradients are finite; if not, skip this update or stop the run."""
        if math.isfinite(self.loss) and math.isfinite(self.norm):
            self.skipped = 0
            return True
        if math.isfinite(self.loss) and self.runtime.needs_scaler and self.scaler.get_scale() >= 1:
            self.event("skip", f"step {self.step + 1} overflows fp16: a lower loss scale is tried")
            return True  # the scaler leaves the update out itself
        what = f"step {self.step + 1} has a loss of {self.loss} and a gradient norm of {self.norm}"
        self.skipped += 1
        if self.recipe.train.on_nonfinite == "skip" and self.skipped <= MOST_SKIPPED:
            self.event("skip", f"{what}: its update is left out")
            return False
        good = checkpoint.find_checkpoints(self.folder)
        last = f"the last good checkpoint is {good[-1]}" if good else "there is no checkpoint yet"
        raise UserError(f"{what}; {last}; try a lower train.lr, or train.on_nonfinite=skip")

    # What happens beside the updates.

    def look_around(self) -> None:
        """Evaluate and sample, where this step is one for it."""
        train, sample = self.recipe.train, self.recipe.sample
        if self.step > self.clock.first and is_due(self.step, train.eval_every):
            self.validate()
        if self.step > self.clock.first and is_due(self.step, train.hellaswag_every):
            self.score_hellaswag()
        if self.step in sample.at or (self.step and is_due(self.step, sample.every)):
            self.show_sample()

    def validate(self) -> None:
        """Measure the validation loss of the current weights."""
        model = self.runtime.whole_model(self.model)
        self.validation = evaluate(model, self.corpus, self.runtime)
        loss, bits = self.validation.loss, self.validation.bits_per_byte
        words = f"step {self.step:6,}  validation loss {loss:.4f}, {bits:.3f} bits a byte"
        figures = {"loss": known(loss), "bits_per_byte": known(bits)}
        self.record("val", words, **figures, scored=self.validation.tokens)

    def score_hellaswag(self) -> None:
        """Measure the current weights on HellaSwag."""
        items = read_hellaswag(Path(self.recipe.data.hellaswag))
        model = self.runtime.whole_model(self.model)
        found = hellaswag(model, self.tokenizer, items, self.runtime)
        words = (
            f"step {self.step:6,}  HellaSwag {found.acc_norm:.2%} (acc_norm; acc {found.acc:.2%})"
        )
        figures = {"acc": known(found.acc), "acc_norm": known(found.acc_norm)}
        self.record("hellaswag", words, **figures, items=found.items)

    def show_sample(self) -> None:
        """Continue the recipe's prompt, into samples.txt too."""
        model = self.runtime.whole_model(self.model)
        if not self.runtime.is_main:
            return
        wish = self.recipe.sample
        sampling = Sampling(
            wish.max_tokens, wish.temperature, wish.top_k, seed=self.recipe.train.seed
        )
        model.eval()
        prompt = self.prompt()
        text = prompt + continue_text(model, self.tokenizer, prompt, sampling)[0]
        model.train()
        with (self.folder / "samples.txt").open("a", encoding="utf-8", newline="\n") as file:
            file.write(f"=== step {self.step} ===\n{text}\n\n")
        quoted = "\n".join(f"    | {line}" for line in text.splitlines())
        self.record("sample", f"step {self.step:6,}  a sample\n{quoted}", text=text)

    def prompt(self) -> str:
        """The recipe's prompt; none where the tokenizer lacks one of its characters."""
        try:
            self.tokenizer.encode(self.recipe.sample.prompt)
        except UserError:
            return ""
        return self.recipe.sample.prompt

    def save_if_due(self) -> None:
        """Save a checkpoint, where this step is one for it."""
        if self.overdue or is_due(self.step, self.recipe.train.checkpoint_every):
            self.save()

    def is_overdue(self) -> bool:
        """Whether more work would be lost in a crash than the recipe wants; rank 0 decides."""
        longest = self.recipe.train.checkpoint_minutes * 60
        return self.runtime.is_main and 0 < longest < time.monotonic() - self.saved_at

    def save(self) -> None:
        """Save all that the next step depends on, unless it is what this attempt began with."""
        if self.step == self.saved:
            return
        weights = self.runtime.collect(self.model.state_dict())
        moments = self.runtime.collect(optimizer_tensors(self.model, self.optimizer))
        if self.runtime.is_main:
            keep = self.recipe.train.keep_checkpoints
            state = self.state()
            saved = checkpoint.save_checkpoint(
                self.folder, self.step, weights, moments, state, keep
            )
            self.start_mirror(saved)
        self.saved, self.saved_at = self.step, time.monotonic()
        self.runtime.wait()

    def start_mirror(self, saved: Path) -> None:
        """Have a checkpoint copied to the mirror, and tell if the copy before went wrong."""
        if self.mirror:
            self.mirror.start(saved)
            self.tell_mirror()

    def close_mirror(self) -> None:
        """Wait for the mirror, and give it the run's last words."""
        if self.mirror:
            self.mirror.wait()
            self.tell_mirror()
            self.mirror.copy(checkpoint.choose_checkpoint(self.folder, self.step))

    def tell_mirror(self) -> None:
        """Say what went wrong with the mirror, once; the run goes on without."""
        if self.mirror and self.mirror.problem:
            self.event("note", self.mirror.problem)
            self.mirror.problem = ""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds besides tensors."""
        return {
            "tokens": self.tokens(),
            "seconds": self.clock.seconds(),
            "seconds_per_step": self.clock.pace(self.step),
            "corpus_tokens": len(self.corpus.train),
            "scaler": self.scaler.state_dict(),
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
        }

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint, as if there had been no pause."""
        state = checkpoint.read_state(folder)
        if "imported_from" in state:
            name = self.folder.name
            raise UsageError(f"{name} holds imported weights: train with train.init_from={name}")
        require(
            state["step"] <= self.recipe.train.steps,
            f"train.steps = {self.recipe.train.steps:,}, but {self.folder} has done"
            f" {state['step']:,} already; give more, or another --name",
        )
        if len(self.corpus.train) != state["corpus_tokens"]:
            raise UserError(
                f"{self.corpus.folder} holds {len(self.corpus.train):,} tokens, but this run was"
                f" trained on {state['corpus_tokens']:,}; give data.path the same corpus"
            )
        weights, now = checkpoint.read_tensors(folder, "model.safetensors"), self.model.state_dict()
        checkpoint.load_weights(self.model, self.runtime.spread(weights, now), str(folder))
        moments = checkpoint.read_tensors(folder, "optimizer.safetensors")
        owners = {key: now.get(key.rpartition("/")[0]) for key in moments}
        mine = self.runtime.spread(moments, owners)
        load_optimizer_tensors(self.model, self.optimizer, mine)
        if state["scaler"]:  # empty unless it was trained in fp16
            self.scaler.load_state_dict(state["scaler"])
        self.step = self.saved = state["step"]
        seconds, pace = state["seconds"], state["seconds_per_step"]
        self.clock = Clock(self.clock.started, seconds, self.step, pace)

    # What is said about it.

    def tokens(self) -> int:
        """Tokens trained on so far."""
        return tokens_before(self.step, self.recipe.train)

    def speed(self) -> float:
        """Tokens a second of training in this attempt."""
        first = tokens_before(self.clock.first + 1, self.recipe.train)
        return self.clock.speed(max(self.tokens() - first, 0))

    def record(self, kind: str, words: str, **values: Any) -> None:
        """Write one line of metrics about the current step."""
        seconds = round(self.clock.seconds(), 3)
        self.log.write(kind, words, step=self.step, tokens=self.tokens(), seconds=seconds, **values)

    def event(self, name: str, words: str, **values: Any) -> None:
        """Something that happened, in words and as a line of metrics."""
        self.record("event", words, event=name, message=words, **values)

    def report(self) -> None:
        """The latest update's figures."""
        speed = self.speed()
        words = (
            f"step {self.step:6,}  loss {self.loss:.4f}  lr {self.rate:.2e}"
            f"  norm {self.norm:.2f}  {speed:,.0f} tokens/s"
        )
        figures = {"loss": known(self.loss), "lr": self.rate, "grad_norm": known(self.norm)}
        figures |= {"tokens_per_second": speed} | self.clock.step_seconds()
        self.record("train", words, **figures)
        self.reported = self.step

    def introduce(self) -> None:
        """Say what is trained on what, and what this machine cannot do."""
        model, runtime = self.recipe.model, self.runtime
        dtype = str(runtime.dtype).removeprefix("torch.")
        words = (
            f"training {self.model.parameter_count():,} parameters,"
            f" {without_embeddings(self.model):,} without embeddings ({model.layers} layers of"
            f" {model.width}, {model.heads} heads, context {model.context}) on"
            f" {len(self.corpus.train):,} tokens, {dtype} on {runtime.device}"
        )
        environment = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        environment |= {"device": str(runtime.device), "device_name": runtime.device_name()}
        environment |= {"dtype": dtype, "compiled": runtime.compile, "parallel": runtime.parallel}
        start = "resume" if self.step else "start"
        ranks, parameters = runtime.world_size, self.model.parameter_count()
        self.event(start, words, **environment, ranks=ranks, parameters=parameters)
        for note in runtime.notes:
            self.event("note", note)
        if self.prompt() != self.recipe.sample.prompt:
            self.event(
                "note", "sample.prompt has a character that the text lacks: sampling without"
            )
        if self.step:
            self.event("note", f"going on from step {self.step}")

    def break_off(self) -> dict[str, Any]:
        """Leave a checkpoint for later, as a signal asked for."""
        self.save()
        self.set_state("PREEMPTED")
        by = self.interrupted or "a signal to another rank"
        words = f"stopped by {by} after step {self.step}, saved; go on with --resume"
        self.event("preempted", words)
        self.close_mirror()
        return self.summary()

    def finish(self) -> dict[str, Any]:
        """Save the final weights, measure those, and say so."""
        seconds = self.clock.seconds()
        self.save()
        if self.step > max(self.reported, self.clock.first):
            self.report()
        self.validate()
        if self.recipe.train.hellaswag_every:
            self.score_hellaswag()
        self.show_sample()
        summary = self.summary() | {"seconds": round(seconds, 3)}
        self.event("done", f"done after {self.step:,} steps and {seconds:.1f} s", summary=summary)
        self.set_state("DONE")
        self.close_mirror()
        return summary

    def summary(self) -> dict[str, Any]:
        """The object that --json prints."""
        speed = self.speed()
        return {
            "run": str(self.folder),
            "step": self.step,
            "tokens": self.tokens(),
            "seconds": round(self.clock.seconds(), 3),
            "tokens_per_second": round(speed, 1),
            "peak_memory_gb": round(self.runtime.peak_memory() / 1e9, 3),
            "train_loss": known(self.loss),
            "val_loss": known(self.validation.loss) if self.validation else None,
        }

    def set_state(self, state: str) -> None:
        """RUNNING, PREEMPTED, FAILED or DONE, for whoever starts runs."""
        if self.runtime.is_main:
            write_text(self.folder / "state", state + "\n")


def without_embeddings(model: GPT) -> int:
    """The weights of products, which every token goes through; a head that is tied is an
    embedding."""
    linear = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
    held = sum(module.weight.numel() for module in linear)
    if getattr(model, "head", None) is None:
        return held
    padding = model.token_embedding.num_embeddings - model.config.vocab_size
    return held - padding * model.config.width


def is_due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps (0: never) happens now."""
    return every > 0 and step % every == 0


def divide(recipe: Recipe, ranks: int) -> int:
    """Sequences a micro-batch, which go into those of the first step, the smallest, on all
    ranks."""
    sequences = tokens_of(0, recipe.train) // recipe.model.context
    if sequences % ranks:
        raise UsageError(
            f"{ranks} ranks cannot share the {sequences} sequences of a step equally; nearest"
            f" numbers that can: {' and '.join(map(str, divisors_around(sequences, ranks)))}"
        )
    share = sequences // ranks
    micro = min(recipe.train.micro_batch, share)
    if share % micro:
        raise UsageError(
            f"micro-batches of {micro} do not go into the {share} sequences of a step on each of"
            f" {ranks} ranks; nearest that does: train.micro_batch={nearest_divisor(share, micro)}"
        )
    return micro


def build_model(
    recipe: Recipe, tokenizer: Tokenizer, initial: str, runs: Path
) -> tuple[GPT, Recipe]:
    """A model, fresh or with the weights of `initial`; and the recipe with its true shape."""
    if initial:
        model = load_initial(initial, tokenizer, runs)
        config = dataclasses.replace(model.config, dropout=recipe.model.dropout)
        # Built anew, as its layers took the source's dropout when they were made.
        rebuilt = build_like(model, config)
        rebuilt.load_state_dict(model.state_dict())
        return rebuilt, dataclasses.replace(recipe, model=config, modern=switches_of(model))
    wished = recipe.model.vocab_size
    require(
        wished in (0, tokenizer.vocab_size),
        f"model.vocab_size = {wished}, but the data's tokenizer has {tokenizer.vocab_size} ids",
    )
    config = dataclasses.replace(recipe.model, vocab_size=tokenizer.vocab_size)
    return build(config, recipe.modern), dataclasses.replace(recipe, model=config)


def load_initial(source: str, tokenizer: Tokenizer, runs: Path) -> GPT:
    """The weights to start from: a run's, or a Hugging Face folder's."""
    if (Path(source) / "config.json").exists():
        model, theirs = hub.import_folder(Path(source))
    else:
        run = checkpoint.load_run(checkpoint.find_run(source, runs))
        model, theirs = run.model, run.tokenizer
    if theirs.to_dict() != tokenizer.to_dict():
        raise UserError(
            f"train.init_from = {source!r} was trained with another tokenizer ({theirs.kind}) than"
            f" the data ({tokenizer.kind}); prepare the text with its tokenizer"
        )
    return model


# Starting and resuming.


def train(
    recipe_path: Path,
    name: str = "",
    runs: Path = Path("runs"),
    overrides: list[str] | None = None,
    resume: bool = False,
    started: float | None = None,
) -> dict[str, Any]:
    """Train a recipe into runs/NAME and return the summary that --json prints.

    With `resume`, the run's own recipe counts, changed by the overrides. Raises UserError.
    """
    started = time.monotonic() if started is None else started
    name = name or recipe_path.stem
    check_run_name(name)
    folder = runs / name
    recipe = find_recipe(folder, recipe_path, overrides)
    if recipe.train.mirror and resume:
        take_from_mirror(folder, Path(recipe.train.mirror) / name)
        recipe = find_recipe(folder, recipe_path, overrides)
    for place in [folder, *([Path(recipe.train.mirror) / name] if recipe.train.mirror else [])]:
        if (place / "recipe.toml").exists() and not resume:
            raise UsageError(f"{place} exists; go on with --resume, or choose another --name")
    if (folder / "recipe.toml").exists() and is_finished(folder, recipe):
        print(f"{folder} is finished; there is nothing to resume", flush=True)
        return finished_summary(folder)
    runtime = start_runtime(recipe.runtime)
    before = earlier_threads(folder, runtime.world_size)
    runtime = choose_threads(runtime, recipe.runtime.threads, before, recipe.model.width)
    summary = run_attempt(folder, recipe, runtime, started, resume)
    runtime.close()  # not after an error: the other ranks would be waited for in vain
    return summary


def earlier_threads(folder: Path, ranks: int) -> int:
    """How many threads the run's latest attempt on a CPU and so many ranks had; 0 if none."""
    for line in reversed(read_metrics(folder)):
        if (line.get("device"), line.get("ranks")) == ("cpu", ranks):
            return line["threads"]
    return 0


def run_attempt(
    folder: Path, recipe: Recipe, runtime: Runtime, started: float, resume: bool
) -> dict[str, Any]:
    """One attempt at a run, from its newest checkpoint if it resumes."""
    resumes = resume and checkpoint.find_checkpoints(folder)
    initial = "" if resumes else recipe.train.init_from
    trainer = Trainer(folder, recipe, runtime, started, initial)
    check_tokenizer(trainer)
    with watched_signals(trainer):
        try:
            with locked(folder, runtime.is_main):
                return begin(trainer, resume)
        except BaseException as error:
            if is_lost_rank(error):
                raise lost_rank(trainer, error) from error
            runtime.is_first("to say why the run ends")  # then no other rank says another reason
            raise


def begin(trainer: Trainer, resume: bool) -> dict[str, Any]:
    """Go back to where the run was, if it resumes, and train; the folder is this process's own."""
    folder = trainer.folder
    if trainer.runtime.is_main and not resume and (folder / "recipe.toml").exists():
        raise UsageError(f"{folder} exists; another process has just made it")
    if trainer.runtime.is_main:
        checkpoint.sweep(folder)
    if trainer.mirror:
        trainer.mirror.check()
    go_back(trainer, resume)
    open_folder(trainer)
    try:
        return trainer.run()
    except BaseException:
        trainer.set_state("FAILED")
        raise


def lost_rank(trainer: Trainer, error: BaseException) -> UserError:
    """What to say when other ranks were waited for in vain; nothing where another rank says it.

    Where none is found silent, the error itself may say what is wrong, as NCCL's do.
    """
    silent = trainer.runtime.silent_ranks()
    if not trainer.runtime.is_first("to say why the run ends"):
        return UserError("")
    who = " and ".join(f"rank {rank}" for rank in silent)
    what = f"{who} fell silent" if silent else f"ranks lost each other ({one_line(error)})"
    saved = checkpoint.find_checkpoints(trainer.folder)
    rest = f"from {saved[-1]}" if saved else "from the beginning, as no checkpoint was saved yet"
    return UserError(f"{what} after step {trainer.step}; --resume goes on {rest}")


def one_line(error: BaseException) -> str:
    """An error's words, without their line breaks."""
    return " ".join(str(error).split())


def go_back(trainer: Trainer, resume: bool) -> None:
    """Go back to the newest checkpoint, where the run resumes and there is one."""
    found = checkpoint.find_checkpoints(trainer.folder) if resume else []
    if found:
        trainer.restore(found[-1])
    if trainer.runtime.any(trainer.step != trainer.runtime.agree(trainer.step)):
        raise UserError(
            f"ranks find different checkpoints in {trainer.folder}; give --runs a folder that all"
            " machines share"
        )
    if not found and resume and trainer.runtime.is_main:
        print(f"{trainer.folder} has no complete checkpoint: starting at the beginning", flush=True)


def check_tokenizer(trainer: Trainer) -> None:
    """Refuse data of another tokenizer than the run began with."""
    stored = trainer.folder / "tokenizer.json"
    if stored.exists() and load_tokenizer(stored).to_dict() != trainer.tokenizer.to_dict():
        raise UserError(
            f"{trainer.corpus.folder} was made with another tokenizer than {trainer.folder}"
        )


def open_folder(trainer: Trainer) -> None:
    """Write the run's tokenizer, state and recipe; the recipe, which makes it a run, last."""
    folder = trainer.folder
    if trainer.runtime.is_main:
        trainer.tokenizer.save(folder / "tokenizer.json")
        trainer.set_state("RUNNING")
        write_text(folder / "recipe.toml", to_toml(trainer.recipe))
    trainer.runtime.wait()


def take_from_mirror(folder: Path, mirror: Path) -> None:
    """Go on from the mirror where it is ahead. One process after another: the first of each
    machine copies, the others find that nothing is left to do."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".mirror.lock").open("a") as file:
        while True:
            with suppress(OSError):
                lock(file)
                break
            time.sleep(0.1)
        checkpoint.take_from_mirror(folder, mirror)


def find_recipe(folder: Path, path: Path, overrides: list[str] | None) -> Recipe:
    """The run's own recipe, if it has begun, else that of the path; with the overrides."""
    begun = (folder / "recipe.toml").exists()
    return resumed_recipe(folder, overrides) if begun else load_recipe(path, overrides)


def resumed_recipe(folder: Path, overrides: list[str] | None) -> Recipe:
    """The run's own recipe with the overrides; UsageError if one would make it another run."""
    path = folder / "recipe.toml"
    recipe = load_recipe(path, overrides)
    before, now = (dataclasses.asdict(r) for r in (load_recipe(path), recipe))
    for section, values in now.items():
        for key, value in values.items():
            fixed = f"{section}.{key}".startswith(FIXED_KEYS)
            require(
                not fixed or value == before[section][key],
                f"{section}.{key} cannot change in a run; start another with --name",
            )
    return recipe


def is_finished(folder: Path, recipe: Recipe) -> bool:
    """Whether the run is done and the recipe asks for no more than it did then."""
    trained = (folder / "metrics.jsonl").exists()  # not so where weights were imported
    done = trained and read_state(folder) == "DONE"
    return done and recipe == load_recipe(folder / "recipe.toml")


@contextmanager
def watched_signals(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask for a stop at the step's end; a second one stops at once.

    Soon after the first it is no second one: a process may hear of the same stop from the system,
    which is shutting down, and from torchrun or whatever else has started it.
    """
    asked = math.inf

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        asked = min(asked, time.monotonic())
        trainer.interrupted = signal.Signals(number).name
        if time.monotonic() - asked > SAME_STOP_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only; whoever trains in another handles them
        return
    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the memory was too small; on a CPU torch only says so in words."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The words of the command line."""
    parser = argparse.ArgumentParser(prog="python -m gpt.train", description=train.__doc__)
    parser.add_argument("recipe", type=Path, help="a TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--name", default="", help="the run's name; the recipe's otherwise")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder of all runs")
    parser.add_argument("--resume", action="store_true", help="go on where the run stopped")
    parser.add_argument("--json", action="store_true", help="print the summary as the last line")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train as the words say; returns the exit status: 0 done, 1 failed, 2 wrong words."""
    words = parse_arguments(arguments)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return attempt(words)
    status = 1
    try:
        status = attempt(words)
    except BaseException:  # it too would end in the interpreter's own way
        traceback.print_exc()
    leave(status)
    return status


def attempt(words: argparse.Namespace) -> int:
    """Train as the words say; returns the exit status, and raises what no user can mend."""
    try:
        summary = train(
            words.recipe, words.name, words.runs, words.set, words.resume, PROCESS_START
        )
        if words.json and int(os.environ.get("RANK", "0")) == 0:
            print(json.dumps(summary))
        return 0 if read_state(Path(summary["run"])) == "DONE" else 1
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        status, sentence = explain(error)
        if sentence:
            sys.stderr.write(f"error: {sentence}\n")  # in one piece, as other ranks speak too
        return status


def leave(status: int) -> None:
    """End this process as one of several ranks, without the interpreter's own end: there gloo's
    threads sometimes abort a rank that has done all its work, and a failed one waits for others."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def explain(error: Exception) -> tuple[int, str]:
    """The exit status and the sentence for an error that a user can mend; others are raised."""
    if isinstance(error, UserError):
        return error.exit_status, str(error)
    if is_out_of_memory(error):
        return 1, OUT_OF_MEMORY
    if isinstance(error, OSError):
        return 1, f"{error}; nothing saved before is lost: mend that and go on with --resume"
    raise error


if __name__ == "__main__":
    sys.exit(main())
