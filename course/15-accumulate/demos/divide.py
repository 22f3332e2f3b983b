from pathlib import Path

from gpt.config import divide, load_recipe

for rows in (8, 100, 5):
    try:
        recipe = load_recipe(Path("small.toml"), [f"train.micro_batch={rows}"])
        sequences = recipe.train.tokens_per_step // recipe.model.context
        micro = divide(recipe)
        print(f"{sequences} sequences a step: {sequences // micro} parts of {micro}")
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
