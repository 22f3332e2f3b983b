"""The figures that lesson 6 quotes: name -> (value, how it is shown, tolerance); what is drawn."""

from pathlib import Path

import torch

from gpt import model
from gpt.config import load_recipe
from gpt.train import Trainer

torch.manual_seed(1337)
scores = (torch.randn(20000, 64) * torch.randn(20000, 64)).sum(1)

trainer = Trainer(load_recipe(Path("head.toml")))
trainer.run()
with torch.no_grad():
    loss = trainer.model(*trainer.batches(20000, 500)).item()


def shares(text):
    """What each letter gathers from each: attention asked with values that are 1 in one place."""
    attend, tables = model.attend_by_hand, []

    def watched(q, k, v):
        tables.append(attend(q, k, torch.eye(k.size(-2)))[0])
        return attend(q, k, v)

    model.attend_by_hand = watched
    with torch.no_grad():
        trainer.model(torch.tensor([trainer.tokenizer.encode(text)]))
    model.attend_by_hand = attend
    return [[round(share, 6) for share in row] for row in tables[0].tolist()]


FIGURES = {
    "weights of one width": (2 * 257 * 64, "{:,.0f}", 0.0),
    "weights of the table": (257 * 257, "{:,.0f}", 0.0),
    "spread of a score": (scores.std().item(), "{:.1f}", 0.1),
    "loss of one head": (loss, "{:.2f}", 0.05),
}

TEXT = "To be, or not to be"
DRAWN = {"shares of one head": {"text": TEXT, "shares": shares(TEXT)}}
