"""What a head of attention must do: by hand in float64, and by its gradients."""

import numpy as np

from buildgpt.course.checking import (
    check,
    continuation,
    equal,
    expect,
    lively,
    of_the_size,
    refused,
    stand_in,
)

SIZES = ((1, 1, 1), (1, 3, 2), (2, 5, 8))  # B, T, D


def attend(mine, q, k, v):
    """Their attention of (B, T, D): with an axis of one head from lesson 7 on."""
    if mine.done("07-heads/split"):
        return mine.attend_by_hand(q[:, None], k[:, None], v[:, None])[:, 0]
    return mine.attend_by_hand(q, k, v)


def drawn(batch, time, width):
    """Queries, keys and values in float64, ready for gradients."""
    import torch

    torch.manual_seed(batch + time + width)
    shape = (3, batch, time, width)
    return [part.requires_grad_() for part in torch.randn(shape, dtype=torch.float64)]


def by_hand(q, k, v):
    """Causal attention of (T, D) in numpy, token by token."""
    rows = []
    for t in range(len(q)):
        scores = np.array([q[t] @ k[s] / np.sqrt(q.shape[1]) for s in range(t + 1)])
        shares = np.exp(scores - scores.max())
        rows.append(shares / shares.sum() @ v[: t + 1])
    return np.array(rows)


def config(mine, **wishes):
    """A small ModelConfig; from lesson 7 on with one head, from lesson 8 on with two layers."""
    small = {"width": 8, "context": 12, "vocab_size": 20}
    known = mine.ModelConfig()
    small |= {k: n for k, n in {"heads": 1, "layers": 2}.items() if hasattr(known, k)}
    return mine.ModelConfig(**(small | wishes))


@check("width and rate are of the size that the pages speak of", step="width", until="27-run")
def proportions(mine):
    of_the_size(mine.ModelConfig(), width=64)
    if not mine.done("12-schedule/warmup"):
        of_the_size(mine.TrainConfig(), lr=0.01)


@check("scores are made of vectors of the model's width, and of nothing wider", step="width")
def narrow(mine):
    import torch

    for width in (4, 8):
        model = lively(mine.GPT(config(mine, width=width, vocab_size=40)), 0.5)
        logits = model(torch.arange(40)[:, None])[:, 0]  # each token alone
        values = torch.linalg.svdvals(logits - logits.mean(dim=0))
        rank = int((values > 1e-9 * values[0]).sum())
        given = f"the rank of 40 tokens' scores, width = {width}"
        causes = ["the embedding is still as wide as the vocabulary"]
        expect(width - 2 <= rank <= width, f"{rank}", f"about {width}", given, causes)


# From lesson 8 on a bias does no harm, and lesson 9 ties the head to the embedding.
@check(
    "one more id costs a vector and a row of the head, and nothing else", step="width", until="08"
)
def no_bias(mine):
    counts = [
        sum(p.numel() for p in mine.GPT(config(mine, vocab_size=size)).parameters())
        for size in (20, 21)
    ]
    causes = ["the head has a bias: nn.Linear makes one, unless bias=False"]
    given = "width 8: the weights that one more id costs"
    equal(counts[1] - counts[0], 16, given=given, causes=causes)


@check("what is gathered are values, in shares that add up to 1", step="scores")
def shares(mine):
    import torch

    for batch, time, width in SIZES:
        q, k, _ = drawn(batch, time, width)
        given = f"B, T, D = {batch}, {time}, {width}"
        ones = attend(mine, q, k, torch.ones_like(q))
        equal(tuple(ones.shape), (batch, time, width), given=f"the shape, {given}")
        off = (ones - 1).abs().max().item()
        causes = ["softmax along the wrong axis", "no softmax", "a mask after the softmax"]
        if off != off:  # no number
            hidden = "the mask hides the token itself: the first one sees nothing, triu(0)"
            causes = [hidden, "a whole row of scores is minus infinity"]
        expect(
            off < 1e-9, f"{off:.2g} away from 1", "1 everywhere", f"values of 1, {given}", causes
        )


