"""The figures that lesson 18 quotes: name -> (value, how it is shown, tolerance)."""

import tempfile
from pathlib import Path

import theirs
import torch

from gpt.config import ModelConfig
from gpt.hub import import_folder, our_names
from gpt.model import GPT

with torch.device("meta"):
    model = GPT(ModelConfig(layers=12, heads=12, width=768, context=1024, vocab_size=50257))
place = Path(tempfile.mkdtemp())
theirs.make(place)
ids = list(b"To be, or not to")
with torch.no_grad():
    found = import_folder(place)[0](torch.tensor([ids]))[0]

FIGURES = {
    "tensors of GPT-2": (len(our_names(model)), "{:.0f}", 0.0),
    "how far logits are apart": ((found - theirs.logits(place, ids)).abs().max(), "{:.0e}", 1e-5),
}
