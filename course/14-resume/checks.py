"""What resuming must be: the same bits as if nothing had happened."""

import contextlib
import io
import json
import tempfile
from pathlib import Path

from buildgpt.course.checking import check, equal, expect, refused, text_data, trainer, works

SEVERAL = (0, 7, 500)


@contextlib.contextmanager
def place():
    """A folder that is forgotten."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def some():
    """Tensors under names."""
    import torch

    torch.manual_seed(1)
    return {"a.weight": torch.randn(3, 4), "b": torch.randn(5, 2).T, "c/step": torch.tensor(3.0)}


@check("what was saved comes back, to the last bit", step="save")
def comes_back(mine):
    import torch

    for step in SEVERAL:
        with place() as run:
            mine.save_checkpoint(run, step, some(), {"x/y": torch.ones(2)}, {"tokens": 12})
            folder = run / "checkpoints" / f"step_{step:06d}"
            found = sorted(str(path.relative_to(run)) for path in run.glob("*/*"))
            expect(folder.is_dir(), found, f"checkpoints/{folder.name}", f"step {step} saved")
            back = mine.read_tensors(folder, "model.safetensors")
            equal(sorted(back), sorted(some()), given="names of tensors")
            for name, tensor in some().items():
                same = torch.equal(back[name], tensor) and back[name].dtype == tensor.dtype
                expect(same, "other numbers", "the same bits", f"the tensor {name}")
            moments = mine.read_tensors(folder, "optimizer.safetensors")
            equal(moments["x/y"].tolist(), [1.0, 1.0], given="optimizer.safetensors, x/y")
            state = mine.read_state(folder)
            equal((state["step"], state["tokens"]), (step, 12), given="step and tokens of state")


@check("no file of a checkpoint can run anything", step="save")
def no_pickle(mine):
    with place() as run:
        mine.save_checkpoint(run, 3, some(), some(), {})
        for path in (run / "checkpoints" / "step_000003").iterdir():
            causes = ["torch.save writes a pickle, which runs code when it is read"]
            known = path.suffix in (".safetensors", ".json")
            expect(known, path.name, "safetensors or JSON", "a checkpoint's files", causes)
            head = path.read_bytes()[:8]
            if path.suffix == ".safetensors":
                size = int.from_bytes(head, "little")
                json.loads(path.read_bytes()[8 : 8 + size])


def pair(mine, seed=0):
    """A model and its optimizer, float64."""
    import torch

    torch.manual_seed(seed)
    model = mine.GPT(mine.ModelConfig(layers=1, heads=2, width=8, context=8, vocab_size=20))
    model = model.double()
    config = mine.TrainConfig(lr=0.1, warmup_steps=0)
    return model, mine.build_optimizer(model, config)


def update(model, optimizer, seed):
    """One update on tokens of a seed."""
    import torch

    ids = torch.randint(20, (2, 9), generator=torch.Generator().manual_seed(seed))
    model(ids[:, :-1], ids[:, 1:]).backward()
    optimizer.step()
    optimizer.zero_grad()


@check("an optimizer that was put back goes on as the old one", step="moments")
def moments(mine):
    import torch

    model, optimizer = pair(mine)
    for seed in range(3):
        update(model, optimizer, seed)
    saved = {k: v.clone() for k, v in mine.optimizer_tensors(model, optimizer).items()}
    tensors = all(isinstance(tensor, torch.Tensor) for tensor in saved.values())
    expect(tensors and saved, f"{len(saved)} values", "tensors", "optimizer_tensors")
    other, fresh = pair(mine, seed=5)
    other.load_state_dict(model.state_dict())
    causes = [
        "optimizer.state is a dictionary by the parameters themselves, not by their names",
        "a moment or the count of steps is missing",
        "moments of other parameters: it is its groups that the optimizer counts them by",
    ]
    with works("load_optimizer_tensors of what optimizer_tensors gave", causes):
        mine.load_optimizer_tensors(other, fresh, saved)
    for number in (3, 4):
        update(model, optimizer, number)
        update(other, fresh, number)
        same = all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters()))
        given = f"weights after update {number + 1} of both"
        expect(same, "other weights", "the same bits", given, causes)


@check("a name says which parameter it belongs to", step="moments")
def named(mine):
    model, optimizer = pair(mine)
    equal(mine.optimizer_tensors(model, optimizer), {}, given="optimizer_tensors before a step")
    update(model, optimizer, 1)
    names = {name for name, _ in model.named_parameters()}
    found = {key.rpartition("/")[0] for key in mine.optimizer_tensors(model, optimizer)}
    equal(found, names, given="what stands before the last / in the names")


def run(mine, folder, start=None, **wishes):
    """A Trainer that has trained to its end, from a checkpoint if one is given."""
    model = {
        "context": 16,
        "layers": 1,
        "heads": 2,
        "width": 16,
        "dropout": wishes.pop("drop", 0.0),
    }
    train = {"steps": 8, "tokens_per_step": 64, "lr": 0.01, "warmup_steps": 2, "log_every": 1000}
    if mine.done("14-resume/damaged"):
        train["keep_checkpoints"] = 10
    recipe = mine.Recipe(
        model=mine.ModelConfig(**model),
        data=text_data(mine, folder.parent, b"abcab cab " * 60),
        train=mine.TrainConfig(**(train | wishes)),
    )
    own = trainer(mine, recipe, folder)
    if start:
        own.restore(start)
    own.began = own.step
    with contextlib.redirect_stdout(io.StringIO()):
        own.run()
    return own


def same_bits(one, other):
    """Whether two trainers' weights are equal to the last bit."""
    import torch

    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values())
    return all(torch.equal(a, b) for a, b in pairs)