@check("a token gathers most from the one whose key fits its query", step="scores")
def fitting(mine):
    import torch

    keys = 50 * torch.eye(4, dtype=torch.float64)[None]
    values = torch.arange(4, dtype=torch.float64)[None, :, None].expand(1, 4, 4)
    for wanted in range(4):
        queries = keys[:, wanted : wanted + 1].expand(1, 4, 4)
        found = attend(mine, queries, keys, values)[0, -1, 0].item()
        causes = ["queries and keys are swapped", "the keys are not turned round"]
        given = f"the last of 4 tokens asks for token {wanted}, each token's value is its place"
        expect(abs(found - wanted) < 1e-6, f"{found:.4f}", f"{wanted}", given, causes)


@check("no token depends on a later one: the gradient is exactly 0", step="triangle")
def causal(mine):
    import torch

    for time in (2, 5):
        parts = drawn(1, time, 4)
        for t in range(time):
            out = attend(mine, *parts)[0, t].sum()
            gradients = torch.autograd.grad(out, parts, allow_unused=True)
            for name, gradient in zip(("queries", "keys", "values"), gradients):
                later = 0.0 if gradient is None else gradient[0, t + 1 :].abs().sum().item()
                causes = [
                    "no mask, or one that is off by one",
                    "the softmax's axis is the wrong one",
                ]
                given = f"the gradient of token {t} of {time} by the {name} of later ones"
                expect(later == 0.0, f"{later:.3g}", "exactly 0", given, causes)


@check("a token sees itself and everything before it", step="triangle")
def sees_the_past(mine):
    import torch

    zero = torch.zeros(1, 4, 4, dtype=torch.float64)
    found = attend(mine, zero, zero, torch.eye(4, dtype=torch.float64)[None])[0]
    wanted = torch.ones(4, 4, dtype=torch.float64).tril()
    wanted = wanted / wanted.sum(dim=1, keepdim=True)
    off = (found - wanted).abs().max().item()
    causes = ["triu(0) hides the token itself", "minus infinity stands where 0 should"]
    given = "shares of 4 tokens that all fit equally well"
    expect(off < 1e-9, found.tolist(), str(wanted.tolist()), given, causes)


@check("attention is what it is by hand, scaled by the root of D", step="scale")
def golden(mine):
    for batch, time, width in SIZES:
        q, k, v = (part.detach() for part in drawn(batch, time, width))
        found = attend(mine, q, k, v).numpy()
        for b in range(batch):
            wanted = by_hand(q[b].numpy(), k[b].numpy(), v[b].numpy())
            off = np.abs(found[b] - wanted).max()
            causes = [
                "scores are not divided by the root of D",
                "divided by D, or by the root of T",
            ]
            given = f"q, k and v of T, D = {time}, {width}"
            expect(off < 1e-9, f"{off:.3g} off", "the same to 1e-9", given, causes)


def head(mine, **wishes):
    """Their Attention."""
    return lively(mine.Attention(config(mine, **wishes)), 0.5)


def tokens(time, width=8, batch=1):
    """(B, T, C) that may have gradients."""
    import torch

    torch.manual_seed(time)
    return torch.randn(batch, time, width, dtype=torch.float64, requires_grad=True)


@check("a head sees the past, all of it, and nothing of the future", step="head")
def head_is_causal(mine):
    import torch

    module, x = head(mine), tokens(5, batch=2)
    out = module(x)
    equal(tuple(out.shape), (2, 5, 8), given="the shape of Attention's output for (2, 5, 8)")
    for t in range(5):
        (gradient,) = torch.autograd.grad(out[0, t].sum(), x, retain_graph=True)
        sizes = gradient.abs().sum(dim=2)
        seen = f"{sizes[0].tolist()} and {sizes[1].tolist()}"
        expect(sizes[0, t + 1 :].sum() == 0, seen, "exactly 0 for later tokens", f"token {t} of 5")
        expect(sizes[1].sum() == 0, seen, "exactly 0 for another sequence", f"token {t} of 5")
        causes = ["queries, keys or values are not made of x", "tokens are mixed up by a reshape"]
        expect(
            (sizes[0, : t + 1] > 0).all(), seen, "above 0 up to itself", f"token {t} of 5", causes
        )


