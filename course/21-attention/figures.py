"""The figures that lesson 21 quotes: name -> (value, how it is shown, tolerance)."""

import dataclasses
import tempfile
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from gpt.config import ModelConfig, load_recipe
from gpt.model import GPT, attend, attend_by_hand, attend_in_halves
from gpt.runtime import Runtime, start_runtime
from gpt.train import Trainer


def kept(function):
    """The bytes that a call keeps for its backward pass."""
    sizes = {}

    def note(tensor):
        sizes[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        function()
    return sum(sizes.values())


def operations(function):
    """The additions and multiplications of its products."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def attending(attention, time):
    """What attention keeps for two sequences of so many tokens."""
    q, k, v = (torch.randn(2, 4, time, 32, requires_grad=True) for _ in range(3))
    return kept(lambda: attention(q, k, v))


def held(dtype):
    """What a pass keeps in a dtype."""
    torch.manual_seed(1)
    model, ids = GPT(ModelConfig(vocab_size=257)), torch.randint(257, (16, 65))
    with Runtime(torch.device("cpu"), dtype).autocast():
        return kept(lambda: model(ids[:, :-1], ids[:, 1:]))


def step(forgets):
    """What a step of eight layers keeps, and its operations."""
    recipe = load_recipe(Path("small.toml"), ["model.layers=8", "train.tokens_per_step=512"])
    wish = dataclasses.replace(recipe.runtime, checkpoint_activations=forgets, dtype="fp32")
    trainer = Trainer(Path(tempfile.mkdtemp()) / "run", recipe, start_runtime(wish))
    inputs = 8 * 512 * 64 * 4 * forgets
    size = kept(lambda: trainer.replica(*trainer.batches(0, 8))) + inputs
    return size, operations(trainer.accumulate)


q = torch.randn(1, 1, 256, 32)
halves = operations(lambda: attend_in_halves(q, q, q))
plain, forgetting = step(False), step(True)

FIGURES = {
    "memory, written out, 2048 tokens": (attending(attend_by_hand, 2048) / 1e6, "{:.0f} MB", 0.1),
    "memory, kernel, 2048 tokens": (attending(attend, 2048) / 1e6, "{:.0f} MB", 0.1),
    "operations in halves": (halves / operations(lambda: attend_by_hand(q, q, q)), "{:.2f}", 0.01),
    "share of the memory in bf16 throughout": (
        held(torch.bfloat16) / held(torch.float32),
        "{:.2f}",
        0.05,
    ),
    "share of the memory, computed twice": (forgetting[0] / plain[0], "{:.2f}", 0.05),
    "operations, computed twice": (forgetting[1] / plain[1], "{:.2f}", 0.05),
    # docs/log.md, 2026-11-24: a model of 10.7M parameters in bf16, T = 256, on two cores that
    # multiply bf16; times as fast as another code of GPT-2.
    "recorded: kernel": (1.05, "{:.2f}", 0.001),
    "recorded: written out": (1.23, "{:.2f}", 0.001),
    # The same model, milliseconds of a layer, forward and backward: torch's tanh, the exact one.
    "recorded: exact GELU": ((6.1 + 7.0) / (1.3 + 3.6), "{:.1f}", 0.001),
}
