"""What holds for a modern model with everything switched on, and for each part of the rest."""

import dataclasses
import math
import tempfile
from pathlib import Path

from buildgpt.course.checking import (
    check,
    equal,
    expect,
    lively,
    near,
    recipe_folder,
    refused,
    run_recipe,
)

SMALL = {"layers": 4, "heads": 2, "width": 16, "context": 12, "vocab_size": 11}
END = 10  # the end of text is the last id


def modern(mine, alive=True, **wishes):
    """A small Modern in float64 with these switches and the defaults of all others, and ids with
    ends of text among them."""
    import torch

    config = mine.ModelConfig(**(SMALL | {"architecture": "modern"}))
    model = mine.build(config, mine.ModernConfig(**wishes))
    torch.manual_seed(3)
    model = lively(model, 0.3) if alive else model.double()
    ids = torch.randint(END, (2, 12))
    ids[0, 4] = ids[1, 7] = END
    return model, ids


def twin(mine):
    """Another one like a small Modern with all switches on, with its weights; and ids."""
    model, ids = modern(mine)
    other = mine.build_like(model).double().eval()
    other.load_state_dict(model.state_dict())
    return other, ids


@check("a head of zeros guesses nothing, and blocks add nothing", step="zero")
def zeros(mine):
    import torch

    model, ids = modern(mine, alive=False, zero_init=True, untied_head=True)
    near(model(ids, ids), math.log(11), 1e-9, "the first loss of a model with 11 ids")
    for wishes, wanted in (({"untied_head": True}, 176), ({"untied_head": False}, 0)):
        own = modern(mine, **wishes)[0].parameter_count()
        tied = modern(mine, untied_head=False)[0].parameter_count()
        equal(own - tied, wanted, given=f"parameters of a head, 11 ids of width 16, {wishes}")
    model, ids = modern(mine, untied_head=True)
    with torch.no_grad():
        off = (model.logits(model.hidden(ids)) - model(ids)).abs().max().item()
    expect(
        off < 1e-9, f"{off:.3g} off", "the same", "logits of the hidden vectors, and the model's"
    )


@check("a later token changes nothing, with all switches on", step="everywhere")
def causal(mine):
    import torch

    model, ids = twin(mine)
    with torch.no_grad():
        logits = model(ids)
        for place in (1, 5, 11):
            changed = ids.clone()
            changed[:, place] = (changed[:, place] + 1) % END
            off = (model(changed)[:, :place] - logits[:, :place]).abs().max().item()
            given = f"logits before token {place} when it changes"
            expect(off < 1e-12, f"{off:.3g} off", "the same", given)


@check("token by token with a cache gives what the whole gives, with all on", step="everywhere")
def cached(mine):
    import torch

    model, ids = twin(mine)
    with torch.no_grad():
        whole = model(ids)
        for cut in (1, 4, 9):
            cache = model.new_cache()
            parts = [model.hidden(ids[:, :cut], cache)]
            parts += [model.hidden(ids[:, i : i + 1], cache) for i in range(cut, 12)]
            off = (model.logits(torch.cat(parts, dim=1)) - whole).abs().max().item()
            causes = ["the token before the newest one is not known: ids are not kept"]
            given = f"12 tokens, {cut} at once and then one by one"
            expect(off < 1e-5, f"{off:.3g} off", "the same logits", given, causes)


