"""What HellaSwag must be: every ending scored by its own tokens, whatever is computed together."""

import contextlib
import io
import json
import lzma
import math
import random
import tempfile
from pathlib import Path

from buildgpt.course.checking import (
    check,
    equal,
    expect,
    lively,
    near,
    refused,
    text_data,
    trainer,
)

TEXT = "abcdefgh "


def line(context="ab", endings=("c", "d", "e", "f"), label=2, **more):
    """An item as a line of a file."""
    return json.dumps({"ctx": context, "endings": list(endings), "label": label} | more) + "\n"


@contextlib.contextmanager
def file(data, name="items.jsonl"):
    """A file of these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        yield path


@check("the items of a file come in order, packed or not", step="items")
def in_order(mine):
    lines = line() + line("x é", ("1", "2", "3", "4"), "0", source_id="w") + line("z", label=3)
    for name, data in (("a.jsonl", lines.encode()), ("a.jsonl.xz", lzma.compress(lines.encode()))):
        with file(data, name) as path:
            found = mine.read_hellaswag(path)
            few = mine.read_hellaswag(path, 2)
        seen = [(item.context, list(item.endings), item.label) for item in found]
        wanted = [
            ("ab", ["c", "d", "e", "f"], 2),
            ("x é", ["1", "2", "3", "4"], 0),
            ("z", ["c", "d", "e", "f"], 3),
        ]
        causes = ['the real file has its labels as strings: "0"']
        equal(seen, wanted, given=f"a file of three items, {name}", causes=causes)
        equal(len(few), 2, given="items, limit = 2")


@check("what is no item is refused, with the number of its line", step="items")
def no_item(mine):
    wrong = {
        "three endings": line(endings="abc"),
        "a label of 4": line(label=4),
        "no JSON": "what?\n",
        "no context": '{"endings": ["a", "b", "c", "d"], "label": 1}\n',
        "an ending that is a number": line(endings=("a", "b", "c", 4)),
    }
    for what, text in wrong.items():
        with file((line() + text).encode()) as path, refused(what, the_line="line 2"):
            mine.read_hellaswag(path)
    with file(b"") as path, refused("an empty file", the_file=path.name):
        mine.read_hellaswag(path)
    with refused("a file that is not there", the_file="nothing.jsonl"):
        mine.read_hellaswag(Path("nothing.jsonl"))


def item(mine, context, *endings, label=0):
    """An item of theirs."""
    return mine.Item(context, endings, label)


@check("an ending is encoded with a space before it", step="spell")
def spaces(mine):
    made = item(mine, "AB", "c", "de", "", "f g")
    found = mine.spell(made, mine.ByteTokenizer(), 8)
    equal(list(found.context), [65, 66], given="the context 'AB'")
    seen = [list(ending) for ending in found.endings]
    wanted = [list(f" {text}".encode()) for text in ("c", "de", "", "f g")]
    causes = ["a word inside a text has a space before it, and GPT-2 has such tokens"]
    equal(seen, wanted, given="the endings c, de, nothing, f g", causes=causes)
    equal(bool(found.cut), False, given="whether 'AB' and f g, 6 tokens, are cut for T = 8")


@check("an item that is too long loses the beginning of its context", step="spell")
def too_long(mine):
    tokenizer = mine.ByteTokenizer()
    text = "0123456789"
    for context, kept, cut in ((13, text, False), (12, text, False), (11, text[1:], True)):
        found = mine.spell(item(mine, text, "a", "bb", "a", "a"), tokenizer, context)
        given = f"a context of 10 tokens, an ending of 3, T = {context}"
        causes = [
            "T + 1 tokens fit: the last token of an ending is never read",
            "the end of the context is cut off, not its beginning",
            "the first ending decides, not the longest",
        ]
        equal(bytes(found.context).decode(), kept, given=f"what is left, {given}", causes=causes)
        equal(bool(found.cut), cut, given=f"whether it is cut, {given}")
    found = mine.spell(item(mine, text, "abcdefgh", "b", "c", "d"), tokenizer, 5)
    equal(bytes(found.context).decode(), "9", given="the context, of an ending of 9 tokens, T = 5")
    equal(bytes(found.endings[0]).decode(), " abcd", given="that ending")
    equal(bool(found.cut), True, given="whether that is cut")
    found = mine.spell(item(mine, "", "a", "b", "c", "d"), tokenizer, 5)
    equal(list(found.context), [tokenizer.end_of_text], given="an empty context: an end of text")


def gpt(mine, context=48, **wishes):
    """A small GPT in float64 that makes a difference."""
    small = {"layers": 2, "heads": 2, "width": 16, "context": context, "vocab_size": 257}
    return lively(mine.GPT(mine.ModelConfig(**(small | wishes))), 0.3)


def runtime(mine):
    """Where to compute: here."""
    import torch

    return mine.Runtime(torch.device("cpu"))


def made_up(mine, count, before=30, ending=9):
    """Items of letters, of all lengths up to the given ones."""
    draw = random.Random(count)

    def some(most):
        return "".join(draw.choices(TEXT, k=draw.randint(1, most)))

    return [
        mine.Item(some(before), tuple(some(ending) for _ in range(4)), draw.randrange(4))
        for _ in range(count)
    ]


def one_by_one(model, spelt):
    """The summed loss of each ending of each item: one pass each, and nothing shared."""
    import torch

    found = []
    for own in spelt:
        for ending in own.endings:
            ids = torch.tensor([[*own.context, *ending]])
            with torch.no_grad():
                chances = model(ids[:, :-1]).log_softmax(-1)
            losses = -chances.gather(2, ids[:, 1:, None])[0, :, 0]
            found.append(float(losses[-len(ending) :].sum()))
    return [found[i : i + 4] for i in range(0, len(found), 4)]


def sums(mine, model, spelt, place=None):
    """Their summed losses."""
    words = [model, spelt, place or runtime(mine)]
    if mine.done("26-hellaswag/groups"):
        words.append(lambda done, share: None)
    return mine.summed_losses(*words)


@check("an ending's score is the loss of its own tokens, after its context", step="choose")
def scores(mine):
    model = gpt(mine)
    made = [
        item(mine, "a", "b", "c", "d", "ab"),
        item(mine, "abc", "", "hhhh", "a b", "c"),
        *made_up(mine, 12),
    ]
    spelt = [mine.spell(own, mine.ByteTokenizer(), 48) for own in made]
    for count in (1, 2, len(spelt)):
        found = sums(mine, model, spelt[:count])
        equal(tuple(found.shape), (count, 4), given=f"the shape of the scores of {count} items")
        for number, wanted in enumerate(one_by_one(model, spelt[:count])):
            for place, right in enumerate(wanted):
                causes = [
                    "tokens of the context are scored too, or the first of the ending is not",
                    "what fills a row up is scored, or stands before it",
                    "a row goes on from another item's context",
                    "the mean instead of the sum",
                ]
                given = f"{count} items, ending {place} of {made[number]}"
                near(found[number, place], right, 1e-6, given, causes)


@check("scoring leaves the model as it was, and no gradients", step="choose")
def leaves(mine):
    model = gpt(mine, dropout=0.5)
    spelt = [mine.spell(own, mine.ByteTokenizer(), 48) for own in made_up(mine, 3)]
    wanted = sums(mine, model, spelt)
    for training in (True, False):
        model.train(training)
        off = float((sums(mine, model, spelt) - wanted).abs().max())
        near(off, 0.0, 1e-9, f"how far scores are off, model.training = {training}, dropout 0.5")
        equal(model.training, training, given="model.training afterwards")


@check("right is what has the lowest loss, as a sum and as a mean a token", step="choose")
def right(mine):
    for count in (1, 5, 24):
        model, made = gpt(mine), made_up(mine, count)
        spelt = [mine.spell(own, mine.ByteTokenizer(), 48) for own in made]
        found = mine.hellaswag(model, mine.ByteTokenizer(), made, runtime(mine))
        scored = one_by_one(model, spelt)
        means = [
            [loss / len(ending) for loss, ending in zip(row, own.endings)]
            for row, own in zip(scored, spelt)
        ]
        for name, table in (("acc", scored), ("acc_norm", means)):
            hits = sum(row.index(min(row)) == own.label for row, own in zip(table, made))
            near(getattr(found, name), hits / count, 1e-9, f"{name} of {count} items")
        equal(found.items, count, given="items")
    error = found.standard_error(0.25)
    near(error, math.sqrt(0.25 * 0.75 / 24), 1e-9, "standard_error(0.25), 24 items")
    short = mine.hellaswag(gpt(mine, 8), mine.ByteTokenizer(), made, runtime(mine))
    cut = sum(bool(mine.spell(own, mine.ByteTokenizer(), 8).cut) for own in made)
    equal(short.cut, cut, given="items that are cut, T = 8")


@check("a model that is broken is right in no share of the items at all", step="choose")
def broken(mine):
    import torch

    model = gpt(mine)
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    found = mine.hellaswag(model, mine.ByteTokenizer(), made_up(mine, 4), runtime(mine))
    seen = (math.isnan(found.acc), math.isnan(found.acc_norm))
    equal(seen, (True, True), given="whether acc and acc_norm are NaN, of a model of NaN")


def watched(mine, spelt):
    """How often a model's `hidden` was called for these items, and for how many positions."""
    model, seen = gpt(mine), []
    real = model.hidden

    def hidden(ids, *words):
        seen.append(ids.numel())
        return real(ids, *words)

    model.hidden = hidden
    sums(mine, model, spelt)
    return len(seen), sum(seen)


