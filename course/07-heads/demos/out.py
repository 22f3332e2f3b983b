from pathlib import Path

import torch

from gpt import model
from gpt.config import load_recipe
from gpt.generate import Sampling, continue_text
from gpt.train import Trainer

trainer = Trainer(load_recipe(Path("head.toml"), ["model.heads=4"]))
trainer.run()
sampling = Sampling(max_tokens=200)
print("JULIET:" + continue_text(trainer.model, trainer.tokenizer, "JULIET:", sampling))

attend, pictures = model.attend_by_hand, []


def watched(q, k, v):
    """Attention that also keeps who looked at whom, head by head."""
    pictures.append(attend(q, k, torch.eye(k.size(-2)))[0])
    return attend(q, k, v)


model.attend_by_hand = watched
text = "not to be"
trainer.model(torch.tensor([trainer.tokenizer.encode(text)]))
for letter, *rows in zip(text, *pictures[0].tolist()):
    shades = ("".join(" .:-=+*%@"[round(8 * share)] * 2 for share in row) for row in rows)
    print(f"{letter!r:>4} |" + "|".join(shades) + "|")
