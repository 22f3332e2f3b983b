"""What recipes and the run that they decide must do."""

import contextlib
import io
import re
import tempfile
from dataclasses import replace
from pathlib import Path

from buildgpt.course.checking import (
    Failed,
    check,
    equal,
    expect,
    near,
    of_the_size,
    refused,
    stream,
    text_data,
    toy,
)
from buildgpt.course.checking import command as run_command
from buildgpt.course.checking import trainer as trainer_of

TEXT = "abcab " * 200


@contextlib.contextmanager
def recipe_file(text):
    """A file that holds this recipe."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text(text, encoding="utf-8")
        yield path


@contextlib.contextmanager
def small(mine, **train):
    """A recipe of a few steps on a small text."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        known = mine.ModelConfig()
        rate = 0.01 if hasattr(known, "width") else 0.1  # a table takes longer strides
        one = {"layers": 1} if hasattr(known, "layers") else {}
        wishes = {"steps": 30, "tokens_per_step": 64, "lr": rate, "seed": 1} | train
        if hasattr(mine.TrainConfig(), "warmup_steps"):
            wishes["warmup_steps"] = 0
        yield mine.Recipe(
            model=toy(mine, context=16, **one),
            data=text_data(mine, Path(folder), TEXT.encode()),
            train=mine.TrainConfig(**wishes),
        )


@check("a recipe holds its sections, and every key has a default", step="settings")
def defaults(mine):
    recipe = mine.Recipe()
    for section, key in (
        ("model", "context"),
        ("model", "vocab_size"),
        ("model", "init_std"),
        ("data", "path"),
        ("train", "steps"),
        ("train", "tokens_per_step"),
        ("train", "seed"),
        ("train", "lr"),
        ("sample", "prompt"),
        ("sample", "max_tokens"),
    ):
        found = hasattr(getattr(recipe, section, None), key)
        expect(found, f"no {section}.{key}", "a value", f"Recipe().{section}.{key}")
    equal(mine.Recipe() == mine.Recipe(), True, given="Recipe() == Recipe()")


@check("a setting cannot be changed once it is made", step="settings")
def frozen(mine):
    recipe = mine.Recipe()
    causes = ["@dataclass without frozen=True"]
    with refused("recipe.train.steps = 5", causes):
        recipe.train.steps = 5
    for section in ("model", "data", "train", "sample"):
        with refused(f"recipe.{section} = recipe.{section}", causes):
            setattr(recipe, section, getattr(recipe, section))
    for section, key in (("model", "context"), ("data", "path"), ("sample", "prompt")):
        own = getattr(recipe, section)
        with refused(f"recipe.{section}.{key} = recipe.{section}.{key}", causes):
            setattr(own, key, getattr(own, key))


@check("what nobody says is of the size that the pages speak of", step="settings", until="27-run")
def proportions(mine):
    recipe = mine.Recipe()
    of_the_size(recipe.model, context=64)
    of_the_size(recipe.train, steps=1000, tokens_per_step=2048)
    of_the_size(recipe.sample, max_tokens=200)
    if not mine.done("06-head/width"):
        of_the_size(recipe.train, lr=0.1)


@check("a run does as many steps as its recipe says, and learns", step="trainer")
def runs(mine):
    with small(mine, steps=30) as recipe:
        trainer = trainer_of(mine, recipe)
        trainer.run()
    equal(trainer.step, 30, given="train.steps = 30: the updates done")
    expect(trainer.loss < 3, f"{trainer.loss:.3f}", "below 3", "the loss after 30 steps")


@check("the vocabulary is the tokenizer's where the recipe leaves it open", step="trainer")
def vocabulary(mine):
    import torch

    with small(mine) as recipe:
        found = trainer_of(mine, recipe).model(torch.tensor([[65]])).shape[-1]
    equal(found, 257, given="model.vocab_size = 0: how many logits a token gets")


@check("a vocabulary of one's own is the model's", step="trainer", until="18-weights")
def own_vocabulary(mine):
    import torch

    with small(mine) as recipe:
        model = replace(recipe.model, vocab_size=300)
        found = trainer_of(mine, replace(recipe, model=model)).model(torch.tensor([[65]])).shape[-1]
    causes = ["the tokenizer's vocabulary is taken whatever the recipe says"]
    equal(found, 300, given="model.vocab_size = 300: how many logits a token gets", causes=causes)


