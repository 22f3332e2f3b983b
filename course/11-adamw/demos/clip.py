from pathlib import Path

from gpt.config import load_recipe
from gpt.train import Trainer


def rubbish(batches):
    """Batches in which everything is followed by an end of text."""
    return lambda *place: (batches(*place)[0], batches(*place)[1] * 0 + 256)


for clip in (0, 1):
    wishes = [f"train.grad_clip={clip}", "train.steps=100", "train.log_every=50"]
    trainer = Trainer(load_recipe(Path("small.toml"), wishes))
    trainer.run()
    batches = trainer.batches
    for step in range(101, 107):
        if step == 102:
            trainer.batches = rubbish(batches)
        trainer.update()
        trainer.batches = batches
        print(f"grad_clip {clip}, step {step}: loss {trainer.loss:.2f}, norm {trainer.norm:.2f}")
