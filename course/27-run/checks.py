"""What a run must be that is stopped, killed and moved: the same run."""

import contextlib
import io
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

from buildgpt.course.checking import (
    acting,
    check,
    equal,
    expect,
    near,
    recipe_folder,
    refused,
    run_recipe,
    small_trainer,
)

TEXT = bytes(range(97, 123)) * 40
MODEL = {"context": 8, "layers": 1, "heads": 2, "width": 16, "init_std": 0.3}
TRAIN = {"tokens_per_step": 64, "micro_batch": 2, "warmup_steps": 0, "lr": 0.01, "log_every": 100}


@check("without a word, a model is GPT-2's smallest", step="size")
def defaults(mine):
    found = mine.ModelConfig()
    seen = (found.layers, found.heads, found.width, found.context)
    equal(seen, (12, 12, 768, 1024), given="layers, heads, width, context of ModelConfig()")
    equal(mine.TrainConfig().tokens_per_step, 524288, given="TrainConfig().tokens_per_step")


@check("what cannot be meant is refused", step="size")
def slips(mine):
    for wish in ({"width": 7_680_000, "heads": 1}, {"layers": 2_000_000}, {"context": 10**7}):
        with refused(f"ModelConfig(**{wish})", the_key=next(iter(wish))):
            mine.ModelConfig(**wish)
    for wish in ({"double_at": (4, 2)}, {"double_at": (0, 3)}, {"log_every": 0}, {"seed": 2**40}):
        with refused(f"TrainConfig(**{wish})", the_key=next(iter(wish))):
            mine.TrainConfig(**wish)
    train = mine.TrainConfig(tokens_per_step=64, double_at=(1, 2, 3, 4))
    with refused("8 sequences a step, halved 4 times", the_key="double_at"):
        mine.Recipe(model=mine.ModelConfig(**MODEL), train=train)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text("[model]\ncontext = 8\n[train]\ntokens_per_step = 64\n", encoding="utf-8")
        found = mine.load_recipe(path, ["train.double_at=[1, 3]"]).train.double_at
        equal(found, (1, 3), given="train.double_at=[1, 3]")
        for wrong in ("[0.5]", "3", "['a']"):
            with refused(f"train.double_at={wrong}", the_key="double_at"):
                mine.load_recipe(path, [f"train.double_at={wrong}"])


@check("the pace is the time since the first step, over the steps since", step="pace")
def paced(mine):
    now, kind = [0.0], type("Told", (mine.Clock,), {"seconds": lambda self: now[0]})
    clock, causes = kind(0.0, 0.0, 10), ["the first step, which may compile, is counted in"]
    for now[0], step, wanted in ((60.0, 11, 0.0), (62.0, 12, 2.0), (70.0, 13, 5.0)):
        clock.count(step, 100, time.monotonic())
        given = f"pace({step}) after {now[0]} s, begun at step 10, whose first step took 60 s"
        near(clock.pace(step), wanted, 1e-9, given, causes)
    after = mine.Clock(time.monotonic(), 70.0, 13, 5.0)
    causes = ["it is not known what an earlier attempt's checkpoint said"]
    near(
        after.pace(13), 5.0, 1e-9, "the pace before a first step, 5 s in the attempt before", causes
    )


@check("a checkpoint knows the pace, and a resumed run begins with it", step="pace")
def kept(mine):
    with small_trainer(mine, TEXT, MODEL, TRAIN) as own:
        own.step, own.clock.pace = 3, lambda step: 0.75 if step == 3 else -1.0
        own.save()
        (saved,) = (own.folder / "checkpoints").iterdir()
        found = mine.read_state(saved).get("seconds_per_step")
        equal(found, 0.75, given="seconds_per_step in state.json of step 3, 0.75 s a step")
        own.restore(saved)
        causes = ["restore makes a Clock without the pace that the state holds"]
        near(own.clock.pace(3), 0.75, 1e-9, "the pace after a resume", causes)
        passed = own.clock.seconds() - mine.read_state(saved)["seconds"]
        given = "seconds of the run after a resume, less those before it"
        expect(0 <= passed < 60, f"{passed:.1f}", "a few", given)


