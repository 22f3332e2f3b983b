"""What batches of inputs and targets must be, whatever order they come in."""

import tempfile
from pathlib import Path

import numpy as np

from buildgpt.course.checking import Failed, check, equal, expect, refused, stream


def make(mine, tokens, context, seed=1):
    """The learner's batches over 0, 1, 2, ...: every token says where it stands."""
    ids = stream(mine, np.arange(tokens))
    if mine.done("02-targets/shuffle"):
        return mine.Batches(ids, context, seed)
    return mine.Batches(ids, context)


def firsts(batches, start, count):
    """Where the sequences at some positions begin."""
    return batches(start, count)[0][:, 0].tolist()


def corpus(mine, path):
    """Their corpus of a file: of its path, and from lesson 4 on of a DataConfig."""
    if mine.done("04-recipe/trainer"):
        return mine.Corpus(mine.DataConfig(path=str(path)))
    return mine.Corpus(str(path))


@check("a text becomes an array of the same ids, two bytes each", step="array")
def array(mine):
    tokenizer = mine.ByteTokenizer()
    for text in ("", "a", "né"):
        found, given = tokenizer.encode_array(text), f"encode_array({text!r})"
        expect(isinstance(found, np.ndarray), type(found).__name__, "a numpy array", given)
        causes = ["without dtype=, numpy takes eight bytes for each integer"]
        equal(str(found.dtype), "uint16", given=f"{given}.dtype", causes=causes)
        equal(found.tolist(), tokenizer.encode(text), given=given)


# From lesson 13 on a part of the file is held out; that lesson checks both parts together.
@check("a corpus is the ids of its file, in order", step="corpus", until="13")
def whole_file(mine):
    for text in ("a", "To be,\nor né\n"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.txt"
            path.write_bytes(text.encode("utf-8"))
            found = corpus(mine, path)
            given = f"a file that holds {text!r}"
            causes = ['the file is read in another encoding than "utf-8"', "a part is left out"]
            ids = [int(i) for i in found.train]
            equal(ids, list(text.encode("utf-8")), given=given, causes=causes)
            equal(found.tokenizer.decode(ids), text, given=given, causes=causes)


@check("inputs and targets are (count, T) tensors of int64", step="targets")
def shapes(mine):
    import torch

    for context, count in ((3, 1), (4, 2)):
        given = f"Batches(0..20, context={context})(0, {count})"
        for what, part in zip(("inputs", "targets"), make(mine, 21, context)(0, count)):
            expect(isinstance(part, torch.Tensor), type(part).__name__, "a torch tensor", given)
            equal(tuple(part.shape), (count, context), given=f"{what} of {given}")
            equal(str(part.dtype), "torch.int64", given=f"{what} of {given}")


@check("the target of each token is the token after it", step="targets")
def shifted(mine):
    for context in (1, 3, 5):
        x, y = make(mine, 21, context)(0, 2)
        causes = [
            "inputs and targets are the same tokens: then a model only has to copy",
            "T tokens are read where T + 1 are needed, so the last target is missing or made up",
        ]
        given = f"Batches(0..20, context={context})(0, 2), inputs {x.tolist()}"
        equal(y.tolist(), (x + 1).tolist(), given=given, causes=causes)
        runs = x - x[:, :1]
        equal(runs.tolist(), [list(range(context))] * 2, given=f"the inputs' distances, {given}")


@check("every sequence comes exactly once an epoch, epoch after epoch", step="epochs")
def once_an_epoch(mine):
    for tokens, context in ((10, 3), (12, 3), (13, 3)):
        sequences = (tokens - 1) // context
        batches = make(mine, tokens, context)
        for epoch in range(3):
            try:
                seen = sorted(firsts(batches, epoch * sequences, sequences))
            except (RuntimeError, ValueError, IndexError) as error:
                few = ["the last sequence needs a target as well: (tokens - 1) // T fit"]
                seen = f"{type(error).__name__}: {error}"
                given = f"{tokens} tokens, sequences of {context}, epoch {epoch}"
                raise Failed(seen, f"{sequences} sequences", given, few) from error
            wanted = [i * context for i in range(sequences)]
            causes = [
                "a sequence needs T + 1 tokens, one more than its inputs: (tokens - 1) // T fit",
                "after the last sequence the order does not begin anew",
            ]
            given = f"where sequences of {context} of {tokens} tokens begin, epoch {epoch}"
            equal(seen, wanted, given=given, causes=causes)


@check("a batch may reach across the end of an epoch", step="epochs")
def across(mine):
    batches = make(mine, 10, 3)
    both = firsts(batches, 2, 1) + firsts(batches, 3, 1)
    equal(firsts(batches, 2, 2), both, given="positions 2 and 3 of three sequences, asked at once")


@check("each epoch has another order, which is not the stream's", step="shuffle")
def shuffled(mine):
    batches = make(mine, 1001, 10)
    epochs = [firsts(batches, e * 100, 100) for e in range(3)]
    causes = ["the generator is seeded by the seed alone, so that each epoch draws the same order"]
    given = "the order of 100 sequences in the first two epochs"
    expect(epochs[0] != epochs[1], f"{epochs[0][:8]}... twice", "two orders", given, causes)
    for epoch in epochs:
        expect(epoch != sorted(epoch), f"{epoch[:8]}...", "a shuffled order", given)


@check("the seed alone decides the order, not what was asked before", step="shuffle")
def by_seed(mine):
    one, same, other = (make(mine, 1001, 10, seed) for seed in (1, 1, 2))
    wanted = firsts(one, 0, 300)
    same_backwards = [firsts(same, p, 1)[0] for p in reversed(range(300))][::-1]
    causes = [
        "numbers are drawn when a batch is asked for, so that they depend on the batches before",
        "numpy's global generator is used, which everybody shares",
    ]
    given = "300 positions, asked at once and one by one from the last to the first"
    expect(wanted == same_backwards, "two orders", "the same order", given, causes)
    causes = ["seed and epoch are added, so that one seed begins with another's later epoch"]
    for epoch in (1, 3, 10, 100, 1000, 1024, 10_000, 100_000):
        given = f"epoch {epoch} with seed 1, and epoch 0 with seed 2"
        found = firsts(one, 100 * epoch, 100)
        expect(found != firsts(other, 0, 100), "the same order", "two orders", given, causes)
        given = f"epoch 1 with seed 1, and epoch 0 with seed {1 + epoch}"
        found = firsts(make(mine, 1001, 10, 1 + epoch), 0, 100)
        expect(wanted[100:200] != found, "the same order", "two orders", given, causes)
    causes = ["the seed is not used"]
    given = "the first 100 sequences with seeds 1 and 2"
    expect(wanted[:100] != firsts(other, 0, 100), "the same order", "two orders", given, causes)


@check("a text of less than one sequence is refused, with both numbers", step="short")
def short(mine):
    causes = ["the number of sequences, 0, is only noticed where something is divided by it"]
    with refused("Batches(0..7, context=8)", causes, the_tokens="8", the_need="9"):
        make(mine, 8, 8)
    x, _ = make(mine, 9, 8)(0, 1)
    equal(x.tolist(), [list(range(8))], given="Batches(0..8, context=8)(0, 1), which just fits")
