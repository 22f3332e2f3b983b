"""What sampling must do: chances by hand in float64, and text from models that are known."""

import math

import numpy as np

from buildgpt.course.checking import (
    Failed,
    check,
    command,
    continuation,
    equal,
    expect,
    near,
    of_the_size,
    refused,
    stand_in,
)


def sampling(mine, **wishes):
    """Their sampling, at temperature 1 as far as there is one yet."""
    plain = {"temperature": 1.0} if mine.done("05-sampling/temperature") else {}
    return mine.Sampling(**(plain | wishes))


def chances(mine, logits, **wishes):
    """A row of their chances."""
    import torch

    return mine.probabilities(torch.tensor([logits]), sampling(mine, **wishes))[0].tolist()


def softmax(logits):
    """By hand."""
    powers = np.exp(np.array(logits, dtype=float))
    return powers / powers.sum()


def same(mine, logits, wanted, causes, **wishes):
    """Fail unless the chances of logits are those."""
    given = f"logits {logits}, " + ", ".join(f"{k} = {v}" for k, v in wishes.items())
    for i, (seen, chance) in enumerate(zip(chances(mine, logits, **wishes), wanted)):
        near(seen, float(chance), 1e-5, f"the chance of id {i}, {given}", causes)


def successor(then=1):
    """A stand-in for a model: the next id is always so much more than the last one."""
    import torch

    return stand_in(lambda ids: 100.0 * torch.nn.functional.one_hot((ids + then) % 257, 257))


def reciter(ids):
    """A stand-in for a model that tells these ids, whatever the prompt of one token is."""
    import torch

    def scores(seen):
        logits = torch.zeros(1, seen.size(1), 257)
        logits[0, -1, ids[seen.size(1) - 1]] = 100.0
        return logits

    return stand_in(scores)


@check("a temperature that nobody says is a moderate one", step="temperature")
def moderate(mine):
    of_the_size(mine.Sampling(), temperature=0.8)


@check("tokens are drawn as often as their chances say, by the generator", step="sampling")
def drawn(mine):
    import torch

    scores = torch.tensor([[0.0, 1.0, 2.0, -math.inf]]).repeat(6000, 1)
    wish = sampling(mine)
    one, again = (mine.pick(scores, wish, torch.Generator().manual_seed(0)) for _ in range(2))
    expect(torch.equal(one, again), "two different draws", "the same", "the same seed twice")
    for i, chance in enumerate(softmax([0, 1, 2])):
        share = (one == i).double().mean().item()
        near(share, chance, 0.025, f"the share of id {i} in 6000 draws from 0, 1, 2, -inf")


@check("text goes on from the prompt, as many tokens as asked", step="sampling")
def continues(mine):
    for prompt, count, text in (("a", 1, "b"), ("xyA", 3, "BCD"), ("a", 0, ""), ("", 2, "\0\1")):
        wish = sampling(mine, max_tokens=count)
        found = continuation(mine, successor(), mine.ByteTokenizer(), prompt, wish)
        equal(found, text, given=f"a model that always adds 1, {prompt!r}, {count} tokens")


@check("the seed of the sampling decides the text", step="sampling")
def seeded(mine):
    import torch

    even = stand_in(lambda ids: torch.zeros(1, ids.size(1), 257))
    texts = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(texts))
        wish = sampling(mine, max_tokens=30, seed=seed)
        texts.append(continuation(mine, even, mine.ByteTokenizer(), "a", wish))
    expect(texts[0] == texts[1], "two texts", "one", "seed 1 twice")
    expect(texts[0] != texts[2], "the same text", "another", "seeds 1 and 2")


@check("logits are divided by the temperature before the softmax", step="temperature")
def temperature(mine):
    causes = ["multiplied instead of divided", "chances are divided, not logits"]
    for wish in (1.0, 0.5, 2.0):
        logits = [0.0, 1.0, 3.0]
        same(mine, logits, softmax(np.array(logits) / wish), causes, temperature=wish)


@check("draws follow the temperature", step="temperature")
def drawn_cold(mine):
    import torch

    scores = torch.tensor([[0.0, 1.0]]).repeat(4000, 1)
    wish = sampling(mine, temperature=0.25)
    found = mine.pick(scores, wish, torch.Generator().manual_seed(0)).double().mean().item()
    causes = ["pick still takes the plain softmax"]
    near(found, softmax([0, 4])[1], 0.02, "the share of id 1, logits 0 and 1, at 0.25", causes)


@check("at temperature 0, and near it, the likeliest token has all the chance", step="greedy")
def greedy(mine):
    causes = ["something is divided by zero: the chances are no numbers"]
    for wish in (0.0, 1e-45, 1e-30):
        same(mine, [1.0, 300.0, 2.0], [0, 1, 0], causes, temperature=wish)


@check("a negative temperature is refused", step="greedy")
def negative(mine):
    with refused("Sampling(temperature=-1.0)", the_value="-1"):
        mine.Sampling(temperature=-1.0)


@check("top-k leaves the k likeliest, and 0 leaves all", step="top-k")
def top_k(mine):
    logits = [1.0, 4.0, 3.0, 0.0, 2.0]
    everything = range(5)
    left_by = {1: [1], 2: [1, 2], 4: [0, 1, 2, 4], 5: everything, 0: everything, 9: everything}
    for k, left in left_by.items():
        kept = [logit if i in left else -np.inf for i, logit in enumerate(logits)]
        causes = ["the k least likely ones", "chances do not add up to 1 afterwards"]
        if k > len(logits):
            causes = ["k may be larger than the vocabulary: then all stay"]
        try:
            same(mine, logits, softmax(kept), causes, top_k=k)
        except (RuntimeError, IndexError) as error:
            seen, given = f"{type(error).__name__}: {error}", f"{len(logits)} logits, top_k = {k}"
            raise Failed(seen, "chances", given, causes) from error
    with refused("Sampling(top_k=-1)", the_value="-1"):
        mine.Sampling(top_k=-1)


