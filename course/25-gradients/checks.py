"""What several ranks must be: one model, and the run of one rank.

Where a system cannot fork, there are no ranks to be checked, and these pass.
"""

import contextlib
import io
import time
from types import SimpleNamespace

import numpy as np

from buildgpt.course.checking import (
    acting,
    check,
    equal,
    expect,
    on_cpu,
    recipe_folder,
    small_trainer,
    stream,
)
from buildgpt.course.ranks import can_fork, on_ranks

TEXT = bytes(range(97, 123)) * 40
MODEL = {"context": 8, "layers": 1, "heads": 2, "width": 16, "init_std": 0.3}
TRAIN = {"tokens_per_step": 64, "micro_batch": 1, "warmup_steps": 0, "lr": 0.01, "log_every": 100}


def joined(mine, **wishes):
    """The Runtime of a process that has joined the others, on the CPU."""
    return mine.start_runtime(mine.RuntimeConfig(device="cpu", dtype="fp32", **wishes))


@check("what each rank hands in is added up, for all of them", step="join")
def sums(mine):
    import torch

    alone = on_cpu(mine)[0].sum(torch.tensor([2.0, 3.0]))
    equal(alone.tolist(), [2.0, 3.0], given="the sum over one rank")
    if not can_fork():
        return

    def work(rank):
        here = joined(mine)
        values = torch.tensor([rank + 1.0, 10.0])
        found = here.sum(values).tolist()
        return [here.rank, here.world_size, found, values.tolist()]

    for rank, answer in enumerate(on_ranks(3, work)):
        given = "rank, world size, sum of [rank + 1, 10] over 3 ranks, and what was handed in"
        causes = ["the tensor that was handed in is overwritten"]
        equal(answer, [rank, 3, [6.0, 30.0], [rank + 1.0, 10.0]], given, causes)


@check(
    "of a number that differs, all ranks get rank 0's; a flag counts wherever it is up",
    step="replica",
)
def agreements(mine):
    alone = on_cpu(mine)[0]
    seen = [alone.agree(0.1), alone.any(False), alone.any(True)]
    equal(seen, [0.1, False, True], given="agree(0.1), any(False), any(True) of one rank")
    if not can_fork():
        return

    def work(rank):
        here = joined(mine)
        value = 2.0**40 + 0.25 if rank == 0 else 7.0
        flags = [here.any(rank == up) for up in (0, 2)] + [here.any(False)]
        return [here.agree(value), *flags]

    given = "on 3 ranks: agree(2**40 + 0.25 on rank 0, 7 on others), and any: on rank 0, 2, none"
    causes = [
        "the sum of all values, where only rank 0 hands in its own",
        "32 bits are too few for a number that must arrive whole: sum it in float64",
    ]
    equal(on_ranks(3, work), [[2.0**40 + 0.25, True, True, False]] * 3, given, causes)


class Alone:
    """Their Runtime as one of several ranks, but the sum of all is only its own."""

    def __new__(cls, mine, rank, ranks):
        methods = {"sum": lambda self, values: values.clone()}
        return acting(on_cpu(mine)[0], methods, rank=rank, world_size=ranks)


class Counter:
    """A stand-in for a model: the loss of each target is the target itself; it says what it saw."""

    def __new__(cls, context):
        import torch

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.config, self.seen = SimpleNamespace(context=context), []

            def forward(self, ids, targets=None, reduction="mean"):
                self.seen += ids[:, 0].tolist()
                return targets.float()

        return Model()


@check("ranks together score each window once", step="join")
def windows(mine):
    for count, context, ranks in ((9, 4, 1), (9, 4, 2), (41, 4, 3), (6, 4, 4), (4099, 1, 2)):
        ids = np.arange(count, dtype=np.uint16) % 250
        tokens = stream(mine, ids)
        tokenizer = mine.ByteTokenizer()
        held = SimpleNamespace(val=tokens, val_tokens=count, train=tokens, tokenizer=tokenizer)
        seen, total = [], 0.0
        for rank in range(ranks):
            model = Counter(context)
            total += mine.evaluate(model, held, Alone(mine, rank, ranks)).loss
            seen += model.seen
        given = f"{count} tokens, T = {context}, {ranks} ranks"
        causes = ["every rank scores all windows", "the last group is left out"]
        wanted = sorted(int(i) for i in ids[: count - 1 : context])
        equal(sorted(seen), wanted, f"how all windows begin that are scored, {given}", causes)
        mean = float(ids[1:].mean())
        expect(
            abs(total - mean) < 1e-9, f"{total}", f"{mean}", f"ranks' parts of the loss, {given}"
        )


@check("the validation loss has the same bits on any number of ranks", step="join")
def same_bits(mine):
    if not can_fork():
        return

    def loss(rank):
        with small_trainer(mine, TEXT, MODEL, TRAIN, joined(mine)) as own:
            found = mine.evaluate(own.model, own.corpus, own.runtime).loss.hex()
            return [own.runtime.world_size, found]

    with small_trainer(mine, TEXT, MODEL, TRAIN) as own:
        alone = mine.evaluate(own.model, own.corpus, own.runtime).loss.hex()
    for ranks in (2, 4):
        causes = ["sums are added up in another order: give each window a place of its own"]
        given = f"how many ranks each of {ranks} knows of, and its loss; one alone finds {alone}"
        equal(on_ranks(ranks, loss), [[ranks, alone]] * ranks, given, causes)


