"""What a validation loss must be: over all targets held out, each once, and without chance."""

import contextlib
import io
import math
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from buildgpt.course.checking import (
    check,
    equal,
    evaluation,
    expect,
    lively,
    near,
    refused,
    small_trainer,
    stream,
    text_data,
    tokens,
)


def corpus(mine, text, **wishes):
    """Their corpus of a text."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return mine.Corpus(text_data(mine, Path(folder), text.encode(), **wishes))


# From lesson 19 on a part is held out where the shards are written.
@check("the last tenth is held out, and nothing is in both or in neither", step="split", until="19")
def split(mine):
    for text in ("abcdefghijklmnopqrst", "To be, or not to be. " * 9):
        found = corpus(mine, text)
        train, val = ([int(i) for i in part] for part in (found.train, found.val))
        given = f"a text of {len(text)} bytes"
        causes = ["a token is lost or doubled at the cut", "the first tenth is taken, not the last"]
        equal(train + val, list(text.encode()), given=f"train and val, {given}", causes=causes)
        equal(len(val), len(text) // 10, given=f"how many are held out, {given}")
        equal(found.val_tokens, len(val), given=f"val_tokens, {given}")


@check("fewer can be asked for, never more, and one alone is refused", step="split")
def fewer(mine):
    text = "0123456789" * 8
    for wish, wanted in ((0, 8), (5, 5), (100, 8)):
        found = corpus(mine, text, val_tokens=wish).val_tokens
        equal(found, wanted, given=f"8 tokens held out, data.val_tokens = {wish}")
    for text, wish in (("a" * 19, 0), ("a" * 80, 1)):
        causes = ["a target needs a token before it: two at least"]
        with refused(f"{len(text)} bytes, val_tokens = {wish}", causes, how_many="1"):
            corpus(mine, text, val_tokens=wish)


def held_out(mine, ids, count):
    """A stand-in for a corpus: tokens, of which so many are scored, each of one byte."""
    made = stream(mine, ids)
    tokenizer = SimpleNamespace(pieces=[b"x"] * 1000, end_of_text=999, vocab_size=1000)
    return SimpleNamespace(val=made, val_tokens=count, train=made, tokenizer=tokenizer)


def gpt(mine, **wishes):
    """A small GPT in float64 that makes a difference."""
    small = {"layers": 2, "heads": 2, "width": 16, "context": 8, "vocab_size": 257}
    return lively(mine.GPT(mine.ModelConfig(**(small | wishes))), 0.3)


@check("with reduction none each target has a loss of its own", step="score")
def each(mine):
    import torch

    model = gpt(mine)
    ids, targets = torch.arange(12).view(2, 6), torch.arange(12).view(2, 6) + 40
    found = model(ids, targets, "none")
    equal(tuple(found.shape), (2, 6), given="the shape of losses for targets (2, 6)")
    wanted = -model(ids).log_softmax(-1).gather(2, targets[..., None])[..., 0]
    off = (found - wanted).abs().max().item()
    expect(off < 1e-9, f"{off:.3g} off", "-log p(target) each", "2 sequences of 6 targets")
    mean, mean_of_each = model(ids, targets), float(wanted.detach().mean())
    near(mean, mean_of_each, 1e-9, "the loss without a word about reduction: their mean")


class Counter:
    """A stand-in for a model: the loss of each target is the target itself; it says what it saw."""

    def __new__(cls, context):
        import torch

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.config, self.seen = SimpleNamespace(context=context), []

            def forward(self, ids, targets=None, reduction="mean"):
                self.seen += ids.tolist()
                assert reduction == "none", "the mean of a batch is of no use here"
                return targets.float()

        return Model()


@check("every target held out is scored once, the last ones too", step="evaluate")
def once(mine):
    for count, context in ((2, 4), (5, 4), (6, 4), (12, 4), (300, 1)):
        model = Counter(context)
        held = held_out(mine, np.arange(count), count)
        found = evaluation(mine, model, held)
        given = f"{count} tokens, T = {context}: each target's loss is the target itself"
        causes = [
            "the last window, which is shorter, is left out",
            "the mean of means: a short window counts as much as a whole one",
            "windows overlap, or leave a target out between them",
        ]
        near(found.loss, sum(range(count)) / (count - 1), 1e-9, given, causes)
        equal(found.tokens, count - 1, given=f"targets scored of {count} tokens")
        starts = sorted(row[0] for row in model.seen)
        wanted = [*range(0, count - 1, context)]
        equal(starts, wanted, given=f"where the windows begin, {count} tokens, T = {context}")


@check("only so many tokens as asked for are scored", step="evaluate")
def part(mine):
    held = held_out(mine, np.arange(50), 10)
    found = evaluation(mine, Counter(4), held)
    near(found.loss, 5.0, 1e-9, "50 tokens held out, val_tokens = 10")


@check(
    "the loss is that of the model, in each window by itself, and leaves no gradient",
    step="evaluate",
)
def by_hand(mine):
    import torch

    model, ids = gpt(mine), np.arange(21) * 37 % 257
    found = evaluation(mine, model, held_out(mine, ids, 21))
    total = 0.0
    for start in range(0, 20, 8):
        window = torch.tensor(ids[start : start + 9])[None]
        chances = model(window[:, :-1]).log_softmax(-1)
        total -= chances.gather(2, window[:, 1:, None]).sum().item()
    near(found.loss, total / 20, 1e-6, "21 tokens in windows of 8")
    expect(isinstance(found.loss, float), type(found.loss).__name__, "a float", "Evaluation.loss")
    clean = all(p.grad is None for p in model.parameters())
    expect(clean, "gradients", "none", "parameters after an evaluation")


def made(mine, text="abcab cab " * 60, **train):
    """A Trainer of a small GPT on a small text."""
    model = {"context": 16, "layers": 1, "heads": 2, "width": 16}
    wishes = {"steps": 5, "tokens_per_step": 64, "lr": 0.01, "warmup_steps": 0, "log_every": 1000}
    return small_trainer(mine, text.encode(), model, wishes | train)


@check("every so many steps, and at the end, the validation loss is told", step="watch")
def told(mine):
    for every, wanted in ((2, [2, 4, 5]), (5, [5]), (0, [5])):
        out = io.StringIO()
        with made(mine, eval_every=every) as own, contextlib.redirect_stdout(out):
            own.run()
            again = evaluation(mine, own.model, own.corpus).loss
        found = re.findall(r"step +(\d+) +validation loss (\d+\.\d{4})", out.getvalue())
        causes = ["the last one is told twice", "measured before the update of that step"]
        given = f"steps with a validation loss, eval_every = {every}, 5 steps"
        equal([int(step) for step, _ in found], wanted, given=given, causes=causes)
        near(float(found[-1][1]), again, 1e-4, "the last one, against the final weights'")
        near(own.validation.loss, again, 1e-6, "the Trainer's validation, of the final weights")


@check("nothing that is held out is trained on", step="split")
def unread(mine):
    with made(mine, text="abcab cab " * 54 + "z" * 60, steps=12) as own:
        read, batches = [], own.batches
        own.batches = lambda *place: read.append(batches(*place)) or batches(*place)
        with contextlib.redirect_stdout(io.StringIO()):
            own.run()
    found = sum(int((part == ord("z")).sum()) for both in read for part in both)
    causes = ["the batches are made of the whole text"]
    given = "how many z were read, which stand in the last tenth only"
    equal((len(read), found), (12, 0), given=f"steps, and {given}", causes=causes)


@check("dropout makes chance while training, and none in an evaluation", step="dropout")
def chance(mine):
    import torch

    model, ids = gpt(mine, dropout=0.5), torch.arange(8)[None]
    plain = gpt(mine)
    same = torch.equal(model(ids), plain(ids))
    expect(same, "other scores", "the same", "model.eval(), dropout = 0.5 and 0")
    model.train()
    torch.manual_seed(1)
    one, other = model(ids), model(ids)
    expect(not torch.equal(one, other), "the same twice", "other scores", "model.train(), twice")
    held = held_out(mine, np.arange(30), 30)
    losses = {evaluation(mine, model, held).loss for _ in range(2)}
    causes = ["model.eval() is missing in evaluate"]
    equal(len(losses), 1, given="different losses of two evaluations, dropout = 0.5", causes=causes)
    equal(model.training, True, given="model.training after an evaluation in training")
    model.eval()
    evaluation(mine, model, held)
    equal(model.training, False, given="model.training after an evaluation outside of training")


@check("of the shares of attention some are dropped, and the others grow", step="dropout")
def shares(mine):
    import torch

    torch.manual_seed(1)
    q = k = torch.zeros(1, 1, 400, 4, dtype=torch.float64)
    found = mine.attend_by_hand(q, k, torch.eye(400, dtype=torch.float64)[None, None], 0.25)
    last = found[0, 0, -1] * 400  # each share was 1/400
    dropped = (last == 0).double().mean().item()
    near(dropped, 0.25, 0.08, "the share of shares that are 0, dropout = 0.25")
    near(last.max(), 1 / 0.75, 1e-6, "what the others are multiplied by", ["not scaled up"])


@check("dropout is a share below 1", step="dropout")
def limits(mine):
    for wrong in (-0.1, 1.0):
        with refused(f"ModelConfig(dropout={wrong})", the_key="dropout"):
            mine.ModelConfig(dropout=wrong)
    for part in (mine.Block, mine.Attention):
        module = part(mine.ModelConfig(width=16, heads=2, dropout=0.5)).double()
        x = tokens(1, 6, 16).detach()
        moved = (module(x) - module(x)).abs().max().item()
        expect(moved > 0, "the same twice", "other numbers", f"{part.__name__}, dropout = 0.5")
        module.eval()
        moved = (module(x) - module(x)).abs().max().item()
        expect(math.isclose(moved, 0.0), f"{moved:.3g} apart", "the same", "the same in eval()")


@check(
    "what is embedded is dropped in part, and what attention and MLP add is, too", step="dropout"
)
def places(mine):
    import torch

    model, ids = gpt(mine, dropout=0.5).train(), torch.arange(8)[None].repeat(16, 1)
    seen = []
    for module in model.modules():
        if isinstance(module, mine.Block):
            module.register_forward_hook(lambda block, given, out: seen.append((given[0], out)))
    torch.manual_seed(1)
    model(ids)
    before, after = seen[0]
    share = (before == 0).double().mean().item()
    near(share, 0.5, 0.1, "the share of what reaches the first block that is 0, dropout = 0.5")
    # A quarter of the places get nothing of either.
    share = (after == before).double().mean().item()
    causes = ["only one of the two sums is dropped in part, or neither"]
    near(share, 0.25, 0.1, "the share of places to which a block adds nothing", causes)
