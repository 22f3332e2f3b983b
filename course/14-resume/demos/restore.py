import contextlib
import io
import tempfile
from pathlib import Path

import torch

from gpt.config import load_recipe
from gpt.train import Trainer

WISHES = ["train.steps=20", "data.val_tokens=100", "train.checkpoint_every=10"]


def weights(runs, name, restores=True, forgets=False):
    """The weights after 20 steps: at a stretch, or from the checkpoint of step 10 on."""
    trainer = Trainer(runs / name, load_recipe(Path("small.toml"), WISHES))
    if restores:
        trainer.restore(runs / "one" / "checkpoints" / "step_000010")
    if forgets:
        trainer.optimizer.state.clear()
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.run()
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


with tempfile.TemporaryDirectory() as place:
    at_once = weights(Path(place), "one", False)
    for what, forgets in (("10 + 10 steps", False), ("the same, but AdamW has forgotten", True)):
        found = weights(Path(place), f"two-{forgets}", True, forgets)
        print(f"{what}: the same as 20 steps, bit by bit: {torch.equal(found, at_once)}")
        print(f"    the weight that is furthest off is so by {(found - at_once).abs().max():.1g}")
