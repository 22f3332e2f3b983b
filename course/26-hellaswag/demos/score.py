import contextlib
import io
import tempfile
from pathlib import Path

from gpt.config import load_recipe
from gpt.hellaswag import read_hellaswag, score, spell
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
items = read_hellaswag(Path("endings.jsonl"))
for item in (items[7], items[9]):
    spelt = spell(item, trainer.tokenizer, 128)
    (losses,) = score(trainer.model, [spelt], trainer.runtime).tolist()
    print(item.context, "...")
    for number, (ending, loss) in enumerate(zip(item.endings, losses)):
        mark = " <- right" * (number == item.label) + " <- chosen" * (loss == min(losses))
        print(f"    {loss:6.1f}  {ending}{mark}")
