"""What a model, its loss, its training and its sampling must do."""

import math

import numpy as np

from buildgpt.course.checking import Failed, check, equal, expect, near, toy


def build(mine, vocab_size):
    """Their model: of the number of ids, and from lesson 4 on of a ModelConfig."""
    if mine.done("04-recipe/trainer"):
        return mine.GPT(toy(mine, vocab_size=vocab_size))
    return mine.GPT(vocab_size)


@check("ids (B, T) become logits (B, T, V)", step="logits")
def logits(mine):
    import torch

    for batch, time, vocab_size in ((1, 1, 5), (2, 3, 7)):
        ids = torch.arange(batch * time).view(batch, time) % vocab_size
        found, given = build(mine, vocab_size)(ids), f"ids {ids.tolist()} and {vocab_size} ids"
        expect(isinstance(found, torch.Tensor), type(found).__name__, "a tensor", given)
        equal(tuple(found.shape), (batch, time, vocab_size), given=given)
        expect(found.is_floating_point(), str(found.dtype), "floating point numbers", given)


@check(
    "a token's scores are its own, wherever it stands and whatever is around",
    step="logits",
    until="06",
)
def bigram(mine):
    import torch

    model = build(mine, 9)
    ids = torch.tensor([[4, 1, 4, 7], [7, 7, 1, 4]])
    found = model(ids)
    causes = ["the position or other tokens go into the scores"]
    same = torch.equal(found[0, 0], found[0, 2]) and torch.equal(found[0, 0], found[1, 3])
    expect(
        same, "different scores", "the same scores each time", "the id 4 in three places", causes
    )
    differ = not torch.equal(found[0, 0], found[0, 1])
    expect(differ, "the same scores", "other scores for another token", "the ids 4 and 1")


@check("what is learnt are parameters: gradients reach the scores", step="logits")
def learnable(mine):
    import torch

    model = build(mine, 5)
    numbers = sum(p.numel() for p in model.parameters())
    causes = ["the table is a plain tensor: only an nn.Module's or an nn.Parameter is found"]
    expect(
        numbers >= 25, f"{numbers} parameters", "one for each pair of ids, or more", "5 ids", causes
    )
    model(torch.tensor([[3]])).sum().backward()
    moved = any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    expect(moved, "no gradient", "a gradient", "the sum of one token's scores")


@check("the loss is the mean of -log p(target), in nats", step="loss")
def loss(mine):
    import torch

    torch.manual_seed(1)
    for batch, time in ((1, 1), (1, 3), (2, 4)):
        model = build(mine, 6)
        with torch.no_grad():
            for p in model.parameters():
                p.normal_(0, 0.1)
        ids, targets = torch.randint(6, (2, batch, time))
        found = model(ids, targets)
        given = f"ids {ids.tolist()}, targets {targets.tolist()}"
        equal(tuple(found.shape), (), given=f"the loss's shape, {given}")
        scores = model(ids).detach().double().numpy()
        chances = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        at_target = np.take_along_axis(chances, targets.numpy()[..., None], -1)
        causes = [
            "the sum over all targets instead of their mean",
            "softmax taken twice: F.cross_entropy wants logits",
            "the axes are mixed up: F.cross_entropy wants the classes in the second one",
            "base 2 instead of e",
        ]
        near(found, -np.log(at_target).mean(), 1e-4, given, causes)
        expect(
            found.requires_grad, "a loss without gradients", "one that can be learnt from", given
        )


# From lesson 8 on the norms make the start louder; lesson 9 mends that and checks it again.
@check("before any training, every token is about equally likely", step="even", until="08")
def even(mine):
    import torch

    torch.manual_seed(0)
    for vocab_size in (16, 257):
        ids = torch.randint(vocab_size, (8, 33))
        found = build(mine, vocab_size)(ids[:, :-1], ids[:, 1:])
        causes = [
            "an nn.Embedding starts with numbers of spread 1: confident, and wrong",
            "the method is there but never called: self.apply(self.initialise)",
        ]
        near(found, math.log(vocab_size), 0.03, f"the loss with {vocab_size} ids", causes)