@check("endings go through the model side by side", step="choose")
def side_by_side(mine):
    spelt = [mine.spell(own, mine.ByteTokenizer(), 48) for own in made_up(mine, 16, before=2)]
    passes, _ = watched(mine, spelt)
    expect(passes <= 32, f"{passes} passes", "32 at most", "16 items, 64 endings")


@check("what stands before the endings is read once, not four times", step="shared")
def once(mine):
    text = "abcdefgh" * 5
    for count in (1, 8):
        made = [item(mine, text[number:][:32], "a", "b", "c", "d") for number in range(count)]
        spelt = [mine.spell(own, mine.ByteTokenizer(), 48) for own in made]
        _, positions = watched(mine, spelt)
        given = f"{count} items, contexts of 32 tokens, endings of 2"
        wanted = count * (31 + 4 * 2)
        causes = ["each ending reads the whole context again"]
        expect(positions <= wanted, f"{positions} positions", f"{wanted} at most", given, causes)


@check("all ranks together score each item once, and with the same bits as one", step="groups")
def ranks(mine):
    import dataclasses

    import torch

    class Alone(type(runtime(mine))):
        def sum(self, values):
            return values

    model, here = gpt(mine), runtime(mine)
    spelt = [mine.spell(own, mine.ByteTokenizer(), 48) for own in made_up(mine, 70)]
    whole = sums(mine, model, spelt)
    places = {f.name: getattr(here, f.name) for f in dataclasses.fields(here)}
    parts = [
        sums(mine, model, spelt, Alone(**(places | {"rank": rank, "world_size": 3})))
        for rank in range(3)
    ]
    same = torch.equal(sum(parts), whole)
    causes = ["an item is scored by two ranks, or by none", "groups depend on the ranks"]
    expect(same, "other numbers", "the same bits", "70 items, 3 ranks added up, and 1", causes)
    equal([bool(part.any()) for part in parts], [True] * 3, given="whether each rank scores some")


