from pathlib import Path

from gpt.config import load_recipe

for wish in ("train.steps=-5", "train.lr=0", "train.log_every=0", "sample.top_k=-1"):
    try:
        load_recipe(Path("sonnet.toml"), [wish])
        print(f"{wish}: taken")
    except Exception as error:
        print(f"{wish}: {error}")