class Still:
    """A clock that stands: so many seconds have passed, so many a step."""

    def __new__(cls, mine, passed, pace):
        kind = type("Still", (mine.Clock,), {"seconds": lambda self: passed})
        found = kind(0.0, 0.0, 0)
        found.pace = lambda step: pace
        return found


@check("as many steps are possible as go into the time that is left", step="pace")
def possible(mine):
    train = mine.TrainConfig(steps=100, max_seconds=10.0)
    for passed, pace, step, wanted in (
        (0.0, 0.0, 0, 100),
        (9.0, 0.0, 1, 100),
        (11.0, 0.0, 1, 1),
        (4.0, 0.5, 20, 32),
        (4.0, 2.5, 3, 5.4),
        (4.0, 0.01, 20, 100),
        (12.0, 0.5, 20, 20),
    ):
        found = Still(mine, passed, pace).possible_steps(step, train)
        given = f"{passed} of 10 s passed, {pace} s a step (0: unknown), step {step} of 100"
        causes = [
            "more steps than the recipe's",
            "fewer than are done",
            "the time passed, not left",
        ]
        near(found, wanted, 1e-6, given, causes)


def quiet(function, *words):
    """What a function returns; what it prints is kept from the terminal."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        return function(*words), out.getvalue()


@check("a run ends when its time is over, with a rate that has come down", step="pace")
def in_time(mine):
    wishes = TRAIN | {"steps": 1000, "max_seconds": 20.0, "eval_every": 0, "checkpoint_every": 0}
    with small_trainer(mine, TEXT, MODEL, wishes) as own:
        kind = type("Steady", (type(own.clock),), {})
        kind.seconds = lambda self: float(own.step) + 0.5  # a second a step
        kind.pace = lambda self, step: 1.0 if step else 0.0
        own.clock = kind(0.0, 0.0, 0)
        update, rates, places, batches = own.update, [], [], own.batches

        def watched():
            update()
            rates.append(own.rate)

        own.update = watched
        own.batches = lambda first, count: places.append(first) or batches(first, count)
        quiet(own.run)
    expect(18 <= own.step <= 20, f"{own.step} steps", "19 or so", "20 s, and a second a step")
    causes = ["the rate still follows the recipe's number of steps"]
    given = "the last rate, in shares of the highest"
    expect(rates[-1] < 0.3 * max(rates), f"{rates[-1] / max(rates):.2f}", "0.3", given, causes)
    equal(places, [2 * i for i in range(4 * own.step)], given="what is read, in limited time")


def folder_of(mine, **train):
    """A recipe in a folder with its text, for the command."""
    return recipe_folder(mine, TEXT, MODEL, TRAIN | {"steps": 8, "checkpoint_every": 3} | train)


def command(mine, place, name, *more):
    """The status of a command, and what it says."""
    return run_recipe(mine, place, "--name", name, *more)


def weights(mine, place, name, step=8):
    """The weights in a checkpoint, by name."""
    folder = place / "runs" / name / "checkpoints" / f"step_{step:06d}"
    return mine.read_tensors(folder, "model.safetensors")


def same_end(mine, place, one, other, given):
    """Both runs must end in the same bits."""
    import torch

    one, other = weights(mine, place, one), weights(mine, place, other)
    same = all(torch.equal(one[name], other[name]) for name in one)
    expect(same, "other bits", "the same", given)


@contextlib.contextmanager
def after_step(mine, step, act):
    """Something happens right after an update of the next run."""
    kind = mine.core.train.Trainer
    update = kind.update

    def watched(self):
        update(self)
        if self.step == step:
            act()

    kind.update = watched
    try:
        yield
    finally:
        kind.update = update


@check("a signal ends a run after its step, with a checkpoint", step="stop")
def signalled(mine):
    for name in ("SIGTERM", "SIGINT"):
        with folder_of(mine) as place:
            command(mine, place, "one")
            kill = lambda name=name: os.kill(os.getpid(), getattr(signal, name))  # noqa: E731
            with after_step(mine, 4, kill):
                _, said = command(mine, place, "two")
            found = [path.name for path in mine.find_checkpoints(place / "runs" / "two")]
            given = f"the newest checkpoint, {name} after step 4"
            equal(found[-1:], ["step_000005"], given, ["stopped in the middle of an update"])
            state = (place / "runs" / "two" / "state").read_text().strip()
            equal(state, "PREEMPTED", given="the state of a run that was told to stop")
            expect(name in said, said[-200:], f"a word of {name}", "what is said")
            command(mine, place, "two", "--resume")
            same_end(mine, place, "one", "two", f"8 steps, and 5, {name} and 3 more: the weights")


@check("what a run is called is one plain word", step="size")
def names(mine):
    with folder_of(mine) as place:
        for name in ("../elsewhere", "a b", ".hidden", "a/b"):
            status, _ = command(mine, place, name)
            expect(status == 2, f"status {status}", "2, wrong words", f"--name {name}")
        equal(command(mine, place, "a-1_b.c")[0], 0, given="the status of --name a-1_b.c")


@check("the clock of a run begins when its process does", step="begin")
def since(mine):
    with folder_of(mine) as place:
        started = time.monotonic() - 100
        words = (place / "tiny.toml", "mine", place / "runs", [], False, started)
        quiet(mine.core.train.train, *words)
        found = mine.read_metrics(place / "runs" / "mine")[0]["seconds"]
    expect(100 < found < 200, f"{found}", "a little over 100", "seconds, started 100 s ago")


@check("a finished run tells what became of it, and is not trained again", step="done")
def finished(mine):
    with folder_of(mine) as place:
        status, said = command(mine, place, "one", "--json")
        summary = json.loads(said.splitlines()[-1])
        keys = ("run", "step", "tokens", "seconds", "tokens_per_second", "train_loss", "val_loss")
        equal([key for key in keys if key not in summary], [], given="what the summary lacks")
        equal(
            (status, summary["step"], summary["tokens"]), (0, 8, 512), given="status, step, tokens"
        )
        equal((place / "runs" / "one" / "state").read_text().strip(), "DONE", given="its state")
        before = len(mine.read_metrics(place / "runs" / "one"))
        status, said = command(mine, place, "one", "--resume", "--json")
        again = json.loads(said.splitlines()[-1])
        equal(again["val_loss"], summary["val_loss"], given="val_loss of the same run, resumed")
        equal(len(mine.read_metrics(place / "runs" / "one")), before, given="lines of its metrics")
        status, _ = command(mine, place, "one", "--resume", "--set", "train.steps=9")
        equal(status, 0, given="the status when it is resumed to more steps")
        val = [line for line in mine.read_metrics(place / "runs" / "one") if line["kind"] == "val"]
    equal(val[-1]["step"], 9, given="the step of the last validation loss")


def saved(mine, run, *steps):
    """Checkpoints of these steps."""
    import torch

    torch.manual_seed(1)
    made = {"a.weight": torch.randn(30, 4)}
    return [mine.save_checkpoint(run, step, made, made, {"x": 1}) for step in steps]


@check("a copy that is cut off does not exist", step="copy")
def cut_off(mine):
    with tempfile.TemporaryDirectory() as name:
        run, bucket = Path(name) / "run", Path(name) / "bucket"
        for folder in saved(mine, run, 3, 5):
            mine.copy_checkpoint(folder, bucket / "checkpoints" / folder.name)
        found = [path.name for path in mine.find_checkpoints(bucket)]
        equal(found, ["step_000003", "step_000005"], given="copies of steps 3 and 5")
        copy = shutil.copyfile
        for count in range(4):
            done = []

            def breaking(source, target, done=done, count=count):
                if len(done) == count:
                    raise OSError("the power fails")
                done.append(copy(source, target))

            shutil.copyfile = breaking
            try:
                with contextlib.suppress(OSError):
                    mine.copy_checkpoint(folder, bucket / "checkpoints" / folder.name)
            finally:
                shutil.copyfile = copy
            found = [path.name for path in mine.find_checkpoints(bucket)]
            given = f"copies, when copying step 5 once more breaks off after {count} files"
            equal(found, ["step_000003"], given=given)


@check("copying goes on beside the training, and a failure is only told", step="mirror")
def beside(mine):
    with tempfile.TemporaryDirectory() as name:
        run, bucket, told = Path(name) / "run", Path(name) / "bucket", []
        copies = mine.Mirror(run, bucket, 2, told.append)
        for folder in saved(mine, run, 3, 5, 7):
            copies.start(folder)
        copies.wait()
        found = [path.name for path in mine.find_checkpoints(bucket)]
        equal(found[-1], "step_000007", given="the newest copy")
        expect(len(found) <= 2, f"{found}", "2 at most", "copies, keep = 2")
        equal(told, [], given="what was told")
        broken = Path(name) / "file"
        broken.write_text("no folder")
        copies = mine.Mirror(run, broken, 2, told.append)
        copies.start(folder)
        copies.wait()
        equal(len(told), 1, given="what is told when a copy fails")


@check("a run goes on from its mirror, in the same bits", step="elsewhere")
def moved(mine):
    with folder_of(mine) as place:
        bucket = place / "bucket"
        command(mine, place, "one")
        wish = ["--set", f"train.mirror={bucket.as_posix()}"]
        kill = lambda: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        with after_step(mine, 4, kill):
            command(mine, place, "two", *wish)
        expect((bucket / "two").is_dir(), "nothing", "two", "what is in the mirror")
        shutil.rmtree(place / "runs" / "two")
        status, _ = command(mine, place, "two", *wish)
        expect(status != 0, "status 0", "not 0", "a new start, when the mirror has the run")
        anew = []
        with after_step(mine, 1, lambda: anew.append(1)):
            status, _ = command(mine, place, "two", *wish, "--resume")
        equal(status, 0, given="the status of --resume, without the run's folder")
        causes = ["what the mirror has is not fetched before the run looks for its checkpoints"]
        given = "steps done by --resume, of 8, when the mirror has the first ones"
        expect(not anew, "all of them", "the rest", given, causes)
        same_end(mine, place, "one", "two", "8 steps, and 5, then 3 on another machine")
        copies = [path.name for path in mine.find_checkpoints(bucket / "two")]
        equal(copies[-1], "step_000008", given="the newest copy in the end")
        causes = ["what the run writes after its last checkpoint is not copied"]
        for copy in [path for path in (bucket / "two").glob("[!.]*") if path.is_file()]:
            same = copy.read_bytes() == (place / "runs" / "two" / copy.name).read_bytes()
            expect(same, "an older one", "as the run's", f"{copy.name} of the mirror", causes)


@check("a mirror that cannot be written is told before the first step", step="elsewhere")
def tried_first(mine):
    with folder_of(mine) as place:
        (place / "file").write_text("no folder")
        status, _ = command(
            mine, place, "one", "--set", f"train.mirror={(place / 'file').as_posix()}"
        )
        expect(status != 0, "status 0", "not 0", "train.mirror below a file")
        equal(mine.find_checkpoints(place / "runs" / "one"), [], given="checkpoints of that run")


@check("when a run in limited time is over, rank 0 says for all", step="pace")
def one_clock(mine):
    train = TRAIN | {"steps": 50, "max_seconds": 1e6, "eval_every": 0, "checkpoint_every": 0}
    with small_trainer(mine, TEXT, MODEL, train) as own:
        own.runtime = acting(own.runtime, {"agree": lambda self, value: 5.0})
        quiet(own.run)
        causes = ["each rank goes by its own clock: ask runtime.agree"]
        equal(own.step, 5, given="steps done where rank 0 says that 5 are possible", causes=causes)