@check("so many steps and so many more are all of them, bit by bit", step="restore")
def exact(mine):
    for every in (1, 4, 5):
        with place() as runs:
            whole = run(mine, runs / "one", checkpoint_every=every)
            own = run(mine, runs / "two", runs / "one" / "checkpoints" / f"step_{every:06d}")
        causes = [
            "AdamW's means are not put back",
            "saved before the update of that step",
        ]
        given = f"8 steps, and {every} + {8 - every}: the weights at the end"
        restored = f"the step after restore, of the checkpoint of step {every}"
        forgotten = ["restore does not read the step: rates and batches would begin anew"]
        equal(own.began, every, given=restored, causes=forgotten)
        equal((own.step, whole.step), (8, 8), given="steps done")
        expect(same_bits(own, whole), "other bits", "the same", given, causes)
        equal(own.loss, whole.loss, given="the last loss")


@check("a run saves every so many steps, and at its end", step="restore")
def saves(mine):
    for every, wanted in ((3, ["step_000003", "step_000006", "step_000008"]), (0, ["step_000008"])):
        with place() as runs:
            own = run(mine, runs / "one", checkpoint_every=every)
            found = sorted(path.name for path in (runs / "one" / "checkpoints").iterdir())
            weights = mine.read_tensors(
                runs / "one" / "checkpoints" / wanted[-1], "model.safetensors"
            )
            given = f"checkpoints of 8 steps, checkpoint_every = {every}"
            equal(found, wanted, given=given)
            last = own.model.state_dict()
            same = all(bool((weights[name] == last[name]).all()) for name in last)
            expect(same, "other weights", "the final ones", "the last checkpoint")


@check("what dropout draws is the same after a pause, whatever was drawn in it", step="reseed")
def chance(mine):
    import torch

    with place() as runs:
        whole = run(mine, runs / "one", drop=0.5, checkpoint_every=4)
        torch.rand(17)
        own = run(mine, runs / "two", runs / "one" / "checkpoints" / "step_000004", drop=0.5)
        causes = ["the generator is seeded once, at the beginning", "seeded alike in every step"]
        given = "8 steps and 4 + 4 with dropout = 0.5: the weights at the end"
        expect(same_bits(own, whole), "other bits", "the same", given, causes)
        other = run(mine, runs / "three", drop=0.5, seed=1338)

        def drawn(of, step):
            of.model.train()
            of.step = step
            of.update()
            return torch.rand(4).tolist()

        causes = ["seeded with the recipe's seed alone, which is the same in all steps"]
        twice = drawn(whole, 3) == drawn(whole, 4)
        expect(not twice, "the same twice", "other numbers", "drawn in steps 4 and 5", causes)
        causes = ["seed and step are added: then seed 1 in step 5 draws what seed 2 does in step 4"]
        alike = drawn(whole, 4) == drawn(other, 3)
        given = "drawn in step 5 with seed 1337, and in step 4 with seed 1338"
        expect(not alike, "the same twice", "other numbers", given, causes)


@check("what breaks off while it is saved leaves nothing behind", step="whole")
def broken_off(mine):
    with place() as run:
        mine.save_checkpoint(run, 5, some(), some(), {})
        with refused("a state that JSON cannot write"):
            mine.save_checkpoint(run, 6, some(), some(), {"what": object()})
        found = sorted(path.name for path in (run / "checkpoints").iterdir())
        causes = ["files are written into the folder's final name"]
        equal(
            found, ["step_000005"], given="what is there after saving step 6 broke", causes=causes
        )
        mine.save_checkpoint(run, 6, some(), some(), {})
        mine.save_checkpoint(run, 6, some(), some(), {"again": 1})
        again = mine.read_state(run / "checkpoints" / "step_000006").get("again")
        equal(again, 1, given="the state of step 6, saved a second time")


@check("checkpoints are found in the order of their steps, and nothing else is", step="whole")
def in_order(mine):
    with place() as run:
        equal(mine.find_checkpoints(run), [], given="a run that has no folder yet")
        steps = (1_000_000, 20, 999_999)
        for step in steps:
            mine.save_checkpoint(run, step, some(), some(), {})
        (run / "checkpoints" / "step_old").mkdir()
        (run / "checkpoints" / ".step_000009.tmp").mkdir()
        found = [path.name for path in mine.find_checkpoints(run)]
        wanted = [f"step_{step:06d}" for step in sorted(steps)]
        equal(found, wanted, given="steps 20, 999,999 and 1,000,000", causes=["sorted as words"])


