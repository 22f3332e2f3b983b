import tempfile
from pathlib import Path

from gpt.config import load_recipe
from gpt.runtime import start_runtime
from gpt.train import Trainer

recipe = load_recipe(Path("small.toml"), ["data.val_tokens=1000", "train.steps=20"])
with tempfile.TemporaryDirectory() as place:
    Trainer(Path(place) / "run", recipe, start_runtime(recipe.runtime)).run()
runtime = start_runtime(recipe.runtime)
for name, fact in runtime.facts().items():
    print(f"{name}: {fact}")
print(f"memory needed so far: {runtime.peak_memory() / 1e9:.1f} GB")
