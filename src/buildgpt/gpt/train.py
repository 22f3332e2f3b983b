"""The loop, as named verbs. It writes the whole run folder; whoever watches reads metrics.jsonl.

    python -m gpt.train recipe.toml --set train.steps=20 --name NAME --runs FOLDER --resume

alone or under torchrun. Step N means N updates done.
"""

import argparse
import json
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import PROCESS_START, begun, checkpoint, hub, optim
from .config import Recipe, UserError, check_run_name, divide, require, tokens_before, tokens_of
from .data import Batches, Corpus
from .ending import exit_status, one_reason, watched_signals
from .evaluate import Evaluation, evaluate
from .generate import sample, spellable
from .hellaswag import hellaswag, read_hellaswag
from .mirror import Mirror, take_from_mirror
from .model import GPT
from .modern import set_window
from .runlog import Clock, Log, known, locked, read_state, write_state
from .runtime import Replica, Runtime, choose_threads, start_runtime, whole

MOST_SKIPPED = 10  # updates without finite gradients, one after another: no more will help


class Trainer:
    """One run: what it consists of, and the verbs of its loop."""

    def __init__(
        self, folder: Path, recipe: Recipe, runtime: Runtime, started: float, initial: str
    ) -> None:
        self.folder, self.runtime, wish = folder, runtime, recipe.train
        self.corpus = Corpus(recipe.data)
        self.tokenizer = self.corpus.tokenizer
        torch.manual_seed(wish.seed)
        self.model, self.recipe = hub.build_model(recipe, self.tokenizer, initial, folder.parent)
        self.model.to(runtime.device)
        # It shares the plain module's parameters; only the update goes through it.
        self.replica = Replica(self.model, runtime)
        self.optimizer = optim.build_optimizer(self.model, wish, runtime.dtype)
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.needs_scaler)
        order = (wish.seed, self.corpus.opening, self.corpus.shifts, recipe.data.noise)
        self.batches = Batches(self.corpus.train, self.recipe.model.context, *order)
        self.micro_batch = divide(self.recipe, runtime.world_size)
        self.step, self.end = 0, float(wish.steps)  # updates done, and in all
        self.saved = self.reported = -1  # the step of the newest checkpoint, of the last report
        self.skipped = 0  # updates left out, one after another
        self.clock = Clock(started, 0.0, 0)
        path = Path(recipe.data.hellaswag)  # where it is missing, that is said now
        self.items = read_hellaswag(path) if wish.hellaswag_every else []
        self.mirror: Mirror | None = None
        if wish.mirror and runtime.is_main:
            place = Path(wish.mirror) / folder.name
            self.mirror = Mirror(folder, place, wish.keep_checkpoints, self.note)
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
                if self.overdue or is_due(self.step, self.recipe.train.checkpoint_every):
                    self.save()
        return self.finish()

    def is_done(self) -> bool:
        """Whether all steps are done, or the time that is left is less than a step takes."""
        if self.recipe.train.max_seconds:
            self.end = self.runtime.agree(self.clock.possible_steps(self.step, self.recipe.train))
        return self.end < self.step + 1

    def update(self) -> None:
        """One step: the gradients of all its tokens, clipped, then AdamW."""
        began = time.monotonic()
        self.rate = optim.learning_rate(self.step, self.end, self.recipe.train)
        set_window(self.model, self.step / max(self.end, 1))
        optim.set_rates(self.optimizer, self.rate, optim.momentum(self.step, self.end))
        loss = self.accumulate()
        # Before anything waits for the GPU: this is where a rank that is lost is noticed.
        wishes = torch.tensor([bool(self.interrupted), self.is_overdue()]).double()
        self.stopping, self.overdue = (self.runtime.sum(wishes) > 0).tolist()
        self.scaler.unscale_(self.optimizer)
        norm = optim.clip_gradients(self.model, self.recipe.train.grad_clip)
        self.loss = float(self.runtime.sum(loss)) / self.runtime.world_size
        self.norm = float(whole(norm))
        if self.is_usable():
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.validation = None  # what was measured before this update is no longer true
        self.clock.count(self.step, tokens_of(self.step - 1, self.recipe.train), began)

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
        train, samples = self.recipe.train, self.recipe.sample
        if self.step > self.clock.first and is_due(self.step, train.eval_every):
            self.validate()
        if self.step > self.clock.first and is_due(self.step, train.hellaswag_every):
            self.score_hellaswag()
        if self.step in samples.at or (self.step and is_due(self.step, samples.every)):
            self.show_sample()

    def validate(self) -> None:
        """Measure the validation loss of the current weights."""
        model = self.runtime.whole_model(self.model)
        self.validation = evaluate(model, self.corpus, self.runtime)
        figures = {"loss": self.validation.loss, "bits_per_byte": self.validation.bits_per_byte}
        self.record("val", **figures, scored=self.validation.tokens)

    def score_hellaswag(self) -> None:
        """Measure the current weights on HellaSwag."""
        model = self.runtime.whole_model(self.model)
        found = hellaswag(model, self.tokenizer, self.items, self.runtime)
        self.record("hellaswag", acc=found.acc, acc_norm=found.acc_norm, items=found.items)

    def show_sample(self) -> None:
        """Continue the recipe's prompt, into samples.txt too."""
        model = self.runtime.whole_model(self.model)
        if not self.runtime.is_main:
            return
        text = sample(model, self.tokenizer, self.recipe.sample, self.recipe.train.seed)
        with (self.folder / "samples.txt").open("a", encoding="utf-8", newline="\n") as file:
            file.write(f"=== step {self.step} ===\n{text}\n\n")
        self.record("sample", text=text)

    def is_overdue(self) -> bool:
        """Whether more work would be lost in a crash than the recipe wants; rank 0 decides."""
        longest = self.recipe.train.checkpoint_minutes * 60
        return self.runtime.is_main and 0 < longest < time.monotonic() - self.saved_at

    def save(self) -> None:
        """Save all that the next step depends on, unless it is what this attempt began with."""
        if self.step == self.saved:
            return
        weights = self.runtime.collect(self.model.state_dict())
        moments = self.runtime.collect(optim.optimizer_tensors(self.model, self.optimizer))
        if self.runtime.is_main:
            keep = self.recipe.train.keep_checkpoints
            saved = checkpoint.save_checkpoint(
                self.folder, self.step, weights, moments, self.state(), keep
            )
            if self.mirror:
                self.mirror.start(saved)
        self.saved, self.saved_at = self.step, time.monotonic()
        self.runtime.wait()

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
        begun.check_state(state, self.recipe, self.corpus, self.folder)
        weights, now = checkpoint.read_tensors(folder, "model.safetensors"), self.model.state_dict()
        checkpoint.load_weights(self.model, self.runtime.spread(weights, now), str(folder))
        moments = checkpoint.read_tensors(folder, "optimizer.safetensors")
        mine = self.runtime.spread(moments, now)
        optim.load_optimizer_tensors(self.model, self.optimizer, mine)
        if state["scaler"]:  # empty unless it was trained in fp16
            self.scaler.load_state_dict(state["scaler"])
        self.step = self.saved = state["step"]
        seconds, pace = state["seconds"], state["seconds_per_step"]
        self.clock = Clock(self.clock.started, seconds, self.step, pace)

    # What is said about it.

    def tokens(self) -> int:
        """Tokens trained on so far."""
        return tokens_before(self.step, self.recipe.train)

    def record(self, kind: str, **values: Any) -> None:
        """Write one line of metrics about the current step, and say it."""
        seconds = round(self.clock.seconds(), 3)
        self.log.write(kind, step=self.step, tokens=self.tokens(), seconds=seconds, **values)

    def event(self, name: str, words: str, **values: Any) -> None:
        """Something that happened, in words and as a line of metrics."""
        self.record("event", event=name, message=words, **values)

    def note(self, words: str) -> None:
        """Something that whoever looks at the run should know."""
        self.event("note", words)

    def report(self) -> None:
        """The latest update's figures."""
        figures = {"loss": self.loss, "lr": self.rate, "grad_norm": self.norm}
        figures |= {"tokens_per_second": self.clock.speed()} | self.clock.step_seconds()
        self.record("train", **figures)
        self.reported = self.step

    def introduce(self) -> None:
        """Say what is trained on what, and what this machine cannot do."""
        model, facts = self.recipe.model, self.runtime.facts()
        parameters = self.model.parameter_count()
        words = (
            f"training {parameters:,} parameters,"
            f" {without_embeddings(self.model):,} without embeddings ({model.layers} layers of"
            f" {model.width}, {model.heads} heads, context {model.context}) on"
            f" {len(self.corpus.train):,} tokens, {facts['dtype']} on {facts['device']}"
        )
        self.event("resume" if self.step else "start", words, **facts, parameters=parameters)
        for words in self.runtime.notes:
            self.note(words)
        if not spellable(self.tokenizer, self.recipe.sample.prompt):
            self.note("sample.prompt has a character that the text lacks: sampling without")
        if self.step:
            self.note(f"going on from step {self.step}")

    def break_off(self) -> dict[str, Any]:
        """Leave a checkpoint for later, as a signal asked for."""
        self.save()
        self.set_state("PREEMPTED")
        by = self.interrupted or "a signal to another rank"
        words = f"stopped by {by} after step {self.step}, saved; go on with --resume"
        self.event("preempted", words)
        return self.summary(self.clock.seconds())

    def finish(self) -> dict[str, Any]:
        """Save the final weights, measure those, and say so."""
        seconds = self.clock.seconds()
        self.save()
        if self.step > max(self.reported, self.clock.first):
            self.report()
        self.validate()
        if self.items:
            self.score_hellaswag()
        self.show_sample()
        summary = self.summary(seconds)
        self.event("done", f"done after {self.step:,} steps and {seconds:.1f} s", summary=summary)
        self.set_state("DONE")
        return summary

    def summary(self, seconds: float) -> dict[str, Any]:
        """The object that --json prints."""
        return {
            "run": str(self.folder),
            "step": self.step,
            "tokens": self.tokens(),
            "seconds": round(seconds, 3),
            "tokens_per_second": round(self.clock.speed(), 1),
            "peak_memory_gb": round(self.runtime.peak_memory() / 1e9, 3),
            "train_loss": known(self.loss),
            "val_loss": known(self.validation.loss) if self.validation else None,
        }

    def set_state(self, state: str) -> None:
        """RUNNING, PREEMPTED, FAILED or DONE, for whoever starts runs."""
        if self.runtime.is_main:
            write_state(self.folder, state)


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
    recipe = begun.find_recipe(folder, recipe_path, overrides)
    mirrors = [Path(recipe.train.mirror) / name] if recipe.train.mirror else []
    if resume and mirrors:
        take_from_mirror(folder, mirrors[0])
        recipe = begun.find_recipe(folder, recipe_path, overrides)
    for place in [folder, *mirrors]:
        is_free = not (place / "recipe.toml").exists()
        require(resume or is_free, f"{place} exists; go on with --resume, or choose another --name")
    if summary := begun.summary_of_finished(folder, recipe):
        print(f"{folder} is finished; there is nothing to resume", flush=True)
        return summary
    runtime = start_runtime(recipe.runtime)
    before = begun.earlier_threads(folder, runtime.world_size)
    runtime = choose_threads(runtime, recipe.runtime.threads, before, recipe.model.width)
    summary = run_attempt(folder, recipe, runtime, started, resume)
    runtime.close()  # not after an error: the other ranks would be waited for in vain
    return summary


