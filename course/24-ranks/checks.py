"""What a step on several ranks must be: the same step, and a run the same run on another day."""

import contextlib
import dataclasses
import functools
import io
import json
import tempfile
from pathlib import Path

from buildgpt.course.checking import (
    check,
    equal,
    expect,
    on_cpu,
    refused,
    run_recipe,
    small_trainer,
    text_data,
)

TEXT = bytes(range(97, 123)) * 40
MODEL = {"context": 8, "layers": 1, "heads": 2, "width": 16, "init_std": 0.3}
TRAIN = {"tokens_per_step": 64, "micro_batch": 2, "warmup_steps": 0, "lr": 0.01}


def recipe(mine, sequences, rows):
    """A recipe of so many sequences a step, and so many at once."""
    train = mine.TrainConfig(tokens_per_step=8 * sequences, micro_batch=rows)
    return mine.Recipe(model=mine.ModelConfig(**MODEL), train=train)


@check("a step goes into equal shares, and those into micro-batches", step="ranks")
def shares(mine):
    for sequences, rows, ranks, wanted in (
        (8, 8, 1, 8),
        (8, 8, 2, 4),
        (8, 2, 2, 2),
        (8, 100, 8, 1),
        (24, 6, 2, 6),
    ):
        given = f"{sequences} sequences a step, micro_batch = {rows}, {ranks} ranks"
        causes = ["the micro-batch has to go into a rank's share, not into the whole step"]
        equal(mine.divide(recipe(mine, sequences, rows), ranks), wanted, given, causes)


@check("shares that do not go are refused, with numbers that do", step="ranks")
def refuses(mine):
    for sequences, ranks, near in ((8, 3, ("2", "4")), (12, 5, ("4", "6")), (6, 7, ("6",))):
        words = {f"the_number_{i}": number for i, number in enumerate(near)}
        given = f"{sequences} sequences a step, {ranks} ranks"
        with refused(given, the_ranks=str(ranks), the_step=str(sequences), **words):
            mine.divide(recipe(mine, sequences, 1), ranks)
    with refused("8 sequences, 2 ranks, micro_batch = 3", the_nearest="2", the_share="4"):
        mine.divide(recipe(mine, 8, 3), 2)


def as_rank(own, mine, rank, ranks):
    """The same Trainer as one of several ranks, for what it reads and draws."""
    own.runtime = dataclasses.replace(*on_cpu(mine), rank=rank, world_size=ranks)
    own.micro_batch = mine.divide(own.recipe, ranks)


def reading(own, mine, step, rank=0, ranks=1):
    """The positions that a rank reads in a step, a list for each round."""
    as_rank(own, mine, rank, ranks)
    own.step, seen, batches = step, [], own.batches
    own.batches = lambda first, count: seen.append((first, count)) or batches(first, count)
    try:
        own.accumulate()
    finally:
        own.batches = batches
    return [[*range(first, first + count)] for first, count in seen]


@check("a Runtime is rank 0 of 1 unless it is told, and rank 0 is the main one", step="share")
def who(mine):
    found = on_cpu(mine)[0]
    equal((found.rank, found.world_size), (0, 1), given="rank and world_size of a lone process")
    mains = [dataclasses.replace(found, rank=rank, world_size=3).is_main for rank in range(3)]
    equal(mains, [True, False, False], given="is_main of each of 3 ranks")


@check("micro-batches are those of a rank's share", step="share", until="25")
def share_of(mine):
    here = dataclasses.replace(on_cpu(mine)[0], rank=1, world_size=4)
    with small_trainer(mine, TEXT, MODEL, TRAIN | {"micro_batch": 8}, here) as own:
        causes = ["divide is asked for one rank still: give it runtime.world_size"]
        equal(own.micro_batch, 2, given="micro_batch, 8 sequences on 4 ranks", causes=causes)


