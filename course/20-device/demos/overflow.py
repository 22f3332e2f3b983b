import tempfile
from pathlib import Path

import torch

from gpt.config import load_recipe
from gpt.runtime import Runtime
from gpt.train import Trainer

wishes = ["train.tokens_per_step=128", "data.val_tokens=1000"]
recipe = load_recipe(Path("small.toml"), wishes)
with tempfile.TemporaryDirectory() as place:
    trainer = Trainer(Path(place) / "run", recipe, Runtime(torch.device("cpu"), torch.float16))
trainer.update()
trainer.scaler.update(2.0**19)  # too high
try:
    for _ in range(5):
        trainer.update()
        scale = f"{trainer.scaler.get_scale():,.0f}"
        print(f"step {trainer.step}: gradient norm {trainer.norm:.3f}, then the scale is {scale}")
except Exception as error:
    print(error)
