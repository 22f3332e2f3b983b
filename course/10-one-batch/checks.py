"""What a run must say and refuse, and that a model can learn one batch by heart."""

import contextlib
import io
import math
import re
import tempfile
from pathlib import Path

from buildgpt.course.checking import check, equal, expect, near, refused, small_trainer

VERSE = "Shall I compare thee to a summer's day?\nThou art more lovely."


def made(mine, text=VERSE, context=30, **train):
    """A Trainer of a small GPT on a text."""
    model = {"context": context, "layers": 2, "heads": 2, "width": 32}
    wishes = {"steps": 1, "tokens_per_step": context, "lr": 0.01, "seed": 1} | train
    if mine.done("12-schedule/warmup"):
        wishes["warmup_steps"] = 0
    return small_trainer(mine, text.encode(), model, wishes)


def said(own):
    """What is printed while it trains."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        own.run()
    return out.getvalue()


@check(
    "tokens that make no whole number of sequences are refused, with a number that does",
    step="exact",
)
def whole_sequences(mine):
    for per_step, context, nearest in ((100, 64, "128"), (10, 64, "64"), (650, 622, "622")):
        with refused(
            f"tokens_per_step = {per_step}, context = {context}",
            the_number=str(per_step),
            the_context=str(context),
            the_nearest=nearest,
        ):
            mine.Recipe(
                model=mine.ModelConfig(context=context),
                train=mine.TrainConfig(tokens_per_step=per_step),
            )
    recipe = mine.Recipe(
        model=mine.ModelConfig(context=32), train=mine.TrainConfig(tokens_per_step=96)
    )
    equal(recipe.train.tokens_per_step, 96, given="tokens_per_step = 96, context = 32")


@check("a run says how many parameters it trains, and on how many tokens", step="introduce")
def introduced(mine):
    with made(mine) as own:
        count, tokens = own.model.parameter_count(), len(own.corpus.train)
        out = said(own)
    numbers = [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*\d|\d", out)]
    for what, number in (("parameters", count), ("tokens of text", tokens)):
        given = f"what is printed by a run of {number:,} {what}"
        expect(number in numbers, out.strip()[:150], f"{number:,} in it", given)


@check("every so many steps the loss is told, to four digits after the point", step="report")
def reports(mine):
    last = ["5"] if mine.done("27-run/done") else []  # the last step's, in any case
    cases = [(2, 5, ["2", "4", *last]), (1, 2, ["1", "2"])]
    if not mine.done("27-run/size"):
        cases.append((0, 3, []))
    for every, steps, wanted in cases:
        with made(mine, steps=steps, log_every=every) as own:
            out = said(own)
        found = re.findall(r"step +(\d+) +loss (\d+\.\d{4})\b", out)
        given = f"steps told, log_every = {every}, {steps} steps"
        causes = ["lines like: step      2  loss 3.1416", "0 switches reports off"]
        equal([step for step, _ in found], wanted, given=given, causes=causes)
    with made(mine, steps=1, log_every=1) as own:
        out = said(own)
        loss = re.findall(r"loss (\d+\.\d{4})\b", out)
        near(float(loss[0]) if loss else None, own.loss, 1e-4, "the loss told of step 1")


@check("a model learns one batch by heart, and recites it", step="report")
def by_heart(mine):
    # A single sequence is trained on, also when a tenth of the text is held out.
    text = VERSE[: 34 if mine.done("13-validation/split") else 31]
    silent = 1000 if mine.done("27-run/size") else 0
    with made(mine, text, steps=120, log_every=silent) as own:
        out = said(own)
        causes = ["weights that the optimizer does not have", "gradients that are never cleared"]
        given = "the loss of 30 tokens after 120 steps"
        expect(own.loss < 0.1, f"{own.loss:.3f}", "below 0.1", given, causes)
        causes = ["loss.item() is the number; the tensor holds on to all that it was made of"]
        kept = type(own.loss).__name__
        equal(kept, "float", given="the type of the loss that a Trainer keeps", causes=causes)
    told = len(re.findall(r"step +\d+ +loss", out))
    expect(told < 2, f"{told} of them", "none, or the last", "losses told, log_every = 1000")


@check("a loss that is no number stops the run, before it reaches the weights", step="finite")
def no_number(mine):
    import torch

    with made(mine, steps=3) as own:
        batches, asked = own.batches, []
        own.batches = lambda *place: asked.append(place) or batches(*place)
        before = [p.detach().clone() for p in own.model.parameters()]
        weights = [*own.model.parameters()]
        with torch.no_grad():
            weights[0].fill_(math.inf)
        with refused("weights that make a loss of nan", the_step="1", the_remedy="lr"):
            said(own)
        equal(len(asked), 1, given="steps begun of 3, the first with a loss of nan")
        for p, old in [*zip(weights, before)][1:]:
            same = torch.equal(p.detach(), old)
            causes = ["the optimizer steps before the loss is looked at"]
            expect(same, "other weights", "the same", "weights after a loss of nan", causes)


@check("numbers without sense are refused in words", step="limits")
def limits(mine):
    for section, key, value in (
        (mine.TrainConfig, "steps", 0),
        (mine.TrainConfig, "tokens_per_step", 0),
        (mine.TrainConfig, "lr", 0.0),
        (mine.TrainConfig, "log_every", -1),
        (mine.SampleConfig, "max_tokens", -1),
        (mine.ModelConfig, "init_std", 0.0),
    ):
        with refused(f"{section.__name__}({key}={value})", the_key=key):
            section(**{key: value})


@check("a file that is no recipe is refused in words, with its name", step="readable")
def readable(mine):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "broken.toml"
        for text, word in (
            ("steps = 5 [train]", "broken.toml"),
            ("train = 5", "train"),
            ('"train.steps" = 5', "train.steps"),
            ("[train]\nlr = nan", "train.lr"),
            (None, "broken.toml"),
        ):
            given = f"a recipe of {text!r}" if text else "a recipe that is not there"
            path.write_text(text) if text else path.unlink()
            causes = ["what reads the file raises an error of its own, which has to be caught"]
            with refused(given, causes, the_word=word):
                mine.load_recipe(path)
