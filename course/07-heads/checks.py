"""What many heads must do: be single heads side by side, neither fewer nor mixed up."""

import math

from buildgpt.course.checking import check, expect, lively, refused, tokens


def config(mine, **wishes):
    """A small ModelConfig."""
    small = {"width": 16, "heads": 4, "context": 12, "vocab_size": 20}
    small |= {"layers": 1} if hasattr(mine.ModelConfig(), "layers") else {}
    return mine.ModelConfig(**(small | wishes))


def head(mine, **wishes):
    """Their Attention in float64, with weights that are large enough to have an effect."""
    return lively(mine.Attention(config(mine, **wishes)))


@check("heads that do not divide the width are refused, with the nearest that do", step="heads")
def divides(mine):
    for heads, width, nearest in ((3, 16, 2), (5, 64, 4), (7, 12, 6), (2, 7, 1)):
        given = f"heads = {heads}, width = {width}"
        causes = ["nothing looks at the values once they are set: __post_init__"]
        with refused(given, causes, the_heads=str(heads), the_width=str(width)):
            mine.ModelConfig(heads=heads, width=width)
        with refused(given, ["the nearest divisor is not named"], the_nearest=f"{nearest}"):
            mine.ModelConfig(heads=heads, width=width)
        found = mine.ModelConfig(heads=nearest, width=width)
        expect(found.heads == nearest, found.heads, str(nearest), f"ModelConfig(heads={nearest})")
    for name in ("heads", "width"):
        causes = ["Python's own error about a division by 0 says nothing of the setting"]
        with refused(f"{name} = 0", causes, its_name=name):
            mine.ModelConfig(**{name: 0})


@check("attention of many heads is each head's attention, side by side", step="split")
def side_by_side(mine):
    import torch

    for batch, heads, time, width in ((1, 2, 3, 2), (2, 3, 5, 8)):
        q, k, v = tokens(3, batch, heads, time, width).detach()
        found = mine.attend_by_hand(q, k, v)
        given = f"q, k and v of B, H, T, D = {(batch, heads, time, width)}"
        expect(found.shape == q.shape, tuple(found.shape), str(tuple(q.shape)), given)
        for h in range(heads):
            alone = mine.attend_by_hand(*(part[:, h : h + 1] for part in (q, k, v)))[:, 0]
            off = (found[:, h] - alone).abs().max().item()
            causes = ["an axis was not moved by one: the heads came in between"]
            expect(off < 1e-12, f"{off:.3g} off", "the same", f"head {h} alone, {given}", causes)
            scores = q[:, h] @ k[:, h].transpose(1, 2) / math.sqrt(width)
            scores += torch.full((time, time), -math.inf, dtype=torch.float64).triu(1)
            off = (alone - scores.softmax(2) @ v[:, h]).abs().max().item()
            causes = ["the root is that of T or C, not of a head's own width D"]
            expect(off < 1e-9, f"{off:.3g} off", "the same as by hand", given, causes)


def ways(module, a, b):
    """In how many directions the output moves when more and more of the tokens before are b.

    The last token, an a, gathers from a mixture of a and b. Each head has shares of its own, so
    each moves the output along a line of its own: there are as many as heads.
    """
    import torch

    rows = torch.stack([b] * 9 + [a])  # the last one asks
    outputs = []
    for count in range(10):
        x = rows.clone()
        x[: 9 - count] = a
        outputs.append(module(x[None])[0, -1])
    moves = torch.stack(outputs[1:]) - outputs[0]
    values = torch.linalg.svdvals(moves)
    return int((values > 1e-9 * values[0]).sum())


@check("however many heads: the past, all of it, and nothing of the future", step="split")
def heads_are_causal(mine):
    import torch

    for heads in (2, 4):
        module, x = head(mine, heads=heads), tokens(2, 5, 16)
        out = module(x)
        expect(out.shape == x.shape, tuple(out.shape), str(tuple(x.shape)), "the shape")
        for t in range(5):
            (gradient,) = torch.autograd.grad(out[0, t].sum(), x, retain_graph=True)
            sizes = gradient.abs().sum(dim=2)
            later = sizes[0, t + 1 :].sum().item() + sizes[1].sum().item()
            given = f"{heads} heads, token {t} of 5"
            causes = [
                "(B, T, C) was viewed as (B, H, T, D) at once: split C first, then swap the axes",
                "heads and tokens are not swapped back before they are joined",
            ]
            wanted = "no gradient by later tokens or another sequence"
            expect(later == 0, f"{later:.3g}", wanted, given, causes)
            past = sizes[0, : t + 1]
            expect((past > 0).all(), past.tolist(), "a gradient by all up to itself", given, causes)
        shuffled = module(x[:, [3, 0, 2, 1, 4]])
        off = (out[0, -1] - shuffled[0, -1]).abs().max().item()
        given = f"{heads} heads: the last of 5 tokens when those before it are shuffled"
        expect(off < 1e-9, f"{off:.3g} off", "the same output", given, causes)
        found = max(ways(module, a, b) for a, b in 0.7 * tokens(8, 2, 16).detach())
        expect(found > 1, "one way of gathering", "several", f"{heads} heads", ["it is one head"])


@check("each head gathers by shares of its own: so many heads, no fewer, no more", step="split")
def count(mine):
    for heads in (1, 2, 4):
        module = head(mine, heads=heads)
        pairs = 0.7 * tokens(8, 2, 16).detach()
        found = max(ways(module, a, b) for a, b in pairs)
        causes = [
            "the width is not divided among the heads: there is one head, or C of them",
            "all heads share the same queries and keys",
        ]
        given = f"width 16, {heads} heads: the ways in which a mixture of two tokens is gathered"
        expect(found == heads, f"{found}", f"{heads}", given, causes)


@check("an output of the layer may hold something of every head", step="out")
def mixes(mine):
    import torch

    module = head(mine, heads=4)
    a, b = 0.7 * tokens(8, 2, 16).detach()[0]
    rows = torch.stack([a, b, a])[None]
    moved = (module(rows) - module(torch.stack([a, a, a])[None]))[0, -1].abs()
    expect((moved > 1e-9).all(), moved.tolist(), "all channels move", "one token before is another")
    # Without a projection, channel c depends on values alone that are made for head c // D. Then
    # the ways in which a quarter of the channels moves are one; with it, as many as heads.
    quarter = max(ways(lambda x: module(x)[..., :4], a, b) for a, b in 0.7 * tokens(8, 2, 16))
    causes = ["the heads' outputs lie side by side, and no layer mixes them"]
    given = "4 of 16 channels: the ways in which a mixture of two tokens is gathered"
    expect(quarter == 4, f"{quarter}", "4, one of each head", given, causes)


@check("queries, keys and values each have weights of their own", step="out")
def three(mine):
    for time, share in ((5, 1.0), (1, 0.5)):
        module = head(mine)
        module(tokens(2, time, 16)).square().sum().backward()
        weights = [p for p in module.parameters() if p.dim() > 1]
        count = sum(p.numel() for p in weights)
        used = sum(int((p.grad != 0).sum()) for p in weights if p.grad is not None)
        causes = [
            "the values are the keys, or the queries are: some weights play no part",
            "a token alone sees itself only, whatever its query and key are",
        ]
        given = f"the share of the weights that have a gradient, {time} tokens"
        expect(used == share * count, f"{used / count:.2f}", f"{share}", given, causes)
