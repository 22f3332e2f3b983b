import contextlib
import io
import json
import tempfile
from pathlib import Path

from gpt.config import load_recipe
from gpt.hellaswag import hellaswag, read_hellaswag, spell, summed_losses
from gpt.runtime import start_runtime
from gpt.train import Trainer

WISHES = ["model.context=128", "train.steps=300", "train.tokens_per_step=1024"]


def learnt():
    """A small model that has read Shakespeare for some seconds, its tokenizer, where it is."""
    recipe = load_recipe(Path("small.toml"), [*WISHES, "data.val_tokens=1000"])
    with tempfile.TemporaryDirectory() as runs:
        trainer = Trainer(Path(runs), recipe, start_runtime(recipe.runtime))
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.run()
    return trainer


trainer = learnt()
path = Path("endings.jsonl")
items = read_hellaswag(path)
found = hellaswag(trainer.model, trainer.tokenizer, items, trainer.runtime)
error = found.standard_error(found.acc_norm)
print(f"acc {found.acc:.2f}, acc_norm {found.acc_norm:.2f}, give or take {error:.2f}")
spelt = [spell(item, trainer.tokenizer, 128) for item in items]
chosen = summed_losses(trainer.model, spelt, trainer.runtime).argmin(dim=1).tolist()
kinds = [json.loads(line)["kinds"] for line in path.read_text(encoding="utf-8").splitlines()]
taken = [own[choice] for own, choice in zip(kinds, chosen)]
for kind in ("right", "sense", "order", "letters"):
    print(f"    {kind:8} taken {taken.count(kind)} times of {len(taken)}")
