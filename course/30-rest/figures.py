"""The figures that lesson 30 quotes: name -> (value, how it is shown, tolerance)."""

import json
from pathlib import Path

import torch
from race import CUT, MODEL, windows

from gpt.modern import Modern, ModernConfig, bigram_rows, blocks

torch.manual_seed(1)
with torch.no_grad():
    model = Modern(MODEL, ModernConfig())
    loss = model(*windows(0, CUT, 16, torch.Generator().manual_seed(1))).item()

# What three seeds said of a model of today, by `buildgpt ablate` (its command is in the file).
name = "2026-11-27-ablation.json"
root = Path(__file__).resolve().parents[2]
ablation = json.loads((root / "benchmarks" / "results" / name).read_text("utf-8"))["ablation"]
found = {one["row"]: one for one in ablation["comparisons"]}
whole = {one["name"]: one["mean"] for one in ablation["variations"]}

FIGURES = {
    "loss of a head of zeros": (loss, "{:.2f}", 0.001),
    "rows for GPT-2's pairs": (bigram_rows(50257), "{:,.0f}", 0.001),
    "percent of blocks skipped": (
        blocks(torch.zeros(1, 2048, dtype=torch.int64), 256, None).sparsity(),
        "{:.0f}",
        0.5,
    ),
    "loss with all switches off": (whole["all-off"], "{:.2f}", 0.0001),
    "loss with all switches on": (whole["all-on"], "{:.2f}", 0.0001),
}
SWITCHES = ("zero_init", "untied_head", "unet_skips", "residual_scalars", "value_embeddings")
for switch in (*SWITCHES, "bigrams"):
    for row, words in (("without", "beside the others"), ("only", "alone")):
        one = found[f"{row}-{switch}"]
        FIGURES[f"gain of {switch} {words}"] = (one["mean"], "{:+.3f}", 0.0001)
        FIGURES[f"interval of {switch} {words}"] = (one["half_width"], "{:.3f}", 0.0001)
