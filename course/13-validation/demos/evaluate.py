from pathlib import Path

from gpt.config import load_recipe
from gpt.evaluate import evaluate
from gpt.train import Trainer

trainer = Trainer(load_recipe(Path("sonnets.toml"), ["train.steps=1"]))
trainer.run()
found = evaluate(trainer.model, trainer.corpus)
print(f"{len(trainer.corpus.val):,} tokens are held out, {found.tokens:,} targets are scored,")
print(f"loss {found.loss:.4f}, measured again {evaluate(trainer.model, trainer.corpus).loss:.4f}")
