from pathlib import Path

from gpt.config import load_recipe
from gpt.generate import Sampling, continue_text
from gpt.train import Trainer

trainer = Trainer(load_recipe(Path("recipe.toml"), ["train.steps=200"]))
trainer.run()
for temperature in (0.2, 0.8, 2.0):
    sampling = Sampling(max_tokens=120, temperature=temperature)
    text = continue_text(trainer.model, trainer.tokenizer, "JULIET:", sampling)
    print(f"{temperature}: {text!r}")
