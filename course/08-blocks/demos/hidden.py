from pathlib import Path

import torch

from gpt.config import load_recipe
from gpt.generate import Sampling, continue_text
from gpt.train import Trainer

own = Path("data/mine.txt")  # put a text of yours there, the longer the better
wishes = [f"data.path={own.as_posix()}"] if own.exists() else []
trainer = Trainer(load_recipe(Path("verse.toml"), wishes))
print(
    "a hidden vector for each token:", tuple(trainer.model.hidden(torch.tensor([[65, 66]])).shape)
)
trainer.run()
sample = trainer.recipe.sample
sampling = Sampling(sample.max_tokens, sample.temperature)
print(sample.prompt + continue_text(trainer.model, trainer.tokenizer, sample.prompt, sampling))


def last(text):
    """What the model knows at the end of a text."""
    return trainer.model.hidden(torch.tensor([trainer.tokenizer.encode(text)]))[0, -1]


for one, other in (
    ("with the", "and the"),
    ("with the", "and then, the"),
    ("with the", "thee, th"),
):
    alike = torch.cosine_similarity(last(one), last(other), dim=0).item()
    print(f"{one!r:>10} and {other!r:<15} are alike to {alike:.2f}")
