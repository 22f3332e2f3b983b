from pathlib import Path

import torch

from gpt.config import load_recipe
from gpt.train import Trainer

wishes = ["train.warmup_steps=20", "train.steps=150", "train.log_every=0"]
trainer = Trainer(load_recipe(Path("small.toml"), wishes))
trainer.run()
text = "\nTo be, or not to be"
ids = torch.tensor([trainer.tokenizer.encode(text)])
with torch.no_grad():
    losses = trainer.model(ids[:, :-1], ids[:, 1:], reduction="none")[0]
for letter, loss in zip(text[1:], losses.tolist()):
    print(f"{letter!r} {loss:5.2f} " + "#" * round(8 * loss))
