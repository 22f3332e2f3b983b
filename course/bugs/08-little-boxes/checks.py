"""Whether streamed text is the text."""

from types import SimpleNamespace

from buildgpt.course.checking import check, equal


@check("the pieces that are streamed are the text, without a box in it", step="stream")
def whole(mine):
    import torch

    class Recital(torch.nn.Module):
        config = SimpleNamespace(context=100)

        def forward(self, ids):
            logits = torch.zeros(1, ids.size(1), 257)
            logits[0, -1, line.encode()[ids.size(1) - 1]] = 100.0
            return logits

    for line in ("né", "🎭", "日本, a"):
        wish = mine.Sampling(max_tokens=len(line.encode()), temperature=0.0)
        pieces = mine.stream_text(Recital(), mine.ByteTokenizer(), ":", wish)
        equal("".join(pieces), line, given=f"the pieces of {line!r}, joined")
