"""The figures that lesson 23 quotes: name -> (value, how it is shown, tolerance)."""

import json
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gpt import model as model_py
from gpt.config import ModelConfig, TrainConfig
from gpt.optim import adamw, parameter_groups

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


class Counter(TorchDispatchMode):
    """Counts the operations that torch is asked for."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def operations(optimizer, model):
    """Of one update."""
    model(torch.arange(64)[None], torch.arange(64)[None] + 1).backward()
    optimizer.step()
    with Counter() as counter:
        optimizer.step()
    return counter.count


def held(at_once):
    """What a pass with a vocabulary of 20,000 keeps."""
    model_py.LOGITS_AT_ONCE, kept = at_once, {}
    model, ids = model_py.GPT(ModelConfig(layers=1, vocab_size=20000)), torch.arange(520)
    ids = ids.view(8, 65)

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(ids[:, :-1], ids[:, 1:])
    return sum(kept.values())


model, config = model_py.GPT(ModelConfig(vocab_size=257)), TrainConfig()
groups = parameter_groups(model, 0.1)
plain = torch.optim.AdamW(groups, foreach=False, fused=False)
fused = adamw(model, parameter_groups(model, 0.1), config)
counts = operations(plain, model), operations(fused, model)
rows = json.loads((RESULTS / "2026-11-27-training.json").read_text())["training"]["rows"]
rates = [rows[name]["median"] for name in ("train ours compiled", "train ours")]

FIGURES = {
    "operations of an update": (counts[0], "{:,.0f}", 0.001),
    "operations of a fused update": (counts[1], "{:,.0f}", 0.001),
    "share of the memory, loss in parts": (held(2**20) / held(2**27), "{:.2f}", 0.02),
    "logits of GPT-2's step": (8 * 1024 * 50304 * 4 / 1e9, "{:.1f} GB", 0.001),
    # A model of 10.7M parameters in bf16 on two cores.
    "recorded: compiled": (rates[0] / rates[1], "{:.2f}", 0.001),
    # docs/log.md: the first step of that model.
    "recorded: compiling at least": (15, "{:.0f}", 0.001),
    "recorded: compiling at most": (25, "{:.0f}", 0.001),
}
