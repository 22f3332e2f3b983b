"""What a cache must be: the logits of the whole, whatever the parts, and each token only once."""

import functools
import itertools
from unittest import mock

from buildgpt.course.checking import check, equal, expect, lively, near, refused, stand_in, works


def gpt(mine, **wishes):
    """A small GPT in float64 that makes a difference, and needs no gradients."""
    small = {"layers": 2, "heads": 2, "width": 16, "context": 8, "vocab_size": 257}
    return lively(mine.GPT(mine.ModelConfig(**(small | wishes))), 0.3).requires_grad_(False)


@check("a cache gives back all that was put in, in order", step="extend")
def extends(mine):
    import torch

    for parts, batch, heads in (((1,), 1, 1), ((3, 1, 1), 1, 2), ((1, 4, 2, 1), 2, 3)):
        cache, all_keys, all_values = mine.Cache(8), [], []
        for number, new in enumerate(parts):
            k, v = torch.randn(2, batch, heads, new, 4, dtype=torch.float64)
            all_keys.append(k)
            all_values.append(v)
            keys, values = cache.extend(k.clone(), v.clone())
            given = f"part {number + 1} of {parts}, B = {batch}, H = {heads}"
            for what, found, wanted in (("keys", keys, all_keys), ("values", values, all_values)):
                whole = torch.cat(wanted, dim=2)
                shape = tuple(found.shape)
                causes = ["only what is new is returned, or the whole table with its empty places"]
                about = f"the shape of {what}, {given}"
                equal(shape, tuple(whole.shape), given=about, causes=causes)
                causes = [
                    "keys and values are mixed up",
                    "a part overwrites the one before",
                    "the tables have another dtype than the keys, here float64: k.new_empty",
                ]
                same = torch.equal(found, whole)
                expect(same, "other numbers", "all parts side by side", f"{what}, {given}", causes)
            causes = ["length counts calls, not tokens"]
            equal(cache.length, sum(parts[: number + 1]), given=f"length, {given}", causes=causes)


def splits(total):
    """All ways to cut so many tokens into parts: (3,), (2, 1), (1, 2), (1, 1, 1)."""
    for cuts in itertools.product((False, True), repeat=total - 1):
        sizes = [1]
        for cut in cuts:
            if cut:
                sizes.append(1)
            else:
                sizes[-1] += 1
        yield tuple(sizes)


@check("whatever the parts, the logits are those of the whole", step="pass")
def parts(mine):
    import torch

    model = gpt(mine)
    for total in (1, 2, 6, 8):
        ids = torch.arange(2 * total).view(2, total) * 37 % 257
        whole = model(ids)
        ways = [*splits(total)] if total < 8 else [(8,), (4, 4), (7, 1), (1,) * 8]
        for sizes in ways:
            cache, found = model.new_cache(), []
            for part in ids.split(sizes, dim=1):
                found.append(model.logits(model.hidden(part, cache)))
            off = (torch.cat(found, dim=1) - whole).abs().max().item()
            causes = [
                "positions begin at 0 in every part",
                "all layers share one cache",
                "the triangle begins at the first key: see the lesson before",
            ]
            given = f"{total} tokens in the parts {sizes}"
            expect(off < 1e-9, f"logits {off:.2g} off", "the same", given, causes)


@check("more tokens than the context are refused, counted with those in the cache", step="pass")
def room(mine):
    import torch

    model = gpt(mine)
    cache = model.new_cache()
    model.hidden(torch.arange(6)[None], cache)
    with refused("3 tokens after 6, context 8"):
        model.hidden(torch.arange(3)[None], cache)


def counting(model, call):
    """How many tokens a model's hidden is asked about during a call, and what that returns."""
    seen, hidden = [], model.hidden

    def note(ids, *rest, **more):
        seen.append(ids.size(1))
        return hidden(ids, *rest, **more)

    with mock.patch.object(model, "hidden", note):
        returned = call()
    return sum(seen), returned


@check("each token is computed once, and the text is that of the full pass", step="once")
def once(mine):
    import torch

    for context, prompt, count in (
        (32, [1], 1),
        (32, [1], 5),
        (32, [5, 6, 7, 8], 8),
        (32, [1, 2], 30),
        (8, [1, 2, 3], 6),  # fills the context to its last place
        (8, [1, 2, 3], 14),
        (8, [*range(20)], 9),
    ):
        model, ids, wanted = gpt(mine, context=context), list(prompt), []
        with torch.no_grad():
            for _ in range(count):
                wanted.append(int(model(torch.tensor([ids[-context:]]))[0, -1].argmax()))
                ids.append(wanted[-1])
        wish = mine.Sampling(max_tokens=count, temperature=0)
        call = functools.partial(mine.generate, model, prompt, wish)
        positions, found = counting(model, lambda call=call: [int(token) for token in call()])
        causes = [
            "when the context is full the cache still holds the positions of old",
            "the first tokens leave the cache, but their traces in the others stay",
            "after a cache is made anew it sees the newest token only, not the last T",
        ]
        given = f"the likeliest {count} tokens after {len(prompt)}, context {context}"
        equal(found, wanted, given=given, causes=causes)
        most = len(prompt) + count
        if most <= context + 1:  # nothing needs to come after the last token
            causes = ["all tokens are handed in each time", "the cache is made anew each time"]
            given = f"positions evaluated for {count} tokens after {len(prompt)}"
            expect(positions <= most, f"{positions}", f"{most} at most", given, causes)


