"""The figures that lesson 22 quotes: name -> (value, how it is shown, tolerance)."""

import json
from pathlib import Path

import torch

from gpt.config import ModelConfig
from gpt.generate import Sampling, generate
from gpt.model import GPT

RECORD = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "2026-11-27-cpu.json"
decoding = json.loads(RECORD.read_text())["decoding"]
wide, narrow = (decoding["rows"][f"decode ours {dtype}"] for dtype in ("float32", "bfloat16"))

torch.manual_seed(1)
model = GPT(ModelConfig(vocab_size=257, context=256)).eval()
counted = []
model.blocks[0].register_forward_hook(lambda block, inputs, output: counted.append(output.size(1)))
for _ in generate(model, [0], Sampling(max_tokens=200)):
    pass
keys_and_values = 2 * 12 * 768 * 1024 * 2  # of GPT-2's 12 layers of 768, for 1024 tokens in bf16

FIGURES = {
    "positions for 200 tokens": (sum(counted), "{:,.0f}", 0.001),
    "positions without a cache": (sum(range(1, 201)), "{:,.0f}", 0.001),
    "a cache of GPT-2": (keys_and_values / 1e6, "{:.0f} MB", 0.001),
    # GPT-2's size, one sample, on two cores.
    "recorded: tokens a second in fp32": (wide["median"], "{:.0f}", 0.001),
    "recorded: tokens a second in bf16": (narrow["median"], "{:.0f}", 0.001),
    "recorded: gigabytes read a second": (decoding["read_gb_per_second"], "{:.0f}", 0.001),
    "recorded: share of the reading": (wide["share_of_read"], "{:.2f}", 0.001),
    "passes that reading allows": (
        wide["median"] / wide["share_of_read"],
        "{:.0f}",
        0.001,
    ),
}