@check(
    "a step moves every weight against its gradient, by the learning rate",
    step="update",
    until="04",
)
def one_step(mine):
    import torch

    ids, targets = torch.tensor([[0, 1]]), torch.tensor([[1, 2]])
    model = build(mine, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for number in (1, 2):
        before = [p.detach().clone() for p in model.parameters()]
        gradients = torch.autograd.grad(model(ids, targets), list(model.parameters()))
        expected = model(ids, targets).item()
        found = mine.update(model, optimizer, ids, targets)
        near(found, expected, 1e-5, f"the loss that step {number} returns")
        for p, old, gradient in zip(model.parameters(), before, gradients):
            off = (p - (old - 0.5 * gradient)).abs().max().item()
            causes = (
                ["loss.backward() or optimizer.step() is missing, or in the wrong order"]
                if number == 1
                else ["gradients add up: optimizer.zero_grad() is missing"]
            )
            wanted = "weights - 0.5 * gradient, to 1e-6"
            expect(off < 1e-6, f"weights that are {off:.2g} off", wanted, f"step {number}", causes)


@check("training finds what always follows what", step="update", until="04")
def learns(mine):
    import torch

    torch.manual_seed(0)
    stream = np.tile(np.arange(3, dtype=np.uint16), 40)
    model = build(mine, 3)
    batches = mine.Batches(stream, 8, 1)
    mine.train(model, batches, 60, 4, 0.3)
    with torch.no_grad():
        chances = model(torch.tensor([[0, 1, 2]])).softmax(-1)[0]
    for i in range(3):
        follows = (i + 1) % 3
        causes = ["the optimizer is made anew in every step", "the same batch is read every time"]
        given = f"the chance of {follows} after {i}, learnt from 0 1 2 0 1 2 ..."
        expect(chances[i, follows] > 0.9, f"{chances[i, follows]:.3f}", "above 0.9", given, causes)


@check("training moves the weights by the rate that it is told", step="update", until="04")
def rate(mine):
    moved = []
    for lr in (0.01, 0.02):
        batches = mine.Batches(np.tile(np.arange(3, dtype=np.uint16), 40), 8, 1)
        model = build(mine, 3)
        before = [p.detach().clone() for p in model.parameters()]
        mine.train(model, batches, 1, 4, lr)
        moved.append(max((a - b).abs().max().item() for a, b in zip(model.parameters(), before)))
    ratio = moved[1] / moved[0] if moved[0] else 0.0
    given = "how far a weight moves in one step, lr = 0.02 over lr = 0.01"
    causes = ["the rate is a number of its own instead of what train is given"]
    expect(1.5 < ratio < 2.5, f"{ratio:.2f}", "about 2", given, causes)


@check(
    "training makes as many steps as it is told, each with the sequences that come next",
    step="update",
    until="04",
)
def reads_on(mine):
    batches, asked = mine.Batches(np.tile(np.arange(3, dtype=np.uint16), 40), 8, 1), []

    def watched(*words, **more):
        asked.append((*words, *more.values()))
        return batches(*words, **more)

    mine.train(build(mine, 3), watched, 3, 4, 0.1)
    causes = ["the place in the epoch is the step, not the step times the batch", "a step too many"]
    given = "what batches is asked for in 3 steps of 4 sequences: the first, and how many"
    equal(asked, [(0, 4), (4, 4), (8, 4)], given=given, causes=causes)


@check("tokens are drawn as often as their chances say", step="pick", until="05")
def drawn(mine):
    import torch

    scores = torch.tensor([[0.0, 1.0, 2.0, -math.inf]]).repeat(6000, 1)
    found = mine.pick(scores, torch.Generator().manual_seed(0))
    equal(tuple(found.shape), (6000,), given="the shape of 6000 draws")
    equal(str(found.dtype), "torch.int64", given="the ids' type")
    for i, chance in enumerate(scores[0].softmax(0).tolist()):
        share = (found == i).double().mean().item()
        causes = ["always the likeliest is taken", "chances are not softmax(logits)"]
        near(share, chance, 0.025, f"the share of id {i} in 6000 draws from 0, 1, 2, -inf", causes)


@check("the generator decides what is drawn", step="pick", until="05")
def repeatable(mine):
    import torch

    scores = torch.zeros(50, 9)
    one, same, other = (
        mine.pick(scores, torch.Generator().manual_seed(seed)).tolist() for seed in (1, 1, 2)
    )
    causes = ["generator=generator is not handed on, so that torch's global one is used"]
    expect(one == same, "two different draws", "the same", "the same seed twice", causes)
    expect(one != other, "the same draws", "others", "two seeds", causes)


def successor():
    """A stand-in for a model, after which the next id always is one more than the last."""
    import torch

    class Successor(torch.nn.Module):
        def forward(self, ids):
            return 100.0 * torch.nn.functional.one_hot((ids + 1) % 257, 257)

    return Successor()


@check(
    "text goes on from the prompt's last token, and each new one from the one before",
    step="babble",
    until="05",
)
def continues(mine):
    for prompt, count, text in (("a", 1, "b"), ("a", 4, "bcde"), ("xyA", 3, "BCD"), ("a", 0, "")):
        tokenizer = mine.ByteTokenizer()
        found = mine.continue_text(successor(), tokenizer, prompt, count, 0)
        given = f"a model that always adds 1, prompt {prompt!r}, {count} tokens"
        causes = ["the prompt is part of the answer", "new tokens are not appended before the next"]
        equal(found, text, given=given, causes=causes)


@check("without a prompt, a text begins after the end of another", step="babble", until="05")
def empty_prompt(mine):
    causes = ["an empty prompt has no last token: [tokenizer.end_of_text] stands in for it"]
    given = "a model that always adds 1, no prompt"
    try:
        found = mine.continue_text(successor(), mine.ByteTokenizer(), "", 2, 0)
    except (RuntimeError, IndexError) as error:
        raise Failed(f"{type(error).__name__}: {error}", "a text", given, causes) from error
    equal(found, "\x00\x01", given=given, causes=causes)


@check("the same seed tells the same text", step="babble", until="05")
def seeded(mine):
    import torch

    model, tokenizer = build(mine, 257), mine.ByteTokenizer()
    torch.manual_seed(5)
    one = mine.continue_text(model, tokenizer, "a", 30, 1)
    torch.manual_seed(6)
    same, other = (mine.continue_text(model, tokenizer, "a", 30, seed) for seed in (1, 2))
    expect(one == same, "two texts", "one", "seed 1 twice", ["the seed is not used"])
    expect(one != other, "the same text", "another", "seeds 1 and 2", ["the seed is not used"])