@contextlib.contextmanager
def tiny(mine):
    """A folder with a recipe, and the words with which the command trains it below runs/tiny."""
    out, err = io.StringIO(), io.StringIO()
    with place() as folder, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        path = Path(text_data(mine, folder, b"abcab cab " * 60).path)
        lines = ["[model]", "layers = 1", "heads = 2", "width = 16", "context = 16", "[train]"]
        lines += ["tokens_per_step = 64", "[data]", f"path = '{path.as_posix()}'"]
        (folder / "tiny.toml").write_text("\n".join([*lines, "[sample]", "max_tokens = 1"]))
        yield folder, [str(folder / "tiny.toml"), "--runs", str(folder / "runs"), "--set"]


@check("the command goes on where a run stopped, if it is asked to", step="command")
def goes_on(mine):
    with tiny(mine) as (folder, words):
        begun = mine.main([*words, "train.steps=4"])
        again = mine.main([*words, "train.steps=8"])
        causes = ["main has no word --resume yet: parser.add_argument"]
        with works("main with --resume", causes):
            more = mine.main([*words, "train.steps=8", "--resume"])
        other = mine.main([*words, "train.steps=2", "--name", "other"])
        there = [path.name for path in mine.find_checkpoints(folder / "runs" / "tiny")]
        others = [path.name for path in mine.find_checkpoints(folder / "runs" / "other")]
    equal((begun, more, other), (0, 0, 0), given="statuses: new, with --resume, another name")
    expect(again, f"{again}", "not 0", "the status of starting a run that exists, without --resume")
    equal(there, ["step_000004", "step_000008"], given="checkpoints of 4 steps, resumed to 8")
    equal(others, ["step_000002"], given="checkpoints of --name other")


@contextlib.contextmanager
def saved(mine, *steps, **wishes):
    """A run with these checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        for step in steps:
            mine.save_checkpoint(Path(folder), step, some(), some(), {"x": 1}, **wishes)
        yield Path(folder)


def there(mine, run):
    """The steps of the checkpoints that are found."""
    return [int(path.name.removeprefix("step_")) for path in mine.find_checkpoints(run)]


@check("a checkpoint with a file missing or cut is none", step="complete")
def whole(mine):
    for name in ("model.safetensors", "optimizer.safetensors", "state.json", "complete.json"):
        for what in ("missing", "cut", "longer"):
            with saved(mine, 3, 5) as run:
                path = run / "checkpoints" / "step_000005" / name
                data = path.read_bytes()
                if what == "missing":
                    path.unlink()
                else:
                    path.write_bytes(data[:-9] if what == "cut" else data + b"\n ")
                wanted = [3, 5] if (what, name) == ("longer", "complete.json") else [3]
                equal(there(mine, run), wanted, given=f"steps that are found, 5's {name} {what}")
    for text in ("", "[]", "{}", '{"model.safetensors": 7}', "null"):
        with saved(mine, 5) as run:
            (run / "checkpoints" / "step_000005" / "complete.json").write_text(text)
            equal(there(mine, run), [], given=f"steps that are found, complete.json = {text!r}")


@check("what was changed since is told when it is read", step="damaged")
def changed(mine):
    for name in ("model.safetensors", "state.json"):
        with saved(mine, 5) as run:
            folder = run / "checkpoints" / "step_000005"
            data = bytearray((folder / name).read_bytes())
            data[-5] ^= 1
            (folder / name).write_bytes(data)
            with refused(f"one bit of {name} is another", the_file=name):
                mine.read_tensors(folder, name) if "tensors" in name else mine.read_state(folder)


@check("only so many checkpoints are kept as are wished for", step="damaged")
def keeps(mine):
    for keep, wanted in ((1, [9]), (2, [7, 9]), (0, [3, 5, 7, 9])):
        with saved(mine, 3, 5, 7, 9, keep=keep) as run:
            equal(there(mine, run), wanted, given=f"steps 3, 5, 7 and 9 saved, keep = {keep}")
            left = sorted(path.name for path in (run / "checkpoints").iterdir())
            names = [f"step_{step:06d}" for step in wanted]
            equal(left, names, given=f"folders that are left, keep = {keep}")


@check("what a run has left half done is gone when it goes on", step="damaged")
def swept(mine):
    with tiny(mine) as (folder, words):
        mine.main([*words, "train.steps=2"])
        checkpoints = folder / "runs" / "tiny" / "checkpoints"
        for name in (".step_000003.tmp", "step_000003"):
            (checkpoints / name).mkdir()
            (checkpoints / name / "model.safetensors").write_bytes(b"half")
        status = mine.main([*words, "train.steps=4", "--resume"])
        left = sorted(path.name for path in checkpoints.iterdir())
    equal(status, 0, given="the status of going on beside what is half done")
    causes = ["whoever goes on has to sweep what has no complete.json, or ends in .tmp"]
    wanted = ["step_000002", "step_000004"]
    equal(left, wanted, given="checkpoints/ after a save that was cut off", causes=causes)