def gradient(own):
    """The gradient of a step, and its loss."""
    import torch

    loss = own.accumulate()
    return torch.cat([p.grad.flatten() for p in own.model.parameters()]).tolist(), float(loss)


def far(one, other):
    """How far two gradients are apart, in shares of the first one's size."""
    one, other = np.array(one), np.array(other)
    return float(np.linalg.norm(one - other) / np.linalg.norm(one))


LATE = [
    "the flag is set after the forward pass, which reads it: a micro-batch too late",
    "the last round is not the one whose gradients are averaged",
    "the sum of the ranks' gradients, not their mean",
]


@check("R ranks and A micro-batches have the gradient of one rank and R A", step="replica")
def one_gradient(mine):
    if not can_fork():
        return
    with small_trainer(mine, TEXT, MODEL, TRAIN) as own:
        whole, _ = gradient(own)
    for ranks, rows in ((2, 4), (2, 1), (4, 1)):
        train = TRAIN | {"micro_batch": rows}

        def work(rank, train=train):
            with small_trainer(mine, TEXT, MODEL, train, joined(mine)) as own:
                return gradient(own)[0]

        for rank, found in enumerate(on_ranks(ranks, work)):
            off, rounds = far(whole, found), 8 // ranks // rows
            given = f"rank {rank} of {ranks}, {rounds} micro-batches, against one rank"
            expect(off < 1e-5, f"a gradient that is {off:.2g} off", "1e-5 at most", given, LATE)


@check("gradients are averaged once a step", step="replica")
def one_exchange(mine):
    if not can_fork():
        return

    def work(rank):
        import torch.distributed as dist
        from torch.nn.parallel import DistributedDataParallel as Wrapper

        seen, begin = [], Wrapper.__init__

        def hook(state, bucket):
            seen.append(bucket.index())
            future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
            return future.then(lambda done: done.value()[0] / 2)

        def watched(self, *words, **more):
            begin(self, *words, **more)
            self.register_comm_hook(None, hook)

        Wrapper.__init__ = watched
        with small_trainer(mine, TEXT, MODEL, TRAIN, joined(mine)) as own:
            own.update()
            seen.clear()
            own.update()
            weights = [p.detach().double().sum().item() for p in own.model.parameters()]
        return [len(seen), len(set(seen)), weights]

    (_, _, one), (_, _, other) = found = on_ranks(2, work)
    expect(one == other, "other weights", "the same", "two ranks after 2 steps", LATE)
    for exchanged, buckets, _ in found:
        causes = ["the flag is never down: each micro-batch's gradients are sent around"]
        given = "exchanges of a bucket in a step of 4 micro-batches, and buckets"
        equal([exchanged, buckets], [buckets, buckets], given, causes)


@check("after some steps all ranks have the same weights, those of one rank", step="replica")
def one_model(mine):
    if not can_fork():
        return

    def work(rank):
        import torch

        runtime = joined(mine) if rank >= 0 else None
        with small_trainer(mine, TEXT, MODEL, TRAIN, runtime) as own:
            for _ in range(3):
                own.update()
            weights = torch.cat([p.detach().flatten() for p in own.model.parameters()])
            return weights.tolist(), own.loss

    alone, loss = work(-1)
    (one, first), (other, second) = on_ranks(2, work)
    expect(one == other, "other bits", "the same", "the weights of 2 ranks after 3 steps", LATE)
    expect(far(alone, one) < 1e-3, f"{far(alone, one):.2g} off", "1e-3", "and those of one rank")
    equal(first, second, given="the losses that two ranks report for a step")
    expect(abs(first - loss) < 1e-4, f"{first:.5f}", f"{loss:.5f}", "a step's loss, 2 ranks and 1")


def folder_of(mine, **train):
    """A recipe in a folder with its text, for the command."""
    return recipe_folder(mine, TEXT, MODEL, TRAIN | {"final_lr": 1.0} | train)


def trained(mine, place, name, ranks, *wishes, resume=False):
    """Train on so many ranks; what each of them says."""

    def work(rank):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            words = (place / "tiny.toml", name, place / "runs", [*wishes], resume)
            mine.core.train.train(*words)
        return out.getvalue()

    return on_ranks(ranks, work)


def weights(mine, place, name, step):
    """The weights in a checkpoint, by name."""
    folder = place / "runs" / name / "checkpoints" / f"step_{step:06d}"
    return mine.read_tensors(folder, "model.safetensors")


def apart(one, other):
    """How far weights are apart, in shares of their size; AdamW enlarges what rounding differs."""
    off = sum(float((one[name] - other[name]).square().sum()) for name in one)
    return (off / sum(float(tensor.square().sum()) for tensor in one.values())) ** 0.5


