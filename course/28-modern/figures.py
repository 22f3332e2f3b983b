"""The figures that lesson 28 quotes: name -> (value, how it is shown, tolerance)."""

import dataclasses
import json
from pathlib import Path
from statistics import mean

import torch
from race import MODEL, train

from gpt.config import ModernConfig
from gpt.modern import Modern

NAMES = [field.name for field in dataclasses.fields(ModernConfig)]


def run(seed, *on):
    """The loss of a run of 100 steps with these switches on, and no others."""
    torch.manual_seed(seed)
    return train(Modern(MODEL, ModernConfig(**{name: name in on for name in NAMES})), 100, seed)


table, rotary = (mean(run(seed, *on) for seed in (1, 2, 3)) for on in ((), ("rotary",)))

# What three seeds said of a model of today, by `buildgpt ablate` (its command is in the file).
name = "2026-11-27-ablation.json"
root = Path(__file__).resolve().parents[2]
ablation = json.loads((root / "benchmarks" / "results" / name).read_text("utf-8"))["ablation"]
found = {one["row"]: one for one in ablation["comparisons"]}

FIGURES = {
    "loss with a table of positions": (table, "{:.2f}", 0.02),
    "loss with rotary positions": (rotary, "{:.2f}", 0.02),
}
for switch in ("rotary", "rms_norm", "relu2", "qk_norm", "softcap"):
    for row, words in (("without", "beside the others"), ("only", "alone")):
        one = found[f"{row}-{switch}"]
        FIGURES[f"gain of {switch} {words}"] = (one["mean"], "{:+.3f}", 0.0001)
        FIGURES[f"interval of {switch} {words}"] = (one["half_width"], "{:.3f}", 0.0001)
