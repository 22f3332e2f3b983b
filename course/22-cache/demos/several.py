import tempfile
from pathlib import Path

from gpt.config import load_recipe
from gpt.generate import Sampling, continue_text
from gpt.runtime import start_runtime
from gpt.train import Trainer

recipe = load_recipe(Path("small.toml"), ["data.val_tokens=100", "train.steps=80"])
with tempfile.TemporaryDirectory() as place:
    trainer = Trainer(Path(place) / "run", recipe, start_runtime(recipe.runtime))
    trainer.run()
trainer.model.eval()
sampling = Sampling(max_tokens=40, samples=3)
for text in continue_text(trainer.model, trainer.tokenizer, "JULIET:", sampling):
    print(repr(text))