@check("one rank speaks and writes, and a run ends on all of them", step="main")
def one_voice(mine):
    if not can_fork():
        return
    with folder_of(mine, steps=4) as place:
        said = trained(mine, place, "two", 2, "train.log_every=2")
        seen = [line["step"] for line in mine.read_metrics(place / "runs" / "two")]
        there = sorted(path.name for path in (place / "runs" / "two" / "checkpoints").iterdir())
    expect("step      2" in said[0], said[0][:80], "its steps", "what rank 0 of 2 says")
    equal(said[1], "", given="what rank 1 of 2 says")
    equal(seen.count(2), 1, given="lines of step 2 in metrics.jsonl, trained on 2 ranks")
    equal(there, ["step_000004"], given="checkpoints")


@check("a run goes on on another number of ranks, and stays the same to rounding", step="main")
def goes_on(mine):
    if not can_fork():
        return
    with folder_of(mine, steps=4) as place:
        trained(mine, place, "one", 1)
        trained(mine, place, "two", 2, "train.steps=2")
        trained(mine, place, "two", 1, "train.steps=4", resume=True)
        off = apart(*(weights(mine, place, name, 4) for name in ("one", "two")))
    given = "weights after 2 steps on 2 ranks and 2 on one, and after 4 on one"
    expect(off < 1e-2, f"{off:.2g} off", "1e-2 at most", given)


@check("so many steps and so many more are all of them, bit by bit, on 4 ranks", step="collect")
def settled(mine):
    import torch

    if not can_fork():
        return
    with folder_of(mine) as place:
        trained(mine, place, "one", 4, "train.steps=4")
        trained(mine, place, "two", 4, "train.steps=2")
        trained(mine, place, "two", 4, "train.steps=4", resume=True)
        one, two = (weights(mine, place, name, 4) for name in ("one", "two"))
    same = all(torch.equal(one[name], two[name]) for name in one)
    causes = ["the first step after a resume sums in other buckets than later ones"]
    expect(same, "other bits", "the same", "4 steps, and 2 + 2, on 4 ranks: the weights", causes)


@check("with fsdp each rank holds a part, and training is the same", step="shard")
def parts(mine):
    if not can_fork():
        return

    def work(rank):
        with small_trainer(mine, TEXT, MODEL, TRAIN, joined(mine, parallel="fsdp")) as own:
            held = sum(p.to_local().numel() for p in own.model.parameters())
            total = sum(p.numel() for p in own.model.parameters())
            for _ in range(3):
                own.update()
            return held / total, own.loss

    with small_trainer(mine, TEXT, MODEL, TRAIN) as own:
        for _ in range(3):
            own.update()
    for rank, (share, loss) in enumerate(on_ranks(2, work)):
        expect(0.4 < share < 0.6, f"{share:.2f}", "about half", f"of the weights, rank {rank} of 2")
        given = "the loss of step 3, on 2 ranks with fsdp, and on one"
        expect(abs(loss - own.loss) < 1e-4, f"{loss:.5f}", f"{own.loss:.5f}", given)


@check("a checkpoint does not know how many ranks wrote it, or how", step="collect")
def no_parts(mine):
    if not can_fork():
        return
    with folder_of(mine, steps=4) as place:
        trained(mine, place, "one", 1)
        trained(mine, place, "two", 2, "train.steps=2", "runtime.parallel=fsdp")
        trained(mine, place, "two", 2, "train.steps=3", resume=True)
        trained(mine, place, "two", 1, "train.steps=4", resume=True)
        one, two = (weights(mine, place, name, 4) for name in ("one", "two"))
    equal(sorted(one), sorted(two), given="names of weights, by 1 rank and by 2 with fsdp")
    off = apart(one, two)
    expect(off < 1e-2, f"{off:.2g} off", "1e-2 at most", "weights of 2 + 1 + 1 steps, and of 4")


@check("a rank that falls silent is named by the others", step="silent")
def named(mine):
    if not can_fork():
        return

    def work(rank):
        here = joined(mine, timeout_seconds=2.0)
        mine.core.runtime.GRACE_SECONDS = 1.5
        here.wait()
        if rank == 1:
            return [1]  # and never comes to what the others wait for
        try:
            here.wait()
        except RuntimeError:
            return here.silent_ranks()

    given = "who is silent, as ranks 0 and 2 find it, when rank 1 stops taking part"
    equal(on_ranks(3, work), [[1], [1], [1]], given=given)


@check("while rank 0 writes a checkpoint, the others wait for it", step="main")
def waits(mine):
    if not can_fork():
        return

    def work(rank):
        with small_trainer(mine, TEXT, MODEL, TRAIN, joined(mine)) as own:
            state = own.state
            own.state = lambda: (time.sleep(0.6 if rank == 0 else 0.0), state())[1]
            began = time.monotonic()
            own.save()
            return time.monotonic() - began > 0.5

    causes = ["save ends without runtime.wait()"]
    given = "whether a save lasts half a second on each of 2 ranks, where rank 0 takes so long"
    equal(on_ranks(2, work), [True, True], given, causes)
