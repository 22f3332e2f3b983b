"""What a modern model must be: GPT-2 where nothing is switched on, and causal with anything."""

import dataclasses
import inspect
import math

from buildgpt.course.checking import check, equal, expect, lively, near, tokens

SMALL = {"layers": 2, "heads": 2, "width": 16, "context": 8, "vocab_size": 20}


def switches(mine, *on):
    """Their switches: these are on, all others off."""
    names = [field.name for field in dataclasses.fields(mine.ModernConfig)]
    return mine.ModernConfig(**{name: name in on for name in names})


def modern(mine, *on, **wishes):
    """A small Modern in float64 that makes a difference, and its ids."""
    import torch

    config = mine.ModelConfig(**(SMALL | {"architecture": "modern"} | wishes))
    model = lively(mine.build(config, switches(mine, *on)), 0.3)
    torch.manual_seed(4)
    return model, torch.randint(config.vocab_size - 1, (2, config.context))


@check("an architecture is a word in the recipe, and build makes the class of it", step="build")
def builds(mine):
    for architecture, modern in (("gpt2", False), ("modern", True)):
        config = mine.ModelConfig(**(SMALL | {"architecture": architecture}))
        found = isinstance(mine.build(config), mine.Modern)
        equal(found, modern, given=f"whether build gives a Modern, architecture = {architecture}")
    recipe = mine.Recipe(model=config, train=mine.TrainConfig(tokens_per_step=64))
    equal(type(recipe.modern), mine.ModernConfig, given="Recipe().modern")


@check("with all switches off it is GPT-2, weight for weight", step="build")
def is_gpt2(mine):
    import torch

    ours, ids = modern(mine)
    config = dataclasses.replace(ours.config, architecture="gpt2")
    theirs = lively(mine.build(config), 0.3)
    names = [*theirs.state_dict()]
    causes = ["a part of the model has another name than in your GPT: give both the same"]
    equal([*ours.state_dict()], names, given="names of the weights of a Modern", causes=causes)
    ours.load_state_dict(theirs.state_dict())
    off = (ours(ids) - theirs(ids)).abs().max().item()
    expect(off < 1e-9, f"{off:.3g} off", "GPT-2's logits", "all switches off, GPT-2's weights")
    equal(ours.parameter_count(), theirs.parameter_count(), given="parameter_count()")
    wide = {"width": 64, "init_std": 0.02, "layers": 8}
    config = mine.ModelConfig(**(SMALL | {"architecture": "modern"} | wide))
    torch.manual_seed(1)
    fresh = mine.build(config, switches(mine))
    spreads = {name: p.std().item() for name, p in fresh.named_parameters() if p.dim() == 2}
    for name, seen in spreads.items():
        wanted = 0.02 / 4 if ".out." in name else 0.02
        near(seen, wanted, wanted / 5, f"the spread of {name} at the start, 8 layers")


@check(
    "a vector keeps its length when it is turned, and nothing turns at position 0", step="rotary"
)
def lengths(mine):
    import torch

    x = tokens(2, 3, 6, 8).detach()
    for start in (0, 5):
        turned = mine.rotate(x, *mine.rotation(start, start + 6, 8, x))
        equal(tuple(turned.shape), tuple(x.shape), given="the shape of (B, H, T, D) turned")
        off = (turned.norm(dim=3) - x.norm(dim=3)).abs().max().item()
        causes = ["a sign: (a cos - b sin, a sin + b cos)"]
        given = f"positions {start} to {start + 5}"
        expect(off < 1e-5, f"lengths {off:.3g} off", "the same lengths", given, causes)
        first = (turned[:, :, 0] - x[:, :, 0]).abs().max().item()
        moved = "turned" if first > 1e-5 else "as it was"
        equal(moved, "as it was" if start == 0 else "turned", given=f"a vector at position {start}")
    for part in mine.rotation(2, 5, 8, torch.zeros(1)):
        equal(tuple(part.shape), (3, 4), given="the shape of cosines and sines, (T, D / 2)")


