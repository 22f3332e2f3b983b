"""The figures that lesson 26 quotes: name -> (value, how it is shown, tolerance)."""

import contextlib
import io
import json
import math
import tempfile
from pathlib import Path

from gpt.config import load_recipe
from gpt.hellaswag import read_hellaswag, spell, summed_losses
from gpt.runtime import start_runtime
from gpt.train import Trainer

WISHES = ["model.context=128", "train.steps=300", "train.tokens_per_step=1024"]


def learnt():
    """A small model that has read Shakespeare for some seconds, its tokenizer, where it is."""
    recipe = load_recipe(Path("small.toml"), [*WISHES, "data.val_tokens=1000"])
    with tempfile.TemporaryDirectory() as runs:
        trainer = Trainer(Path(runs), recipe, start_runtime(recipe.runtime))
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.run()
    return trainer


trainer = learnt()
path = Path("endings.jsonl")
items = read_hellaswag(path)
spelt = [spell(item, trainer.tokenizer, 128) for item in items]
words = (trainer.model, spelt, trainer.runtime, lambda done, share: None)
chosen = summed_losses(*words).argmin(dim=1).tolist()
kinds = [json.loads(line)["kinds"] for line in path.read_text(encoding="utf-8").splitlines()]
taken = [own[choice] for own, choice in zip(kinds, chosen)]

FIGURES = {
    "chance": (0.25, "{:.2f}", 0.001),
    "standard error of twenty": (math.sqrt(0.25 * 0.75 / 20), "{:.2f}", 0.001),
    "steps of the demo": (trainer.step, "{:.0f}", 0.1),
    "right of twenty": (taken.count("right"), "{:.0f}", 4),
    "letters taken": (taken.count("letters"), "{:.0f}", 4),
    "loss of the demo": (trainer.validation.loss, "{:.1f}", 0.3),
}
