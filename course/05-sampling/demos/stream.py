import torch

from gpt.generate import Sampling, stream_text
from gpt.tokenizer import ByteTokenizer


class Recital(torch.nn.Module):
    """A model that knows one text by heart."""

    def forward(self, ids):
        known = [*"né 🎭 end".encode(), 256, 65, 65]
        logits = torch.zeros(1, ids.size(1), 257)
        logits[0, -1, known[ids.size(1) - 1]] = 100.0
        return logits


print([*stream_text(Recital(), ByteTokenizer(), ":", Sampling(max_tokens=20))])