@check("a score follows from the distance, wherever the two stand", step="rotary")
def distance(mine):
    import torch

    q, k = tokens(1, 1, 1, 16).detach(), tokens(2, 1, 1, 16).detach()[:1]
    turned = mine.rotation(0, 90, 16, q)
    queries, keys = (mine.rotate(x.expand(1, 1, 90, 16), *turned)[0, 0] for x in (q, k))
    scores = queries @ keys.T
    for back in (1, 3, 20):
        row = scores.diagonal(-back)
        off = (row - row[0]).abs().max().item()
        given = f"scores of a query and a key that lies {back} before it, at {len(row)} places"
        causes = ["queries and keys are turned by different angles"]
        expect(off < 1e-3, f"they differ by {off:.3g}", "the same", given, causes)
    apart = (scores.diagonal(-1)[0] - scores.diagonal(-20)[0]).abs().item()
    expect(apart > 1e-3, "the same", "other scores", "a key 1 and 20 before the query")
    ahead = mine.rotate(q, *mine.rotation(7, 8, 16, q))[0, 0, 0]
    off = (ahead - queries[7]).abs().max().item()
    causes = ["positions begin at 0, not at start"]
    expect(
        off < 1e-5, f"{off:.3g} off", "the same", "rotation(7, 8) and place 7 of 0 to 90", causes
    )
    equal(str(ahead.dtype), str(torch.float64), given="a float64 vector, turned")


@check("half of the pairs turn, at speeds from 1 down to 1/1024, and half stay", step="rotary")
def speeds(mine):
    import torch

    for depth, wanted in (
        (4, [1.0, 0.0]),
        (8, [1.0, 1 / 1024, 0.0, 0.0]),
        (12, [1.0, 1 / 32, 1 / 1024, 0.0, 0.0, 0.0]),
    ):
        cosines, sines = mine.rotation(3, 4, depth, torch.zeros(1))
        for pair, speed in enumerate(wanted):
            given = f"of pair {pair} at position 3, a head of {depth}"
            near(cosines[0, pair], math.cos(3 * speed), 1e-5, f"the cosine {given}")
            near(sines[0, pair], math.sin(3 * speed), 1e-5, f"the sine {given}")


@check("with rotary on, the order of what came before counts", step="rotary")
def order(mine):
    import torch

    for heads in (1, 2):
        model, ids = modern(mine, "rotary", layers=1, heads=heads)
        swapped = ids[:, [1, 0, *range(2, ids.size(1))]]
        far = (model(ids)[:, -1] - model(swapped)[:, -1]).abs().max().item()
        causes = ["forward does not turn", "view gives no rotation", "only values are turned"]
        given = "the last logits when tokens 0 and 1 change places, one layer"
        expect(far > 1e-6, "the same", "others", given, causes)
        shifted = torch.cat([ids[:, :1], ids[:, :-1]], dim=1)
        same = torch.equal(model(ids)[:, :1], model(shifted)[:, :1])
        expect(same, "others", "the same", "logits of the first token, whatever follows")


VARIANTS = (("rotary",), ("rotary", "rms_norm"), ("relu2",), ("rotary", "qk_norm"), ("softcap",))


def known(mine, on):
    """Whether their ModernConfig has all these switches."""
    names = {field.name for field in dataclasses.fields(mine.ModernConfig)}
    return names.issuperset(on)


@check("whatever is on, no output depends on a later token", step="build")
def causal(mine):
    for on in VARIANTS:
        if not known(mine, on):
            continue
        model, ids = modern(mine, *on)
        logits = model(ids)
        for place in (1, 4, 7):
            changed = ids.clone()
            changed[:, place] = (changed[:, place] + 1) % 19
            off = (model(changed)[:, :place] - logits[:, :place]).abs().max().item()
            given = f"logits before token {place} when it changes, on: {', '.join(on)}"
            expect(off < 1e-12, f"{off:.3g} off", "the same", given)


@check("token by token with a cache gives what the whole gives", step="build")
def cached(mine):
    import torch

    for on in VARIANTS:
        if not known(mine, on):
            continue
        model, ids = modern(mine, *on)
        whole = model(ids)
        for cut in (1, 3, 7):
            cache = model.new_cache()
            with torch.no_grad():
                parts = [model.hidden(ids[:, :cut], cache), model.hidden(ids[:, cut:], cache)]
            off = (model.logits(torch.cat(parts, dim=1)) - whole).abs().max().item()
            causes = ["positions begin at 0 again where a cache goes on", "keys are kept unturned"]
            given = f"8 tokens in parts of {cut} and {8 - cut}, on: {', '.join(on)}"
            expect(off < 1e-5, f"{off:.3g} off", "the same logits", given, causes)


