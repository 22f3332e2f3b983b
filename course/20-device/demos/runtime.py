import tempfile
from pathlib import Path

from gpt.config import load_recipe
from gpt.runtime import start_runtime
from gpt.train import Trainer

recipe = load_recipe(Path("small.toml"), ["data.val_tokens=2000", "train.steps=20"])
runtime = start_runtime(recipe.runtime)
with tempfile.TemporaryDirectory() as place:
    trainer = Trainer(Path(place) / "run", recipe, runtime)
    print(f"the weights lie on {trainer.model.token_embedding.weight.device}")
    trainer.run()