@check("the token that comes next is scored by the last position", step="once")
def next_one(mine):
    import torch

    model, ids = gpt(mine), torch.tensor([[3, 1, 4, 1, 5]])
    cache = model.new_cache()
    found = mine.next_logits(model, ids, cache)
    equal(tuple(found.shape), (1, 257), given="the shape of next_logits for 5 ids")
    off = (found - model(ids)[:, -1]).abs().max().item()
    expect(off < 1e-9, f"{off:.2g} off", "the last row of logits", "next_logits for 5 ids")
    equal(cache[0].length, 5, given="the tokens in the cache afterwards")


@check("a score that is no number is refused, in words", step="draw")
def no_number(mine):
    import torch

    generator = torch.Generator().manual_seed(1)
    for temperature in (0.0, 0.8):
        for scores in ([[0.0, float("nan"), 1.0]], [[0.0, 1.0], [float("nan"), 0.0]]):
            wish = mine.Sampling(temperature=temperature)
            with refused(f"scores {scores}, temperature {temperature}", what="weights"):
                mine.pick(torch.tensor(scores), wish, generator)


@check(
    "a sample begins with the prompt and goes on by chance, which its seed decides", step="sample"
)
def sampled(mine):
    import torch

    model, tokenizer = gpt(mine, context=16), mine.ByteTokenizer()
    model.train()
    wish = mine.SampleConfig(prompt="ab", max_tokens=5)
    one, again, other = (mine.sample(model, tokenizer, wish, seed) for seed in (1, 1, 2))
    expect(one.startswith("ab"), one, "ab first", "a text after the prompt ab")
    expect(one == again and one != other, [one, again, other], "seeds decide", "seeds 1, 1, 2")
    equal(model.training, True, given="model.training after a sample")
    letters = mine.CharTokenizer("ab\n")
    with works("a sample of prompt 'xyz', where the tokenizer knows 'a' and 'b' only"):
        mine.sample(gpt(mine, vocab_size=letters.vocab_size), letters, wish_of(mine, "xyz"), 1)
    logits = torch.tensor([[-float("inf"), 0.0, -float("inf"), 1.0, -float("inf")]])
    drawn = mine.pick(logits.repeat(6000, 1), mine.Sampling(temperature=1.0), torch.Generator())
    equal(
        sorted(set(drawn.tolist())), [1, 3], given="the ids drawn of scores -inf, 0, -inf, 1, -inf"
    )
    near((drawn == 3).double().mean(), 0.731, 0.025, "the share of id 3")
    equal(str(drawn.dtype), "torch.int64", given="the dtype of what is drawn")


def wish_of(mine, prompt):
    """A short sample."""
    return mine.SampleConfig(prompt=prompt, max_tokens=3)


@check("several samples are drawn side by side, and each has its own end", step="several")
def several(mine):
    import torch

    even, tokenizer = stand_in(lambda ids: torch.zeros(*ids.shape, 257)), mine.ByteTokenizer()
    found = mine.continue_text(even, tokenizer, "a", mine.Sampling(max_tokens=9, samples=3))
    equal(len(found), 3, given="texts of samples = 3")
    equal(len(set(found)), 3, given="different ones of 3 texts of a model that knows nothing")

    def scores(ids):
        logits = torch.zeros(*ids.shape, 257)
        logits[0, :, 256] = logits[1:, :, 97] = 100.0  # the first one ends at once
        return logits

    wish = mine.Sampling(max_tokens=3, samples=2)
    found = mine.continue_text(stand_in(scores), tokenizer, "x", wish)
    equal(found, ["", "aaa"], given="two samples, of which the first ends at once")
    for wrong in ({"samples": 0}, {"max_tokens": -1}, {"seed": -1}, {"temperature": float("nan")}):
        with refused(f"Sampling(**{wrong})"):
            mine.Sampling(**wrong)


@check("rows of a cache can be copied, and go on apart", step="rows")
def rows(mine):
    import torch

    model = gpt(mine)
    ids, chosen = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([1, 0, 1])
    cache = model.new_cache(3)
    model.hidden(ids, cache)
    copies = [part.select(chosen, 2) for part in cache]
    ends = torch.tensor([[7, 8], [9, 10], [11, 12]])
    found = model.logits(model.hidden(ends, copies))
    wanted = model(torch.cat([ids[chosen], ends], dim=1))[:, 3:]
    off = (found - wanted).abs().max().item()
    expect(off < 1e-9, f"logits {off:.2g} off", "those of the whole", "rows 1, 0, 1 of two, 2 more")
    part = mine.Cache(4, torch.bfloat16)
    k, v = torch.randn(2, 1, 2, 3, 4)
    keys, _ = part.extend(k, v)
    given = "a cache in bf16 that is handed fp32"
    equal((keys.dtype, part.keys.dtype), (torch.float32, torch.bfloat16), given=given)
