"""The figures that lesson 13 quotes: name -> (value, how it is shown, tolerance)."""

from pathlib import Path

from gpt.config import load_recipe
from gpt.train import Trainer


def run(dropout):
    """The last training loss, and all validation losses."""
    trainer = Trainer(
        load_recipe(Path("sonnets.toml"), ["train.eval_every=50", f"model.dropout={dropout}"])
    )
    validate, found = trainer.validate, []

    def watched():
        validate()
        found.append(trainer.validation.loss)

    trainer.validate = watched
    trainer.run()
    return trainer.loss, found


loss, plain = run(0)
_, dropped = run(0.3)

FIGURES = {
    "training loss at the end": (loss, "{:.2f}", 0.3),
    "validation loss at the end": (plain[-1], "{:.1f}", 0.4),
    "validation loss at its best": (min(plain), "{:.2f}", 0.06),
    "validation loss at its best with dropout": (min(dropped), "{:.2f}", 0.06),
    "validation loss at the end with dropout": (dropped[-1], "{:.2f}", 0.3),
}