@check("on any number of ranks, a step reads the same sequences, each once", step="share")
def same_reading(mine):
    for rows in (2, 8):
        with small_trainer(mine, TEXT, MODEL, TRAIN | {"micro_batch": rows}) as own:
            for ranks in (1, 2, 8):
                for step in (0, 3)[:ranks]:
                    parts = [reading(own, mine, step, rank, ranks) for rank in range(ranks)]
                    seen = sorted(p for part in parts for some in part for p in some)
                    causes = [
                        "each rank does all rounds: the step is as many times too large",
                        "ranks read the same sequences",
                        "the step's place is not the product of its number and its size",
                    ]
                    given = f"positions of step {step}, {ranks} ranks, micro_batch = {rows}"
                    equal(seen, [*range(8 * step, 8 * step + 8)], given, causes)
                    sizes = {len(part) for part in parts}
                    equal(len(sizes), 1, given=f"different numbers of rounds, {ranks} ranks")


@check("the sequences of a round lie side by side", step="share")
def rounds(mine):
    with small_trainer(mine, TEXT, MODEL, TRAIN) as own:
        for ranks, wanted in ((1, [[0, 1], [2, 3], [4, 5], [6, 7]]), (2, [[0, 1], [4, 5]])):
            given = f"what rank 0 of {ranks} reads in step 0, round by round, micro_batch = 2"
            causes = ["each rank reads a piece of its own; rounds should lie side by side"]
            equal(reading(own, mine, 0, 0, ranks), wanted, given=given, causes=causes)
        given = "what rank 1 of 2 reads in step 0, round by round, micro_batch = 2"
        causes = ["each rank reads a piece of its own; rounds should lie side by side"]
        equal(reading(own, mine, 0, 1, 2), [[2, 3], [6, 7]], given=given, causes=causes)


@check("a share counts for what it is: ranks' mean gradient is that of the step", step="share")
def gradients(mine):
    import torch

    with small_trainer(mine, TEXT, MODEL, TRAIN) as own:
        own.model.double()

        def gradient(rank, ranks):
            as_rank(own, mine, rank, ranks)
            own.optimizer.zero_grad()
            loss = float(own.accumulate())
            found = torch.cat([p.grad.flatten().clone() for p in own.model.parameters()])
            return found, loss

        whole, loss = gradient(0, 1)
        for ranks in (2, 4):
            parts = [gradient(rank, ranks) for rank in range(ranks)]
            apart = float((parts[0][0] - parts[1][0]).abs().max())
            given = f"gradients of two of {ranks} ranks, before they are averaged"
            expect(apart > 1e-6, "the same", "those of other sequences", given)
            mean = sum(part for part, _ in parts) / ranks
            off = float((mean - whole).abs().max())
            causes = ["divided by the rounds of one rank alone, which are fewer"]
            given = f"the mean of {ranks} ranks' gradients, and one rank's"
            expect(off < 1e-6, f"{off:.3g} apart", "the same to 1e-6", given, causes)
            losses = sum(part for _, part in parts) / ranks
            expect(abs(losses - loss) < 1e-5, f"{losses:.6f}", f"{loss:.6f}", "the mean loss")


@check("dropout draws other numbers on each rank, and the same ones each time", step="share")
def chance(mine):
    import torch

    def drawn(own, step, rank):
        as_rank(own, mine, rank, 4)
        own.step = step
        own.reseed()
        return torch.rand(4).tolist()

    with small_trainer(mine, TEXT, MODEL, TRAIN | {"seed": 6}) as other_run:
        neighbour = drawn(other_run, 3, 0)
    with small_trainer(mine, TEXT, MODEL, TRAIN | {"seed": 5}) as own:
        one = drawn(own, 3, 1)
        given = "numbers drawn in step 3 by rank 1 with seed 5, and by rank 0 with seed 6"
        expect(neighbour != one, "the same", "other ones", given, ["seed and rank are added up"])
        equal(drawn(own, 3, 1), one, given="numbers drawn by rank 1 in step 3, twice")
        causes = ["the rank does not go into the seed", "step and rank are added up"]
        for step, rank in ((3, 0), (3, 2), (4, 0), (2, 2)):
            other = drawn(own, step, rank)
            given = f"numbers drawn by rank 1 in step 3, and by rank {rank} in step {step}"
            expect(other != one, "the same", "other ones", given, causes)


