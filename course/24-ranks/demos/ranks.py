from pathlib import Path

from gpt.config import UserError, divide, load_recipe

recipe = load_recipe(Path("small.toml"))
print("16 sequences a step, micro-batches of 8 at most")
for ranks in (1, 2, 4, 3, 5):
    try:
        print(f"{ranks} ranks: micro-batches of {divide(recipe, ranks)}")
    except UserError as error:
        print(f"{ranks} ranks: {error}")