@check("in which order earlier tokens come is nothing to a head", step="head")
def bag(mine):
    module, x = head(mine), tokens(6).detach()
    shuffled = x[:, [3, 0, 4, 1, 2, 5]]
    off = (module(x)[0, -1] - module(shuffled)[0, -1]).abs().max().item()
    causes = ["tokens are mixed up by a view or a transpose too many"]
    given = "the last of 6 tokens when the 5 before it are shuffled"
    expect(off < 1e-9, f"{off:.3g} off", "the same output", given, causes)


@check("equal tokens stay equal, and what is asked decides what is gathered", step="head")
def conserves(mine):
    module, x = head(mine), tokens(1).detach()
    out = module(x.expand(1, 4, 8))
    off = (out - out[:, :1]).abs().max().item()
    causes = ["shares do not add up to 1", "softmax along the wrong axis"]
    expect(off < 1e-9, f"{off:.3g} off", "4 equal outputs", "4 equal tokens", causes)
    x = tokens(4).detach()
    one, other = (module(part) for part in (x, x[:, [0, 1, 2, 0]]))
    expect(
        (one[0, 3] - other[0, 3]).abs().max() > 1e-6, "the same", "another output", "other query"
    )


@check("earlier tokens count for the model, later ones never do", step="head")
def model_is_causal(mine):
    import torch

    model = lively(mine.GPT(config(mine)), 0.5)
    ids = torch.tensor([[3, 1, 4, 1, 5, 9]])
    logits = model(ids)
    for t in range(6):
        changed = ids.clone()
        changed[0, t] = 12
        found, given = model(changed), f"6 tokens, token {t} changed"
        same = torch.equal(found[0, :t], logits[0, :t])
        expect(same, "other scores before it", "the same bits", given, ["the mask is missing"])
        moved = (found[0, t:] - logits[0, t:]).abs().amax(dim=1)
        causes = ["what the head gathers is not used", "it takes the place of x, not x + it"]
        expect((moved > 0).all(), moved.tolist(), "other scores from it on", given, causes)


@check("what is gathered is added to the token's own vector", step="head")
def adds(mine):
    import torch

    model = lively(mine.GPT(config(mine)), 0.5)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, mine.Attention):
                for parameter in module.parameters():
                    parameter.zero_()
    one, other = model(torch.tensor([[3], [4]]))[:, 0]
    causes = ["what the head gathers takes the place of x, where it should be added to it"]
    given = "a head whose weights are all 0, two other tokens"
    expect((one - other).abs().max() > 1e-6, "the same scores", "other scores", given, causes)


@check("the order of what came before counts for the model", step="positions")
def order(mine):
    import torch

    model = lively(mine.GPT(config(mine)), 0.5)
    one, other = (model(torch.tensor([ids]))[0, -1] for ids in ([3, 1, 4, 5], [4, 3, 1, 5]))
    off = (one - other).abs().max().item()
    causes = ["places are not embedded", "all places get the same vector"]
    expect(off > 1e-6, "the same scores", "other scores", "3 1 4 5 and 4 3 1 5", causes)
    twice = model(torch.tensor([[7, 7]]))[0]
    expect((twice[0] - twice[1]).abs().max() > 1e-6, "the same scores", "other scores", "7 7")


@check("a text longer than the context is refused in words", step="positions")
def room(mine):
    import torch

    model = mine.GPT(config(mine, context=12))
    equal(tuple(model(torch.zeros(1, 12, dtype=torch.int64)).shape), (1, 12, 20), given="12 tokens")
    with refused("13 tokens, context 12", its_length="13", the_context="12"):
        model(torch.zeros(1, 13, dtype=torch.int64))


@check("text goes on when the context is full, by its last T tokens", step="positions")
def goes_on(mine):
    import torch

    seen = []

    def scores(ids):
        seen.append(ids[0].tolist())
        return 100.0 * torch.nn.functional.one_hot((ids + 1) % 257, 257)

    wish = mine.Sampling(max_tokens=3)
    found = continuation(mine, stand_in(scores, 4), mine.ByteTokenizer(), "abcdef", wish)
    equal(found, "ghi", given="a model that always adds 1, after abcdef")
    wanted = [[*text.encode()] for text in ("cdef", "defg", "efgh")]
    causes = ["the prompt is not cut", "only the prompt is cut, not what follows it"]
    equal(seen, wanted, given="what a model with a context of 4 was shown", causes=causes)
