import dataclasses
import tempfile
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from gpt.config import load_recipe
from gpt.runtime import start_runtime
from gpt.train import Trainer


def cost(forgets):
    """The megabytes that a step keeps, its operations in millions, and its gradient."""
    recipe = load_recipe(Path("small.toml"), ["model.layers=8", "train.tokens_per_step=512"])
    wish = dataclasses.replace(recipe.runtime, checkpoint_activations=forgets, dtype="fp32")
    with tempfile.TemporaryDirectory() as place:
        trainer = Trainer(Path(place) / "run", recipe, start_runtime(wish))
    kept = {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        trainer.replica(*trainer.batches(0, 8))
    inputs = 8 * 512 * 64 * 4 * forgets  # of 8 blocks, for 512 tokens, in fp32
    with FlopCounterMode(display=False) as counter:
        trainer.accumulate()
    gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    return (sum(kept.values()) + inputs) / 1e6, counter.get_total_flops() / 1e6, gradient


found = [cost(False), cost(True)]
for words, (mb, flops, _) in zip(("kept", "computed twice"), found):
    print(f"activations {words}: {mb:5.1f} MB held, {flops:.0f} million operations")
print(f"the same gradient, bit by bit: {torch.equal(found[0][2], found[1][2])}")