def run_attempt(
    folder: Path, recipe: Recipe, runtime: Runtime, started: float, resume: bool
) -> dict[str, Any]:
    """One attempt at a run, from its newest checkpoint if it resumes."""
    resumes = resume and checkpoint.find_checkpoints(folder)
    initial = "" if resumes else recipe.train.init_from
    trainer = Trainer(folder, recipe, runtime, started, initial)
    begun.check_tokenizer(folder, trainer.corpus)
    with watched_signals(trainer), one_reason(trainer), locked(folder, runtime.is_main):
        if runtime.is_main:
            checkpoint.sweep(folder)
        if trainer.mirror:
            trainer.mirror.check()
        if resume:
            go_back(trainer)
        if runtime.is_main:
            begun.open_folder(folder, trainer.recipe, trainer.tokenizer)
        runtime.wait()
        try:
            summary = trainer.run()
        except BaseException:
            trainer.set_state("FAILED")
            raise
        if trainer.mirror:
            trainer.mirror.close(trainer.step)
        return summary


def go_back(trainer: Trainer) -> None:
    """Go back to the newest checkpoint, if there is one, which must be the same on all ranks."""
    found = checkpoint.find_checkpoints(trainer.folder)
    if found:
        trainer.restore(found[-1])
    elif trainer.runtime.is_main:
        print(f"{trainer.folder} has no complete checkpoint: starting at the beginning", flush=True)
    if trainer.runtime.any(trainer.step != trainer.runtime.agree(trainer.step)):
        raise UserError(
            f"ranks find different checkpoints in {trainer.folder}; give --runs a folder that all"
            " machines share"
        )


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

    def attempt() -> int:
        place = (words.recipe, words.name, words.runs)
        summary = train(*place, words.set, words.resume, PROCESS_START)
        if words.json and int(os.environ.get("RANK", "0")) == 0:
            print(json.dumps(summary))
        return 0 if read_state(Path(summary["run"])) == "DONE" else 1

    return exit_status(attempt)


if __name__ == "__main__":
    sys.exit(main())
