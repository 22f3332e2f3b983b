from pathlib import Path

import torch

from gpt.config import load_recipe
from gpt.runtime import ALL_THREADS, choose_threads, start_runtime

for wish in (1, 2):
    recipe = load_recipe(Path("small.toml"), [f"runtime.threads={wish}"])
    choose_threads(start_runtime(recipe.runtime), wish, 0, recipe.model.width)
    print(f"runtime.threads={wish}: computing on {torch.get_num_threads()}")
print(f"torch itself would take {ALL_THREADS}")
