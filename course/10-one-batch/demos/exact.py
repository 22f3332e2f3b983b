from pathlib import Path

from gpt.config import load_recipe

for tokens in (622, 600):
    try:
        recipe = load_recipe(Path("sonnet.toml"), [f"train.tokens_per_step={tokens}"])
        read = tokens // recipe.model.context * recipe.model.context
        print(f"{tokens} tokens a step: {read} are read")
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
