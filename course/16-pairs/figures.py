"""The figures that lesson 16 quotes: name -> (value, how it is shown, tolerance)."""

import time
from pathlib import Path

from gpt.config import load_recipe
from gpt.tokenizer import BytePairTokenizer
from gpt.train import Trainer

STEPS = 80
text = Path("data/shakespeare.txt").read_text(encoding="utf-8")[:200_000]
Path("compared.txt").write_text(text, encoding="utf-8")
tokenizer = BytePairTokenizer.train(text, 512)
tokenizer.save(Path("compared.json"))


def run(name, steps):
    """Seconds of the processor, and the validation."""
    wishes = ["data.path=compared.txt", f"data.tokenizer={name}", f"train.steps={steps}"]
    recipe = load_recipe(Path("small.toml"), [*wishes, "train.eval_every=0"])
    trainer, began = Trainer(Path("compared"), recipe), time.process_time()
    trainer.run()
    return time.process_time() - began, trainer.validation


seconds, plain = run("", STEPS)
longer, pairs = run("compared.json", STEPS)
more = run("", round(STEPS * longer / seconds))[1]

FIGURES = {
    "bytes a token": (len(text.encode()) / len(tokenizer.encode(text)), "{:.2f}", 0.01),
    "loss of bytes": (plain.loss, "{:.2f}", 0.1),
    "loss of pairs": (pairs.loss, "{:.2f}", 0.1),
    "bits a byte of bytes": (plain.bits_per_byte, "{:.2f}", 0.1),
    "bits a byte of pairs": (pairs.bits_per_byte, "{:.2f}", 0.1),
    "bits a byte of bytes in equal time": (more.bits_per_byte, "{:.2f}", 0.25),
    "times as long for pairs": (longer / seconds, "{:.1f}", 0.6),
}
