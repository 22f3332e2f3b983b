from pathlib import Path

from gpt.config import load_recipe
from gpt.generate import Sampling, continue_text
from gpt.train import Trainer

trainer = Trainer(load_recipe(Path("recipe.toml"), ["train.steps=200"]))
trainer.run()
for seed in (0, 1, 0):
    sampling = Sampling(max_tokens=40, seed=seed)
    print(seed, repr(continue_text(trainer.model, trainer.tokenizer, "JULIET:", sampling)))
