"""The checks of attention, heads and blocks take other code that does the same, and no mistakes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildgpt.course.runner import Outcome, due_checks, run_checks, steps_done
from buildgpt.course.series import Lesson, Series, write_tree

SERIES = Series()
OWN = ("03-bigram", "06-head", "07-heads", "08-blocks")  # whose checks look at the model


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Each test imports a gpt of its own."""
    path = [*sys.path]
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.partition(".")[0] == "gpt"]:
        del sys.modules[name]


def lesson(number: int) -> Lesson:
    """A lesson by its number."""
    found = SERIES.find(str(number))
    assert found
    return found


def outcomes(place: Path, number: int, model: str) -> Iterator[Outcome]:
    """What becomes of the model's checks at a lesson's end, with another model.py."""
    own = lesson(number)
    write_tree(place, SERIES.tree(SERIES.after(own)) | {"gpt/model.py": model})
    wanted = [(each.name, c) for each, c in due_checks(SERIES, own) if each.name in OWN]
    yield from run_checks(place, wanted, SERIES.entries(), {}, steps_done(SERIES, own))


# Other code that does the same.

ONE_HEAD = """
import torch
from torch import nn

def attend_by_hand(ask, have, give):
    T, D = ask.shape[-2:]
    scores = torch.einsum("btd,bsd->bts", ask, have) * D ** -0.5
    seen = torch.ones(T, T).tril().bool()
    scores = scores.masked_fill(~seen, float("-inf"))
    shares = torch.exp(scores - scores.amax(-1, keepdim=True))
    return torch.einsum("bts,bsd->btd", shares / shares.sum(-1, keepdim=True), give)

class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ask, self.have, self.give = (nn.Linear(c.width, c.width, bias=False) for _ in "qkv")

    def forward(self, x):
        return attend_by_hand(self.ask(x), self.have(x), self.give(x))

class GPT(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.T = c.context
        self.wte = nn.Parameter(0.02 * torch.randn(c.vocab_size, c.width))
        self.wpe = nn.Parameter(0.02 * torch.randn(c.context, c.width))
        self.look = Attention(c)
        self.unembed = nn.Parameter(0.02 * torch.randn(c.width, c.vocab_size))

    def forward(self, ids, y=None):
        T = ids.shape[1]
        if T > self.T:
            raise ValueError(f"{T} tokens, but there is room for {self.T}")
        x = self.wte[ids] + self.wpe[:T]
        scores = (x + self.look(x)) @ self.unembed
        return scores if y is None else nn.functional.cross_entropy(scores.transpose(1, 2), y)
"""

LIST_OF_HEADS = """
import torch
from torch import nn

def attend_by_hand(q, k, v):
    T = q.size(-2)
    ahead = torch.arange(T)[:, None] < torch.arange(T)
    return (q @ k.mT / q.size(-1) ** 0.5).masked_fill(ahead, -torch.inf).softmax(-1) @ v

class Head(nn.Module):
    def __init__(self, C, D):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(C, D), nn.Linear(C, D), nn.Linear(C, D)

    def forward(self, x):
        return attend_by_hand(*(f(x)[:, None] for f in (self.q, self.k, self.v)))[:, 0]

class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.all = nn.ModuleList(Head(c.width, c.width // c.heads) for _ in range(c.heads))
        self.mix = nn.Linear(c.width, c.width)

    def forward(self, x):
        return self.mix(torch.cat([head(x) for head in self.all], dim=-1))
"""

# Channels belong to heads in turn, and one weight holds all three.
EINSUM = """
import torch
from torch import nn

def attend_by_hand(q, k, v):
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) / q.shape[-1] ** 0.5
    ahead = torch.triu(torch.full(scores.shape[-2:], -torch.inf), diagonal=1)
    return torch.einsum("bhts,bhsd->bhtd", (scores + ahead).softmax(-1), v)

class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.h = c.heads
        self.weight = nn.Parameter(torch.randn(3, c.width, c.width) / c.width)
        self.back = nn.Parameter(torch.randn(c.width, c.width) / c.width)

    def forward(self, x):
        q, k, v = torch.einsum("btc,nce->nbte", x, self.weight).unflatten(-1, (-1, self.h))\
            .permute(0, 1, 4, 2, 3)
        return attend_by_hand(q, k, v).permute(0, 2, 3, 1).flatten(2) @ self.back
"""

REST = """
class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(c.width, 4 * c.width), nn.GELU(), nn.Linear(4 * c.width, c.width))

    def forward(self, x):
        return self.net(x)

class Norm(nn.Module):
    def __init__(self, C):
        super().__init__()
        self.g, self.b = nn.Parameter(torch.ones(C)), nn.Parameter(torch.zeros(C))

    def forward(self, x):
        x = x - x.mean(-1, keepdim=True)
        return self.g * x * (x.square().mean(-1, keepdim=True) + 1e-5).rsqrt() + self.b

class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.parts = nn.ModuleList([Attention(c), MLP(c)])
        self.norms = nn.ModuleList([Norm(c.width), Norm(c.width)])

    def forward(self, x):
        for part, norm in zip(self.parts, self.norms):
            x = x + part(norm(x))
        return x

class GPT(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.words = nn.Embedding(c.vocab_size, c.width)
        self.places = nn.Embedding(c.context, c.width)
        self.stack = nn.Sequential(*[Block(c) for _ in range(c.layers)], Norm(c.width))
        self.say = nn.Linear(c.width, c.vocab_size)

    def hidden(self, ids):
        if ids.shape[1] > self.c.context:
            raise ValueError(f"{ids.shape[1]} are more than {self.c.context}")
        return self.stack(self.words(ids) + self.places.weight[: ids.shape[1]])

    def logits(self, hidden):
        return self.say(hidden)

    def forward(self, ids, targets=None):
        scores = self.logits(self.hidden(ids))
        if targets is None:
            return scores
        return nn.functional.cross_entropy(scores.transpose(1, 2), targets)
"""