@check("tokens that are as likely as the k-th one all stay", step="top-k")
def ties(mine):
    for k, logits, left in ((1, [2.0, 1.0, 2.0], [0, 2]), (2, [1.0, 3.0, 1.0, 0.0], [0, 1, 2])):
        kept = [logit if i in left else -np.inf for i, logit in enumerate(logits)]
        causes = ["exactly k are kept, though nothing tells the k-th one from its equals"]
        same(mine, logits, softmax(kept), causes, top_k=k)


@check("each row has a top-k of its own", step="top-k")
def rows(mine):
    import torch

    logits = torch.tensor([[9.0, 8.0, 7.0], [1.0, 2.0, 3.0]])
    found = mine.probabilities(logits, sampling(mine, top_k=1)).tolist()
    equal(found, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], given="two rows, top_k = 1")


@check("top-p leaves as few as make up p, the one that crosses it included", step="top-p")
def top_p(mine):
    logits = np.log([0.5, 0.125, 0.25, 0.125]).tolist()
    for p, left in ((0.4, [0]), (0.6, [0, 2]), (0.8, [0, 1, 2]), (1.0, range(4)), (1e-9, [0])):
        kept = [logit if i in left else -np.inf for i, logit in enumerate(logits)]
        causes = [
            "the token that crosses p is left out",
            "what is kept is put back in the order of chances, not of ids",
            "what is kept does not add up to 1",
        ]
        same(mine, logits, softmax(kept), causes, top_p=p)
    for wrong in (0.0, 1.5):
        with refused(f"Sampling(top_p={wrong})", the_value=str(wrong)):
            mine.Sampling(top_p=wrong)


@check("a character is shown once it is whole", step="stream")
def whole_characters(mine):
    for text in ("ab", "né!", "🎭", "日本"):
        ids = [*text.encode()]
        wish = sampling(mine, max_tokens=len(ids))
        pieces = [*mine.stream_text(reciter(ids), mine.ByteTokenizer(), "x", wish)]
        causes = ["each byte is decoded alone"]
        equal("".join(pieces), text, given=f"the pieces of {text!r}, joined", causes=causes)
        seen = [piece for piece in pieces if piece]
        equal(seen, list(text), given=f"the pieces of {text!r}", causes=causes)


@check("what is cut off in a character ends in a replacement character", step="stream")
def cut_off(mine):
    wish = sampling(mine, max_tokens=2)
    found = [*mine.stream_text(reciter([97, 195]), mine.ByteTokenizer(), "x", wish)]
    causes = ["the decoder is not told that nothing more comes: final=True"]
    equal("".join(found), "a\ufffd", given="the ids [97, 195]", causes=causes)


@check("the end of text ends the text, and is not shown", step="stream")
def ends(mine):
    model, tokenizer = reciter([97, 256, 98, 99]), mine.ByteTokenizer()
    wish = sampling(mine, max_tokens=4)
    equal("".join(mine.stream_text(model, tokenizer, "x", wish)), "a", given="a, end of text, b, c")
    equal(continuation(mine, model, tokenizer, "x", wish), "a", given="the same, continue_text")


@check("a recipe may say temperature and top-k", step="mood")
def moods(mine):
    recipe = mine.Recipe(sample=mine.SampleConfig(temperature=0.0, top_k=3))
    near(recipe.sample.temperature, 0.0, 0, "SampleConfig(temperature=0.0).temperature")
    equal(recipe.sample.top_k, 3, given="SampleConfig(top_k=3).top_k")


@check("the command's text is drawn at the recipe's temperature and top-k", step="mood")
def commanded(mine):
    run = ("train.steps=40", "train.lr=0.1", "sample.prompt=ab", "sample.max_tokens=60")
    for mood in ("sample.temperature=0", "sample.top_k=1"):
        _, out, _ = command(mine, b"abcab " * 200, *run, mood)
        text = f"\n{out}".partition("\nab")[2].partition("\n")[0]
        causes = [f"main does not hand {mood.partition('=')[0]} on"]
        given = f"'abcab ' learnt for 40 steps, {mood}: what follows on ab"
        few = bool(text) and {*text} <= {*"abc "}
        expect(few, repr(text), "letters of that text alone: a, b, c and blanks", given, causes)


@check("temperature, top-k and top-p go together, for each row alone", step="top-p")
def together(mine):
    import torch

    rows = [[2.0, 1.0, 0.5, 0.0, -1.0], [-1.0, 0.0, 0.5, 1.0, 2.0]]
    wish = sampling(mine, temperature=2.0, top_k=3, top_p=0.7)
    # At temperature 2 the three likeliest share their chances as 0.48, 0.29 and 0.23.
    some = softmax([1.0, 0.5])
    wanted = [[*some, 0, 0, 0], [0, 0, 0, *some[::-1]]]
    found = mine.probabilities(torch.tensor(rows), wish).tolist()
    causes = [
        "top-p looks at chances before the temperature, or before top-k",
        "the order of the first row is used for all",
    ]
    for i, (row, chance) in enumerate(zip(found, wanted)):
        for id, (seen, due) in enumerate(zip(row, chance)):
            given = f"row {i} of {rows}, id {id}, temperature 2, top_k 3, top_p 0.7"
            near(seen, float(due), 1e-5, given, causes)
