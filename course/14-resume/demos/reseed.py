import contextlib
import io
import tempfile
from pathlib import Path

import torch

from gpt.config import load_recipe
from gpt.train import Trainer

WISHES = ["train.steps=20", "data.val_tokens=100", "train.checkpoint_every=10"]


def weights(runs, restores, dropout):
    """The weights after 20 steps: at a stretch, or from the checkpoint of step 10 on."""
    recipe = load_recipe(Path("small.toml"), [*WISHES, f"model.dropout={dropout}"])
    trainer = Trainer(runs / f"{dropout}-{restores}", recipe)
    if restores:
        trainer.restore(runs / f"{dropout}-False" / "checkpoints" / "step_000010")
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.run()
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


with tempfile.TemporaryDirectory() as place:
    for dropout in (0.0, 0.2):
        one, two = (weights(Path(place), restores, dropout) for restores in (False, True))
        print(f"dropout {dropout}: 10 + 10 steps are 20, bit by bit: {torch.equal(one, two)}")