@check("a run measures itself every so many steps, and at its end", step="clock")
def while_training(mine):
    train = {"steps": 5, "tokens_per_step": 64, "lr": 0.01, "warmup_steps": 0, "log_every": 10}
    sizes = {"context": 16, "layers": 1, "heads": 2, "width": 16}
    out = io.StringIO()
    with file(line("ab", ("c", "d", "e", "f")).encode()) as path:
        recipe = mine.Recipe(
            model=mine.ModelConfig(**sizes),
            data=text_data(mine, path.parent, b"abcab cab " * 60, hellaswag=str(path)),
            train=mine.TrainConfig(**train, hellaswag_every=2),
        )
        own = trainer(mine, recipe)
        with contextlib.redirect_stdout(out):
            own.run()
    found = [line for line in out.getvalue().splitlines() if "HellaSwag" in line]
    seen = [int(text.split()[1].replace(",", "")) for text in found]
    equal(seen, [2, 4, 5], given="steps with a line of HellaSwag, hellaswag_every = 2, 5 steps")


@check("the pace of a run leaves out the first step, which may compile", step="clock")
def pace(mine):
    import time

    clock = mine.Clock(time.monotonic() - 5, 7.0, 10)
    near(clock.seconds(), 12.0, 0.1, "seconds, 7 of an earlier attempt and 5 of this one")
    equal(clock.speed(), 0.0, given="tokens a second before any step")
    for step, took in ((11, 60.0), (12, 2.0), (13, 3.0)):
        clock.count(step, 100, time.monotonic() - took)
    near(clock.speed(), 200 / 5, 0.5, "tokens a second: steps of 60, 2 and 3 s, 100 tokens each")
    found = clock.step_seconds()
    near(found["step_seconds"], 65 / 3, 0.1, "the mean step")
    near(found["slowest_step_seconds"], 60, 0.1, "the slowest step")
    equal(clock.step_seconds()["step_seconds"], 0.0, given="the mean of no steps since")


@check("a run says how fast it is, and counts the time of all its attempts", step="clock")
def timed(mine):
    sizes = {"context": 16, "layers": 1, "heads": 2, "width": 16}
    train = {"tokens_per_step": 64, "lr": 0.01, "log_every": 1, "checkpoint_every": 2}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = mine.Recipe(
            model=mine.ModelConfig(**sizes),
            data=text_data(mine, folder, b"abcab cab " * 60),
            train=mine.TrainConfig(**train, steps=4),
        )
        for attempt in (1, 2):
            own = trainer(mine, recipe, folder / "run")
            if attempt == 2:
                own.restore(folder / "run" / "checkpoints" / "step_000002")
            with contextlib.redirect_stdout(io.StringIO()):
                own.run()
        lines = mine.read_metrics(folder / "run")
    found = [line for line in lines if line["kind"] == "train"]
    equal([line["step"] for line in found], [1, 2, 3, 4, 3, 4], given="steps of two attempts")
    speeds = [line["tokens_per_second"] > 0 for line in found]
    wanted = [False, True, True, True, False, True]
    equal(speeds, wanted, given="whether a speed is known, which the first step has not")
    resumed, before = found[4]["seconds"], found[1]["seconds"]
    causes = ["the clock begins anew with each attempt"]
    given = "seconds of step 3 after a resume, and of step 2 before it"
    expect(resumed >= before, f"{resumed:.3f}", f"{before:.3f} or more", given, causes)
