"""The figures that lesson 29 quotes: name -> (value, how it is shown, tolerance)."""

import json
import time
from pathlib import Path
from statistics import mean

import torch
from race import CUT, MODEL, train, windows

from gpt.model import GPT
from gpt.optim import orthogonalise

torch.manual_seed(1)
model = GPT(MODEL)
model(*windows(0, CUT, 16, torch.Generator().manual_seed(1))).backward()
gradient = model.blocks[0].mlp.up.weight.grad
values = torch.linalg.svdvals(gradient)
shares = values.square().cumsum(0) / values.square().sum()
after = torch.linalg.svdvals(orthogonalise(gradient[None], torch.float32)[0])


def run(seed, steps=100, **wishes):
    """The loss of a run, and its seconds of computing."""
    torch.manual_seed(seed)
    began = time.process_time()
    return train(GPT(MODEL), steps, seed, **wishes), time.process_time() - began


SEEDS = (1, 2, 3)
adamw = {lr: [run(seed, lr=lr) for seed in SEEDS] for lr in (0.004, 0.01, 0.02)}
muon = [run(seed, optimizer="muon") for seed in SEEDS]
best = min(mean(loss for loss, _ in runs) for runs in adamw.values())
longer = mean(run(seed, 130, lr=0.01)[0] for seed in SEEDS)
slower = min(s for _, s in muon) / min(s for runs in adamw.values() for _, s in runs)

# What three seeds said of a model of today, by `buildgpt ablate` (its command is in the file).
name = "2026-11-27-ablation.json"
root = Path(__file__).resolve().parents[2]
ablation = json.loads((root / "benchmarks" / "results" / name).read_text("utf-8"))["ablation"]
found = {one["name"]: one for one in ablation["variations"]}
normuon = found["without-train.normuon"]["mean"] - found["all-on"]["mean"]

FIGURES = {
    "directions that make nine tenths": (int((shares < 0.9).sum()) + 1, "{:.0f}", 0.001),
    "largest to 63rd of a gradient": (values[0] / values[62], "{:.0f}", 0.2),
    "smallest orthogonalised": (after[62], "{:.2f}", 0.05),
    "largest orthogonalised": (after[0], "{:.2f}", 0.05),
    "loss with AdamW at its best rate": (best, "{:.2f}", 0.03),
    "loss with AdamW after 130 steps": (longer, "{:.2f}", 0.03),
    "loss with Muon": (mean(loss for loss, _ in muon), "{:.2f}", 0.03),
    "time of a step of Muon": (slower, "{:.2f}", 0.4),
    "what NorMuon gains": (normuon, "{:+.3f}", 0.0001),
}
