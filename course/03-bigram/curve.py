"""The run whose loss is compared with the recorded band."""

STEPS = 150


def losses(mine, text, seed):
    """The loss of each step of 16 sequences of 32 tokens, with their own model, data and loop."""
    import torch

    from buildgpt.course.curves import watched

    torch.manual_seed(seed)
    corpus = mine.Corpus(str(text))
    model = mine.GPT(corpus.tokenizer.vocab_size)
    batches = mine.Batches(corpus.train, 32, seed)
    return watched(model, lambda: mine.train(model, batches, STEPS, 16, 0.1))
