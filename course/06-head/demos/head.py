from pathlib import Path

import torch

from gpt.config import load_recipe
from gpt.train import Trainer

trainer = Trainer(load_recipe(Path("head.toml")))
trainer.run()
for text in ("The dog", "ehT dog"):
    logits = trainer.model(torch.tensor([trainer.tokenizer.encode(text)]))[0, -1]
    print(repr(text), *[f"{logit:.4f}" for logit in logits[97:102].tolist()])
