"""The figures that lesson 20 quotes: name -> (value, how it is shown, tolerance)."""

import json
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from gpt.config import ModelConfig
from gpt.model import GPT
from gpt.runtime import Runtime

RECORD = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "2026-11-27-cpu.json"


def held(dtype):
    """The bytes that one pass in a dtype keeps for its backward pass."""
    kept = {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(1)
    model, ids = GPT(ModelConfig(vocab_size=257)), torch.randint(257, (16, 65))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        with Runtime(torch.device("cpu"), dtype).autocast():
            model(ids[:, :-1], ids[:, 1:])
    return sum(kept.values())


logits = torch.zeros(64, 50257, requires_grad=True)
(cross_entropy(logits, torch.arange(64)) / 16).backward()
gone = (logits.grad.half() == 0).float().mean().item()
rows = json.loads(RECORD.read_text())["decoding"]["rows"]
rates = [rows[f"decode ours {dtype}"]["median"] for dtype in ("bfloat16", "float32")]

FIGURES = {
    "share of the memory in bf16": (held(torch.bfloat16) / held(torch.float32), "{:.2f}", 0.05),
    "gradients that vanish in fp16": (gone, "{:.3%}", 0.0001),
    # GPT-2's size, one sample, on two cores that multiply bf16.
    "recorded: sampling in bf16": (rates[0] / rates[1], "{:.2f}", 0.001),
    # docs/log.md: the steps of two models, in ms, before and after mallopt keeps what is freed.
    "recorded: lost to freed memory": (1 - (77 + 59) / (96 + 68), "{:.2f}", 0.001),
}
