from pathlib import Path

import torch

from gpt import model
from gpt.config import load_recipe
from gpt.generate import Sampling, continue_text
from gpt.train import Trainer

trainer = Trainer(load_recipe(Path("head.toml")))
trainer.run()
sampling = Sampling(max_tokens=200)
print("JULIET:" + continue_text(trainer.model, trainer.tokenizer, "JULIET:", sampling))

# The picture: attention is asked once more, with values that are 1 in one place each.
attend, pictures = model.attend_by_hand, []


def watched(q, k, v):
    """Attention that also keeps who looked at whom."""
    pictures.append(attend(q, k, torch.eye(k.size(-2)))[0])
    return attend(q, k, v)


model.attend_by_hand = watched
text = "To be, or not to be"
trainer.model(torch.tensor([trainer.tokenizer.encode(text)]))
for letter, row in zip(text, pictures[0].tolist()):
    print(f"{letter!r:>4} |" + "".join(" .:-=+*%@"[round(8 * share)] * 2 for share in row) + "|")