@check("the same recipe trains the same model; another seed, another one", step="trainer")
def repeatable(mine):
    losses = []
    for seed in (1, 1, 2):
        with small(mine, seed=seed, steps=3) as recipe:
            trainer = trainer_of(mine, recipe)
            trainer.run()
            losses.append(trainer.loss)
    causes = ["torch.manual_seed comes after the model is made, or not at all"]
    expect(
        losses[0] == losses[1], f"{losses[0]} and {losses[1]}", "the same loss", "seed 1", causes
    )
    expect(losses[0] != losses[2], f"{losses[0]} twice", "another loss", "seeds 1 and 2")


@check("the recipe's seed and rate are used, and targets are no inputs", step="trainer")
def obeys(mine):
    import torch

    read, moved = [], []
    for seed, rate in ((1, 0.01), (2, 0.02)):
        with small(mine, seed=seed, lr=rate, steps=1, tokens_per_step=512) as recipe:
            trainer = trainer_of(mine, recipe)
            read.append(trainer.batches(0, 32)[0])
            before = [p.detach().clone() for p in trainer.model.parameters()]
            with torch.no_grad():
                wanted = trainer.model(*trainer.batches(0, 32)).item()
            trainer.update()
            given = "the first step's loss, against the model's loss of what it reads"
            near(trainer.loss, wanted, 2e-5, given, ["inputs and targets have changed places"])
            after = [*trainer.model.parameters()]
            moved.append(max((a - b).abs().max().item() for a, b in zip(after, before)))
    causes = ["Batches gets a seed of its own instead of the recipe's"]
    given = "the first 32 sequences that seeds 1 and 2 read"
    expect(not torch.equal(*read), "the same", "others, or in another order", given, causes)
    causes = ["the optimizer gets a rate of its own instead of the recipe's"]
    given = "how far a weight moves in the first step, lr = 0.02 over lr = 0.01"
    ratio = moved[1] / moved[0]
    expect(1.5 < ratio < 2.5, f"{ratio:.2f}", "about 2", given, causes)


@check("a step reads tokens_per_step tokens, each step other ones", step="trainer")
def reads(mine):
    with small(mine, steps=3, tokens_per_step=64) as recipe:
        trainer, asked = trainer_of(mine, recipe), []
        batches = trainer.batches
        trainer.batches = lambda first, count: asked.append((first, count)) or batches(first, count)
        trainer.run()
    causes = ["tokens_per_step are divided by the context into sequences"]
    given = "the sequences read by 3 steps of 64 tokens, T = 16"
    equal(asked, [(0, 4), (4, 4), (8, 4)], given=given, causes=causes)


@check("a file says what differs; the rest keeps its default", step="toml")
def from_file(mine):
    with recipe_file("") as path:
        equal(mine.load_recipe(path) == mine.Recipe(), True, given="an empty file's recipe")
    with recipe_file('[train]\nsteps = 7\n[sample]\nprompt = "né"\n') as path:
        recipe = mine.load_recipe(path)
    equal(recipe.train.steps, 7, given="[train] steps = 7")
    equal(recipe.sample.prompt, "né", given='[sample] prompt = "né"')
    equal(recipe.train.lr, mine.Recipe().train.lr, given="train.lr, which the file leaves out")
    expect(isinstance(recipe, mine.Recipe), type(recipe).__name__, "a Recipe", "load_recipe")
    kind = type(recipe.train).__name__
    expect(isinstance(recipe.train, mine.TrainConfig), kind, "a TrainConfig", "recipe.train")


def refusal(mine, path, given):
    """What their UsageError says of a recipe."""
    causes = ["sections are checked but not their keys, or the other way round"]
    try:
        mine.load_recipe(path)
    except mine.UsageError as error:
        return str(error)
    except Exception as error:
        raise Failed(f"{type(error).__name__}: {error}", "a UsageError", given, causes) from error
    raise Failed("no error at all", "a UsageError", given, causes)


