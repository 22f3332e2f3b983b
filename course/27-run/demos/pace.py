import contextlib
import io
import tempfile
import time
from pathlib import Path

from gpt.config import load_recipe
from gpt.runtime import start_runtime
from gpt.train import Trainer

wishes = ["train.steps=100000", "train.max_seconds=3", "data.val_tokens=100", "sample.every=0"]
recipe = load_recipe(Path("twin.toml"), [*wishes, "train.checkpoint_every=0"])
with tempfile.TemporaryDirectory() as runs:
    trainer = Trainer(Path(runs), recipe, start_runtime(recipe.runtime))
    began, update, rates = time.monotonic(), trainer.update, []

    def watched():
        update()
        rates.append(trainer.rate)

    trainer.update = watched
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.run()
print(f"asked for 100,000 steps, or 3 seconds: {trainer.step > 10 and 'it ended in time'}")
print(f"it ended after 3 seconds or a little more: {2.5 < time.monotonic() - began < 8}")
print(f"the last rate is a small part of the highest: {rates[-1] < 0.3 * max(rates)}")