@check("at most three embeddings of values, each for a low and a high layer", step="shortcuts")
def values(mine):
    for layers, tables in ((1, 0), (2, 1), (4, 2), (8, 3)):
        config = mine.ModelConfig(**(SMALL | {"architecture": "modern", "layers": layers}))
        counts = [
            mine.build(config, mine.ModernConfig(value_embeddings=on)).parameter_count()
            for on in (True, False)
        ]
        given = f"embeddings of values, 11 x 16 each, of {layers} layers"
        equal((counts[0] - counts[1]) // 176, tables, given=given)


@check("every pair has a row, and its own where there are enough", step="bigrams")
def pairs(mine):
    import torch

    ids = torch.randint(END, (1, 400), generator=torch.Generator().manual_seed(1))
    rows = mine.bigram_rows(11)
    found = mine.hash_bigrams(ids, 11, rows)[0].tolist()
    both = {*zip(ids[0, :-1].tolist(), ids[0, 1:].tolist())}
    equal(len({*found[1:]}), len(both), given="different rows of different pairs, 11 ids")
    many = torch.randint(50256, (1, 400), generator=torch.Generator().manual_seed(1))
    rows = mine.bigram_rows(50257)
    found = mine.hash_bigrams(many, 50257, rows)[0]
    inside = 0 <= found.min() and found.max() < rows
    expect(inside, f"{found.min()} to {found.max()}", f"0 to {rows - 1}", "rows, 50257 ids")


@check("no token sees another document", step="documents")
def apart(mine):
    import torch

    model, ids = modern(mine, document_mask=True)
    changed = ids.clone()
    changed[0, :3] = (changed[0, :3] + 1) % END
    with torch.no_grad():
        off = (model(changed) - model(ids))[0].abs().amax(dim=1)
    words = f"{off[4:].max():.3g} off"
    expect(
        off[4:].max() < 1e-9, words, "the same", "logits of a document when the last one changes"
    )
    expect(off[2] > 1e-6, "the same", "others", "logits within the document that changes")


@check("the window grows with the training, and is saved with the weights", step="windows")
def windows(mine):
    import torch

    model, ids = modern(mine, windows=True, document_mask=False)
    for done, wanted in ((0.0, 3), (0.3, 6), (0.6, 9), (1.0, 12)):
        mine.set_window(model, done)
        equal(int(model.window), wanted, given=f"a context of 12, {done:.0%} of the training done")
        equal(int(model.state_dict()["window"]), wanted, given="the window in the state_dict")
    mine.set_window(model, 0.0)
    one = mine.build(
        dataclasses.replace(model.config, layers=1),
        dataclasses.replace(model.switches, bigrams=False),
    )
    one = lively(one, 0.3)
    mine.set_window(one, 0.0)
    changed = ids.clone()
    changed[:, 0] = (changed[:, 0] + 1) % END
    with torch.no_grad():
        off = (one(changed) - one(ids)).abs().amax(dim=(0, 2))
    expect(off[3:].max() < 1e-9, "others", "the same", "logits 3 and more tokens later, window 3")
    expect(off[2] > 1e-9, "the same", "others", "logits 2 tokens later, window 3")


@check("a run is found by its name or its path, and an unknown one refused", step="open")
def opened(mine):
    with tempfile.TemporaryDirectory() as place:
        runs = Path(place)
        for name in ("mine", "other"):
            (runs / name).mkdir()
            (runs / name / "recipe.toml").write_text("")
        (runs / "empty").mkdir()
        equal(mine.find_run("mine", runs), runs / "mine", given='find_run("mine", runs)')
        found = mine.find_run(str(runs / "other"), runs)
        equal(found, runs / "other", given="find_run of a path, which comes before a name")
        for name in ("empty", "nowhere"):
            with refused(f"a run {name!r} without a recipe", the_one="mine", the_other="other"):
                mine.find_run(name, runs)


@check("a model of the same kind can be made of any", step="everywhere")
def alike(mine):
    model, ids = modern(mine, bigrams=False)
    other = mine.build_like(model).double().eval()
    other.load_state_dict(model.state_dict())
    off = (other(ids) - model(ids)).abs().max().item()
    expect(off < 1e-12, f"{off:.3g} off", "the same logits", "build_like, with the same weights")


@check("a run is opened with all that it had, at any of its checkpoints", step="open")
def opened_again(mine):
    import torch

    model = SMALL | {"architecture": "'modern'", "vocab_size": 257}
    train = {"tokens_per_step": 24, "steps": 2, "checkpoint_every": 1, "warmup_steps": 0}
    with recipe_folder(mine, b"To be, or not to be. " * 20, model, train) as place:
        equal(run_recipe(mine, place, "--name", "one")[0], 0, given="the status of a training")
        folder = mine.find_run("one", place / "runs")
        for step in (1, 2):
            run = mine.load_run(folder, step)
            saved = mine.read_tensors(
                folder / "checkpoints" / f"step_{step:06d}", "model.safetensors"
            )
            same = all(
                torch.equal(saved[name], own) for name, own in run.model.state_dict().items()
            )
            given = f"load_run, step {step} of 2"
            expect(same, "other weights", "those of the checkpoint", given)
            equal((run.step, run.model.training), (step, False), given=f"{given}: step, training")
            equal(run.recipe.train.steps, 2, given=f"{given}: its recipe")
            equal(run.tokenizer.encode("be"), [98, 101], given=f"{given}: its tokenizer")
        equal(mine.load_run(folder).step, 2, given="the step of load_run, where none is named")
        with refused("load_run of step 7 of 2"):
            mine.load_run(folder, 7)


@check("a modern model goes out and comes back, with its switches", step="everywhere")
def exported(mine):
    import torch

    config = mine.ModelConfig(**(SMALL | {"architecture": "modern", "vocab_size": 257}))
    model = mine.build(config, mine.ModernConfig(bigrams=False, windows=False))
    model, ids = lively(model, 0.3).float(), torch.tensor([[84, 111, 256, 98, 101]])
    with tempfile.TemporaryDirectory() as name:
        mine.export_folder(model, mine.ByteTokenizer(), Path(name) / "out")
        again, _ = mine.import_folder(Path(name) / "out")
    equal(again.switches, model.switches, given="the switches of what came back")
    same = (again(ids) == model(ids)).all()
    expect(same, "others", "the same bits", "logits, out and in again")
