import contextlib
import io
import tempfile
from pathlib import Path

from gpt.config import load_recipe
from gpt.hub import export_folder
from gpt.train import Trainer

WISHES = ["train.steps=60", "data.val_tokens=3000", "train.warmup_steps=10", "train.eval_every=0"]


def run(place, name, wishes):
    """A run, and what it ends with."""
    recipe = load_recipe(Path("small.toml"), [*WISHES, *wishes])
    trainer = Trainer(Path(place) / name, recipe)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.validate()
        begin = trainer.validation.loss
        trainer.run()
    print(f"{name}: validation loss {begin:.2f} before, {trainer.validation.loss:.2f} after")
    return trainer


with tempfile.TemporaryDirectory() as place:
    plays = run(place, "plays", [])
    export_folder(plays.model, plays.tokenizer, Path(place) / "exported")
    sonnets = ["data.path=sonnets.txt", "train.steps=20", "data.val_tokens=1000"]
    run(place, "sonnets, fresh", sonnets)
    initial = f"train.init_from={(Path(place) / 'exported').as_posix()}"
    run(place, "sonnets, from the plays", [*sonnets, initial])
