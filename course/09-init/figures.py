"""The figures that lesson 9 quotes: name -> (value, how it is shown, tolerance)."""

import torch

from gpt.config import DataConfig, ModelConfig
from gpt.data import Batches, Corpus
from gpt.model import GPT

torch.manual_seed(1337)
batches = Batches(Corpus(DataConfig()).train, 64, 1337)
with torch.no_grad():
    start = GPT(ModelConfig(vocab_size=257))(*batches(0, 100)).item()
with torch.device("meta"):
    gpt2 = GPT(ModelConfig(layers=12, heads=12, width=768, context=1024, vocab_size=50257))

FIGURES = {
    "loss before training": (start, "{:.2f}", 0.02),
    "millions that tying saves": (50257 * 768 / 1e6, "{:.1f}", 0.0),
    "parameters of GPT-2": (gpt2.parameter_count(), "{:,.0f}", 0.0),
}
