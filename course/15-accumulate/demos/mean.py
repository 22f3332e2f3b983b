import tempfile
from pathlib import Path

import torch

from gpt.config import load_recipe
from gpt.train import Trainer


def held(trainer):
    """The bytes that one pass through the model keeps for the backward pass."""
    kept = {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        trainer.model(*trainer.batches(0, trainer.micro_batch))
    return sum(kept.values())


norms = []
with tempfile.TemporaryDirectory() as place:
    for rows in (16, 8, 4, 2):
        recipe = load_recipe(Path("small.toml"), [f"train.micro_batch={rows}"])
        trainer = Trainer(Path(place) / f"{rows}", recipe)
        trainer.update()
        norms.append(trainer.norm)
        print(
            f"{16 // rows} parts of {rows:2}: {held(trainer) / 1e6:4.0f} MB held, gradient norm"
            f" {trainer.norm:.4f}, {trainer.norm / norms[0]:.4f} times as large"
        )
    for rows in (16, 4):
        wishes = [f"train.micro_batch={rows}", "train.steps=20", "data.val_tokens=1000"]
        recipe = load_recipe(Path("small.toml"), [*wishes, "train.log_every=10"])
        Trainer(Path(place) / f"{rows}-long", recipe).run()
