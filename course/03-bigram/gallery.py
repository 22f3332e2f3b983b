"""What this lesson's model makes of the gallery's prompt: [(what it is, loss, text), ...]."""

STEPS = 300


def talk(mine, text, prompt):
    """A bigram, before it has learnt anything and afterwards."""
    import torch

    from buildgpt.course.curves import watched

    torch.manual_seed(1337)
    corpus = mine.Corpus(str(text))
    model = mine.GPT(corpus.tokenizer.vocab_size)
    batches = mine.Batches(corpus.train, 32, 1337)
    found = []

    def say(what):
        with torch.no_grad():
            loss = sum(float(model(*batches(first, 16))) for first in range(0, 160, 16)) / 10
        said = mine.continue_text(model, corpus.tokenizer, prompt, 240, 1337)
        found.append((what, loss, said))

    say("a bigram that has learnt nothing: bytes at random")
    watched(model, lambda: mine.train(model, batches, STEPS, 16, 0.1))
    say(f"the same after {STEPS} steps: each byte follows from the one before")
    return found