@check("a norm without mean and weights, and no bias anywhere", step="rms-norm")
def plain_norm(mine):
    on, off = switches(mine, "rms_norm"), switches(mine)
    norm, x = mine.norm_layer(16, on), tokens(3, 16) * 4 + 1
    y = norm(x)
    for row in range(3):
        size = y[row].square().mean().sqrt()
        near(size, 1.0, 1e-4, "the root of the mean square after the norm")
        turned = (y[row] / y[row].norm() - x[row] / x[row].norm()).abs().max().item()
        causes = ["the mean is taken away"]
        expect(turned < 1e-6, "another direction", "the same direction", "a vector, normed", causes)
    equal(len(list(norm.parameters())), 0, given="parameters of the norm")
    model, _ = modern(mine, "rms_norm", "rotary")
    vectors = [name for name, p in model.named_parameters() if p.dim() < 2]
    equal(vectors, [], given="parameters that are vectors, rms_norm on")
    equal(len(list(mine.norm_layer(16, off).parameters())), 2, given="parameters, rms_norm off")


@check("the MLP squares what is positive and drops the rest", step="relu2")
def squares(mine):
    import torch

    for on, wanted in ((True, 4.0), (False, None)):
        names = ("rms_norm", "relu2") if on else ("rms_norm",)
        model, _ = modern(mine, *names)
        mlp, x = model.blocks[0].mlp, tokens(1, 5, 16).detach()
        ratio = mlp(2 * x) / mlp(x)
        off = (ratio - 4).abs().max().item()
        if on:
            causes = ["no square", "GELU is squared", "the switch is not heeded"]
            given = "the MLP of 2 x over that of x, relu2 on and no biases"
            expect(off < 1e-6, f"{ratio.flatten()[0]:.3g}", f"{wanted}", given, causes)
            both = mlp(x) + mlp(-x)
            with torch.no_grad():
                up = model.blocks[0].mlp.up(x)
                byhand = model.blocks[0].mlp.out(up.square())
            apart = (both - byhand).abs().max().item()
            given = "what the MLP makes of x and of -x, added up"
            expect(apart < 1e-9, f"{apart:.3g} off", "what the squares make", given, causes)
        else:
            expect(off > 1e-3, "4 times everywhere", "GELU", "the MLP with relu2 off")


@check("scores do not grow with the weights of queries and keys", step="qk-norm")
def bounded(mine):
    import torch

    for on in (("qk_norm",), ("qk_norm", "rotary")):
        model, ids = modern(mine, *on, layers=1)
        before = model(ids)
        with torch.no_grad():
            weight, bias = (getattr(model.blocks[0].attention.qkv, n) for n in ("weight", "bias"))
            weight[:32] *= 50
            bias[:32] *= 50
        off = (model(ids) - before).abs().max().item()
        causes = ["only queries are normed, or only keys", "normed over all heads together"]
        given = f"logits with queries and keys 50 times as large, on: {', '.join(on)}"
        expect(off < 1e-4, f"{off:.3g} off", "the same", given, causes)
    attention = modern(mine, "qk_norm", layers=1, heads=1)[0].blocks[0].attention
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.zero_()
        attention.qkv.weight.copy_(torch.eye(16, dtype=torch.float64).repeat(3, 1))
        attention.out.weight.copy_(torch.eye(16, dtype=torch.float64))
    x = torch.zeros(1, 2, 16, dtype=torch.float64)
    x[0, 0, 3] = x[0, 1, 5] = 2.0
    found = attend_alone(mine, attention, x)
    ratio = math.log(found[0, 1, 5] / found[0, 1, 3])
    given = "how far apart the scores of a token for itself and for one at a right angle are"
    near(ratio, 0.12 * 128, 1e-3, given, ["the scale is still 1 over the root of D"])


def attend_alone(mine, attention, x):
    """Attention of x with neither rotation nor cache, and nothing of what lesson 30 adds."""
    view = mine.core.modern.View
    given = {"view": view(*[None] * len(dataclasses.fields(view)))}
    names = [*inspect.signature(attention.forward).parameters]
    return attention(x, *[given.get(name) for name in names[1:]]).detach()


@check("logits lie between -30 and 30, and small ones are as they were", step="softcap")
def capped(mine):
    import torch

    model, ids = modern(mine, "softcap")
    plain, _ = modern(mine)
    off = (model(ids) - 30 * (plain(ids) / 30).tanh()).abs().max().item()
    expect(off < 1e-6, f"{off:.3g} off", "30 tanh(logit / 30)", "logits with softcap on")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(20)
    largest = model(ids).abs().max().item()
    expect(largest <= 30, f"{largest:.4g}", "at most 30", "the largest logit, huge weights")


@check("a switch of which nothing is said is on", step="softcap")
def on(mine):
    config = mine.ModernConfig()
    for name in ("rotary", "rms_norm", "relu2", "qk_norm", "softcap"):
        equal(getattr(config, name, None), True, given=f"ModernConfig().{name}")