@check("an unknown key is a UsageError that names it, the file and the nearest one", step="unknown")
def unknown(mine):
    for text, wrong, nearest in (
        ("[train]\nstep = 7\n", "train.step", "train.steps"),
        ("[model]\ncontexts = 7\n", "model.contexts", "model.context"),
        ("[trian]\nsteps = 7\n", "trian", "train"),
    ):
        with recipe_file(text) as path:
            said, given = refusal(mine, path, f"a file of {text!r}"), f"a file of {text!r}"
            for what, word in (("key", wrong), ("nearest key", nearest), ("file", str(path))):
                alone = re.search(rf"(?<![\w.]){re.escape(word)}(?!\w|\.\w)", said)
                causes = [f"the message does not hold the {what}, as a word of its own"]
                expect(alone, said, f"a message with the {what}: {word}", given, causes)
    expect(issubclass(mine.UsageError, mine.UserError), "no", "yes", "is a UsageError a UserError")


@check("a value must be of its key's type; a whole number does for a fraction", step="types")
def types(mine):
    for text in ('steps = "20"', "steps = 1.5", "steps = true", 'lr = "fast"'):
        with recipe_file(f"[train]\n{text}\n") as path:
            causes = ["isinstance(True, int) is true in Python: compare types"]
            with refused(f"[train] {text}", causes, the_key=f"train.{text.split()[0]}"):
                mine.load_recipe(path)
    with recipe_file("[train]\nlr = 1\n") as path:
        equal(mine.load_recipe(path).train.lr, 1.0, given="[train] lr = 1")


@check("an override changes one key, after the file", step="set")
def overrides(mine):
    with recipe_file("[train]\nsteps = 7\n") as path:
        recipe = mine.load_recipe(path, ["train.steps=20", "train.lr=5e-1", "sample.prompt=Oh: x"])
        equal(recipe.train.steps, 20, given="steps = 7 and --set train.steps=20")
        near(recipe.train.lr, 0.5, 0, given="--set train.lr=5e-1")
        equal(recipe.sample.prompt, "Oh: x", given="--set 'sample.prompt=Oh: x', a bare word")
        equal(mine.load_recipe(path).train.steps, 7, given="the same file, without --set")
        for wrong, word in (("train.step=1", "train.steps"), ("steps=1", "steps=1")):
            with refused(f"--set {wrong}", the_word=word):
                mine.load_recipe(path, [wrong])


@check(
    "the command trains, lets the model talk, and says in one line what is wrong", step="command"
)
def command(mine):
    wishes, text = ("train.steps=5", "sample.prompt=ab", "sample.max_tokens=0"), TEXT.encode()
    status, out, err = run_command(mine, text, *wishes)
    equal((status, err), (0, ""), given="exit status and stderr of a run that went well")
    causes = ["sample.max_tokens, here 0, is not used", "the prompt is not told with its text"]
    expect("ab" in out.splitlines(), out[-80:], "a line with the prompt, ab, alone", "out", causes)
    status, out, _ = run_command(mine, text, *wishes[:2])
    talks = "\nab" in f"\n{out}" and "ab" not in out.splitlines()
    expect(talks, out[-80:], "ab and its continuation", "output")
    status, _, err = run_command(mine, text, *wishes, "train.step=1")
    told = (bool(status), len(err.strip().splitlines()))
    equal(told, (True, 1), given=f"a status that is not 0, and lines on stderr: {err!r}")
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        status = mine.main(["nowhere.toml"])
    told = (bool(status), len(err.getvalue().strip().splitlines()))
    equal(told, (True, 1), given=f"the same for a file that is not there: {err.getvalue()!r}")


@check("errors of the earlier lessons are UserErrors, which the command can tell", step="command")
def told(mine):
    import numpy as np

    for given, call in (
        ("decode([257])", lambda: mine.ByteTokenizer().decode([257])),
        ("Batches(0..7, context=8)", lambda: mine.Batches(stream(mine, np.arange(8)), 8, 1)),
    ):
        try:
            call()
            seen = "no error"
        except Exception as error:
            seen = type(error)
        good = isinstance(seen, type) and issubclass(seen, mine.UserError)
        expect(good, str(seen), "a UserError", given)