# At the end of lesson 7 there are no blocks yet.
ONE_LAYER = """
class GPT(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.words = nn.Embedding(c.vocab_size, c.width)
        self.places = nn.Embedding(c.context, c.width)
        for table in (self.words, self.places):
            nn.init.normal_(table.weight, std=0.02)
        self.look, self.say = Attention(c), nn.Linear(c.width, c.vocab_size, bias=False)

    def forward(self, ids, targets=None):
        if ids.shape[1] > self.c.context:
            raise ValueError(f"{ids.shape[1]} are more than {self.c.context}")
        x = self.words(ids) + self.places.weight[: ids.shape[1]]
        scores = self.say(x + self.look(x))
        if targets is None:
            return scores
        return nn.functional.cross_entropy(scores.transpose(1, 2), targets)
"""

OTHERS = {
    "one head: split, einsum, its own softmax": (6, ONE_HEAD),
    "a list of heads": (7, LIST_OF_HEADS + ONE_LAYER),
    "fused, einsum, channels in turn": (7, EINSUM + ONE_LAYER),
    "blocks around a list of heads": (8, LIST_OF_HEADS + REST),
    "blocks around einsum": (8, EINSUM + REST),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_code_that_does_the_same_passes(name, tmp_path):
    number, model = OTHERS[name]
    found = [*outcomes(tmp_path, number, model)]
    assert [f"{o.check}: {o.seen} ({o.given})" for o in found if not o.passed] == []
    assert {o.check.partition("/")[0] for o in found} == {*OWN[: number - 4]}


# Mistakes, each made in the reference of lesson 8: what is replaced, and by what.

MISTAKES = {
    "no mask": ("scores + future(q.size(2), q)", "scores"),
    "a mask that hides the token itself": ("triu(1)", "triu(0)"),
    "a mask that shows the next token": ("triu(1)", "triu(2)"),
    "a mask of the past": ("triu(1)", "tril(-1)"),
    "zeros for a mask": ("-math.inf", "0.0"),
    "a mask after the softmax": (
        "(scores + future(q.size(2), q)).softmax(dim=3)",
        "scores.softmax(dim=3).tril()",
    ),
    "no scale": ("(q / math.sqrt(q.size(3)))", "q"),
    "a scale by D": ("math.sqrt(q.size(3))", "q.size(3)"),
    "a scale by T": ("math.sqrt(q.size(3))", "math.sqrt(q.size(2))"),
    "a softmax over those who ask": ("softmax(dim=3)", "softmax(dim=2)"),
    "a softmax over heads": ("softmax(dim=3)", "softmax(dim=1)"),
    "no softmax": (".softmax(dim=3)", ".exp()"),
    "queries and keys swapped": ("attend_by_hand(q: Tensor, k:", "attend_by_hand(k: Tensor, q:"),
    "a view instead of a swap": (
        "part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)",
        "part.view(batch, self.heads, time, width // self.heads)",
    ),
    "heads joined without a swap": ("y.transpose(1, 2).reshape", "y.reshape"),
    "one head of them all": ("self.heads = config.heads", "self.heads = 1"),
    "a head a channel": ("self.heads = config.heads", "self.heads = config.width"),
    "no output projection": ("self.out(y.transpose(1, 2)", "(y.transpose(1, 2)"),
    "no residual around attention": ("x = x + self.attention(", "x = self.attention("),
    "no residual around the MLP": ("return x + self.mlp(", "return self.mlp("),
    "no norm before attention": ("self.attention(self.attention_norm(x))", "self.attention(x)"),
    "no norm before the MLP": ("self.mlp(self.mlp_norm(x))", "self.mlp(x)"),
    "a norm after the sum": (
        "return x + self.mlp(self.mlp_norm(x))",
        "return self.mlp_norm(x + self.mlp(x))",
    ),
    "no last norm": ("return self.norm(x)", "return x"),
    "no bend": ('F.gelu(self.up(x), approximate="tanh")', "self.up(x)"),
    "one block for all layers": (
        "nn.ModuleList(Block(config) for _ in range(config.layers))",
        "nn.ModuleList([Block(config)] * config.layers)",
    ),
    "only the first block": ("for block in self.blocks:", "for block in self.blocks[:1]:"),
    "no positions": ("+ self.position_embedding(positions)", ""),
    "one position for all": (
        "self.position_embedding(positions)",
        "self.position_embedding(ids * 0)",
    ),
    "no room asked for": ("        self.require_room(ids.size(1))\n", ""),
    "attention that gives x back": ("return self.out(y.", "return x\n        return self.out(y."),
    "an MLP that gives x back": (
        "return self.out(F.gelu",
        "return x\n        return self.out(F.gelu",
    ),
    "a block that gives x back": ("        x = x + self.attention(", "        return x\n        ("),
    "attention that gives values back": ("return weights @ v", "return v"),
    "attention that gives the mean back": ("return weights @ v", "return (weights * 0 + 1) @ v"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told(name, tmp_path):
    old, new = MISTAKES[name]
    model = SERIES.tree(SERIES.after(lesson(8)))["gpt/model.py"]
    assert model.count(old) == 1, old
    missed = next((o for o in outcomes(tmp_path, 8, model.replace(old, new)) if not o.passed), None)
    assert missed, "no check fails"
    assert missed.check.partition("/")[0] in OWN


def test_the_reference_itself_passes(tmp_path):
    model = SERIES.tree(SERIES.after(lesson(8)))["gpt/model.py"]
    assert [o.check for o in outcomes(tmp_path, 8, model) if not o.passed] == []
