import tempfile
from pathlib import Path

from gpt.config import load_recipe
from gpt.train import Trainer

with tempfile.TemporaryDirectory() as place:
    wishes = ["train.steps=40", "train.log_every=20", "data.val_tokens=5000"]
    trainer = Trainer(Path(place) / "run", load_recipe(Path("small.toml"), wishes))
    trainer.run()
    for path in ("data/shakespeare.txt", "", "gpt"):
        try:
            Trainer(Path(place), load_recipe(Path("small.toml"), [f"data.path={path}"]))
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
