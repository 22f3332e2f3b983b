import tempfile
from pathlib import Path

from gpt.config import SampleConfig, load_recipe
from gpt.generate import sample
from gpt.runtime import start_runtime
from gpt.train import Trainer

recipe = load_recipe(Path("small.toml"), ["train.warmup_steps=10"])
with tempfile.TemporaryDirectory() as place:
    trainer = Trainer(Path(place) / "run", recipe, start_runtime(recipe.runtime))
    for _ in range(3):
        wish = SampleConfig(prompt="JULIET:", max_tokens=40)
        text = sample(trainer.model, trainer.tokenizer, wish, seed=1)
        print(f"after {trainer.step:2} steps: {text!r}")
        for _ in range(15):
            trainer.update()
print(f"and it goes on training: {trainer.model.training}")
