import contextlib
import io
import tempfile
import time
from pathlib import Path

from gpt.config import load_recipe
from gpt.tokenizer import BytePairTokenizer
from gpt.train import Trainer

STEPS = 80
text = Path("data/shakespeare.txt").read_text(encoding="utf-8")[:200_000]


def run(place, tokenizer, steps):
    """A run on the same text in other tokens; returns its seconds."""
    wishes = [f"data.path={place / 'plays.txt'}", f"train.steps={steps}"]
    wishes += [f"data.tokenizer={place / tokenizer}"] if tokenizer else []
    recipe = load_recipe(Path("small.toml"), [*wishes, "train.eval_every=0"])
    trainer, began = Trainer(place / f"{tokenizer}-{steps}", recipe), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.run()
    seconds, found = time.process_time() - began, trainer.validation
    print(f"{steps:4} steps in {tokenizer or 'bytes':10}: {seconds:3.0f} s, ", end="")
    print(f"{found.loss:.2f} nats a token, {found.bits_per_byte:.2f} bits a byte")
    return seconds


with tempfile.TemporaryDirectory() as name:
    place = Path(name)
    (place / "plays.txt").write_text(text, encoding="utf-8")
    BytePairTokenizer.train(text, 512).save(place / "pairs.json")
    seconds = run(place, "", STEPS)
    times = run(place, "pairs.json", STEPS) / seconds
    run(place, "", round(STEPS * times))  # as long as the pairs had
