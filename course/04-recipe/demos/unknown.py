from pathlib import Path

from gpt.config import load_recipe

Path("wrong.toml").write_text("[train]\nstep = 20\n", encoding="utf-8")
try:
    print(load_recipe(Path("wrong.toml")))
except Exception as error:
    print(f"{type(error).__name__}: {error}")