DOUBLINGS = {(): [64] * 6, (2,): [32, 32] + [64] * 4, (1, 4): [16, 32, 32, 32, 64, 64]}


@check("from the given steps on, a step takes twice as many tokens", step="share")
def doubles(mine):
    for double_at, sizes in DOUBLINGS.items():
        train = mine.TrainConfig(tokens_per_step=64, double_at=double_at)
        given = f"double_at = {double_at}, tokens_per_step = 64"
        seen = [mine.tokens_of(step, train) for step in range(6)]
        causes = [
            "a step that is named is the first larger one, so no longer one that is to come",
            "halved once only",
        ]
        equal(seen, sizes, given=f"tokens of the steps 0 to 5, {given}", causes=causes)
        for step in range(7):
            found = mine.tokens_before(step, train)
            equal(found, sum(sizes[:step]), given=f"tokens before step {step}, {given}")
    train = mine.TrainConfig(tokens_per_step=2**19, double_at=(10**6, 10**7))
    found = mine.tokens_before(10**8, train)
    wanted = 10**6 * 2**17 + 9 * 10**6 * 2**18 + 9 * 10**7 * 2**19
    given = "tokens before step 100 million, double_at one million and ten"
    equal(found, wanted, given=given)


@check("steps that grow still read every sequence in turn", step="share")
def in_turn(mine):
    for double_at, sizes in DOUBLINGS.items():
        train = TRAIN | {"double_at": double_at}
        with small_trainer(mine, TEXT, MODEL, train) as own:
            for ranks in (1, 2):
                seen = []
                for step in range(6):
                    parts = [reading(own, mine, step, rank, ranks) for rank in range(ranks)]
                    seen += sorted(p for part in parts for some in part for p in some)
                causes = [
                    "a step's place is still its number times its size",
                    "the micro-batch is fitted to the largest step: small steps have no round",
                ]
                given = f"what 6 steps read, double_at = {double_at}, {ranks} ranks"
                equal(seen, [*range(sum(sizes) // 8)], given=given, causes=causes)


@check("micro-batches go into the smallest step", step="share")
def smallest(mine):
    for double_at, wanted in (((), 4), ((2,), 4), ((1, 4), 2), ((1, 4, 5), 1)):
        train = mine.TrainConfig(tokens_per_step=64, micro_batch=4, double_at=double_at)
        made = mine.Recipe(model=mine.ModelConfig(**MODEL), train=train)
        given = f"8 sequences a step, micro_batch = 4, double_at = {double_at}"
        causes = ["divide takes the largest step's size, the recipe's, not the first step's"]
        equal(mine.divide(made, 1), wanted, given=given, causes=causes)


@contextlib.contextmanager
def folder_of(mine):
    """A recipe in a folder with its text; gives the folder and a way to run the command there."""
    lines = ["[model]", "layers = 1", "heads = 2", "width = 16", "context = 16", "[train]"]
    lines += ["tokens_per_step = 64", "steps = 4", "log_every = 100", "[sample]", "max_tokens = 1"]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data = text_data(mine, place, TEXT)
        lines += ["[data]", f"path = '{Path(data.path).as_posix()}'"]
        lines += [f"tokenizer = '{data.tokenizer}'"]
        (place / "tiny.toml").write_text("\n".join(lines), encoding="utf-8")
        yield place, functools.partial(run_recipe, mine, place)


@check("a run keeps its whole recipe, and goes on by it", step="own")
def kept(mine):
    with folder_of(mine) as (place, run):
        equal(run("--set", "train.lr=0.0123")[0], 0, given="the status of a new run")
        own = place / "runs" / "tiny" / "recipe.toml"
        expect(own.exists(), "no such file", "a recipe", "runs/tiny/recipe.toml after a run")
        found = mine.load_recipe(own)
        equal(found.train.lr, 0.0123, given="train.lr of the kept recipe, by --set")
        equal(mine.load_recipe(own).model.width, 16, given="model.width of the kept recipe")
        text = (place / "tiny.toml").read_text(encoding="utf-8")
        (place / "tiny.toml").write_text(text.replace("steps = 4", "steps = 99"), encoding="utf-8")
        equal(run("--resume", "--set", "train.steps=6")[0], 0, given="the status of --resume")
        found = mine.load_recipe(own)
        causes = ["the recipe that is named counts, which somebody has changed"]
        equal((found.train.steps, found.train.lr), (6, 0.0123), "steps, lr after it", causes)
        steps = sorted(path.name for path in (own.parent / "checkpoints").iterdir())
        equal(steps, ["step_000004", "step_000006"], given="its checkpoints")


@check("what would make it another run is refused", step="own")
def another(mine):
    with folder_of(mine) as (_, run):
        run()
        for wish in ("train.seed=7", "train.tokens_per_step=128", "model.dropout=0.5"):
            status, said = run("--resume", "--set", "train.steps=6", "--set", wish)
            expect(status != 0, f"status {status}", "not 0", f"--resume --set {wish}")
            key = wish.partition("=")[0]
            expect(key in said, said.strip(), f"a message with {key}", f"--resume --set {wish}")
        status, said = run("--resume", "--set", "train.steps=6", "--set", "train.log_every=3")
        equal(status, 0, given="--resume --set train.log_every=3, which harms nobody")
        status, _ = run()
        expect(status != 0, f"status {status}", "not 0", "a second start without --resume")


@check("a run goes on with its own text only", step="same")
def same_text(mine):
    with folder_of(mine) as (place, run):
        run()
        text_data(mine, place, TEXT + b"ab" * 40)
        status, _ = run("--resume", "--set", "train.steps=6")
        expect(status != 0, f"status {status}", "not 0", "--resume with a longer text")
        text_data(mine, place, TEXT)
        status, _ = run("--resume", "--set", "train.steps=6")
        equal(status, 0, given="--resume with the text as it was")
        state = place / "runs" / "tiny" / "checkpoints" / "step_000006" / "state.json"
        equal(json.loads(state.read_text())["tokens"], 6 * 64, given="tokens in state.json")
        status, _ = run("--resume", "--set", "train.steps=5")
        expect(status != 0, f"status {status}", "not 0", "--resume to 5 steps, when 6 are done")


@check("a run goes on with its own tokenizer only", step="same")
def same_tokenizer(mine):
    with folder_of(mine) as (place, run):
        run()
        manifest = place / "text" / "manifest.json"
        characters = "".join(map(chr, range(256)))  # as many ids as bytes have
        found = json.loads(manifest.read_text("utf-8"))
        found["tokenizer"] = {"kind": "char", "characters": characters}
        manifest.write_text(json.dumps(found), encoding="utf-8")
        status, _ = run("--resume", "--set", "train.steps=6")
        causes = ["the run's tokenizer.json is not compared with that of the text"]
        given = "--resume with a text of another tokenizer, which has as many ids"
        expect(status != 0, f"status {status}", "not 0", given, causes)


def written(mine, folder):
    """The lines of a run's metrics."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@check("what is measured is appended, by one rank only", step="log")
def appended(mine):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for is_main in (True, True, False):
            log = mine.Log(folder, is_main)
            for step in (1, 2):
                words = {"step": step, "tokens": 8 * step, "loss": 2.5, "lr": 0.1}
                words |= {"grad_norm": float("nan"), "tokens_per_second": 1.0}
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    log.write("train", **words)
            said = "step      2  loss 2.5000" in out.getvalue()
            equal(said, is_main, given=f"whether it is said on stdout, is_main = {is_main}")
        found = written(mine, folder)
    seen = [(line["attempt"], line["step"]) for line in found]
    causes = ["the file is opened to be written anew, not to be appended to"]
    wanted = [(1, 1), (1, 2), (2, 1), (2, 2)]
    equal(seen, wanted, "attempt and step of the lines of two attempts", causes)
    equal(found[0]["kind"], "train", given="the kind of a line")
    equal(found[0]["grad_norm"], None, given="a number that is none, which JSON does not know")


@check("lines that a crash has torn are skipped", step="log")
def torn(mine):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        equal(mine.read_metrics(folder), [], given="the lines of a run that has none")
        whole = '{"kind": "train", "attempt": 1, "step": 1}\n'
        (folder / "metrics.jsonl").write_text(whole + '{"kind": "tra\n' + whole + '{"ki')
        equal(len(mine.read_metrics(folder)), 2, given="lines that are read, of 2 whole, 2 torn")


@check("a run tells its steps, its validation and what happened, attempt by attempt", step="say")
def told(mine):
    with folder_of(mine) as (place, run):
        run("--set", "train.log_every=2")
        folder = place / "runs" / "tiny"
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"kind": "tra')
        run("--set", "train.log_every=2", "--resume", "--set", "train.steps=6")
        found = mine.read_metrics(folder)
    seen = [(line["attempt"], line["step"]) for line in found if line["kind"] == "train"]
    causes = ["the next attempt's first line is written behind a torn one"]
    equal(seen, [(1, 2), (1, 4), (2, 6)], "attempt and step of lines of kind train", causes)
    seen = [(line["attempt"], line["step"]) for line in found if line["kind"] == "val"]
    equal(seen, [(1, 4), (2, 6)], given="attempt and step of lines of kind val")
    events = [line["event"] for line in found if line["kind"] == "event"]
    for name in ("start", "resume"):
        expect(name in events, f"{events}", f"one that is {name}", "events of a run resumed once")
    keys = {"kind", "attempt", "step", "tokens", "loss", "lr", "grad_norm"}
    line = next(line for line in found if line["kind"] == "train")
    equal(sorted(keys - line.keys()), [], given="what a line of kind train lacks")
    equal(line["tokens"], 128, given="tokens of 2 steps of 64")


@check("a run that another process is training is left alone", step="locked")
def left_alone(mine):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        with mine.locked(folder, True):
            with refused("a second lock on the same run", the_run=folder.name):
                with mine.locked(folder, True):
                    pass
            with mine.locked(folder, False):
                pass  # other ranks of the same run hold none
        with mine.locked(folder, True):
            pass


@check("a run says in one word how it stands", step="state")
def stands(mine):
    with folder_of(mine) as (place, run):
        equal(mine.core.runlog.read_state(place / "runs" / "tiny"), "", given="state of no run")
        run()
        equal(mine.core.runlog.read_state(place / "runs" / "tiny"), "DONE", given="its state after")
        kind = mine.core.train.Trainer
        update, seen = kind.update, []

        def breaking(self):
            seen.append(mine.core.runlog.read_state(place / "runs" / "tiny"))
            raise ValueError("something breaks")

        kind.update = breaking
        try:
            with contextlib.suppress(ValueError):
                run("--resume", "--set", "train.steps=6")
        finally:
            kind.update = update
        equal(seen, ["RUNNING"], given="its state while it is trained")
        equal(mine.core.runlog.read_state(place / "runs" / "tiny"), "FAILED", given="when it broke")


@check("a bad step is left out if the recipe says so, and stops the run otherwise", step="state")
def bad_step(mine):
    import torch

    for wish, wanted in (("stop", [1]), ("skip", [1, 2, 3])):
        train = TRAIN | {"on_nonfinite": wish, "steps": 3}
        with small_trainer(mine, TEXT, MODEL, train) as own:
            update, done = own.accumulate, []

            def accumulate(own=own, update=update, done=done):
                loss = update()
                done.append(own.step + 1)
                return loss * torch.nan if own.step == 0 else loss

            own.accumulate = accumulate
            with contextlib.suppress(mine.UserError), contextlib.redirect_stdout(io.StringIO()):
                own.run()
        equal(done, wanted, given=f"steps whose gradients are taken, on_nonfinite = {wish}")
    good = (10, 21)  # so twice ten bad ones follow each other, never eleven
    with small_trainer(mine, TEXT, MODEL, TRAIN | {"on_nonfinite": "skip", "steps": 22}) as own:
        update = own.accumulate
        own.accumulate = lambda: update() * (1.0 if own.step in good else torch.nan)
        with contextlib.suppress(mine.UserError), contextlib.redirect_stdout(io.StringIO()):
            own.run()
        causes = ["what is counted is not set back to 0 by a good step"]
        given = "how far a run comes: ten bad steps, a good one, ten bad ones, a good one"
        equal(own.step, 22, given=given, causes=causes)
