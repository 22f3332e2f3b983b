from pathlib import Path

from gpt.config import load_recipe

for size in ("124M", "1558M", "125M"):
    try:
        print(size, load_recipe(Path("verse.toml"), [f"model.size={size}"]).model)
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
