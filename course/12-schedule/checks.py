"""What the schedule must be, number by number, and that training follows it."""

import contextlib
import io
import math
import re
import tempfile
from pathlib import Path

from buildgpt.course.checking import check, equal, expect, near, of_the_size, refused, small_trainer

OFF_BY_ONE = "step counts from 0: the first update's share is 1 / (warmup_steps + 1)"


def config(mine, **wishes):
    """A TrainConfig with a rate of 1, which stays where it is once there is a cosine."""
    if mine.done("12-schedule/cosine"):
        wishes = {"final_lr": 1.0} | wishes
    return mine.TrainConfig(**({"lr": 1.0} | wishes))


def rates(mine, steps, wish):
    """The rates of a whole run."""
    return [float(mine.learning_rate(step, steps, wish)) for step in range(steps)]


@check("rate and schedule are of the size that the pages speak of", step="cosine")
def proportions(mine):
    of_the_size(mine.TrainConfig(), lr=6e-4, warmup_steps=100, final_lr=0.1)


@check("the rate rises in a straight line, from above 0 to the whole one", step="warmup")
def rises(mine):
    for warmup in (0, 1, 4, 100):
        found = rates(mine, 120, config(mine, warmup_steps=warmup))
        for step in range(warmup + 2):
            wanted = min((step + 1) / (warmup + 1), 1.0)
            given = f"the rate of step {step} (from 0), lr = 1, warmup_steps = {warmup}"
            near(found[step], wanted, 1e-9, given, [OFF_BY_ONE])
    half = mine.learning_rate(50, 100, config(mine, lr=0.5, warmup_steps=0))
    near(half, 0.5, 1e-9, "the rate in the middle of 100 steps, lr = 0.5, no warm-up")


def made(mine, **train):
    """A Trainer of a small GPT on a small text."""
    model = {"context": 16, "layers": 1, "heads": 2, "width": 16}
    wishes = {"steps": 6, "tokens_per_step": 64, "lr": 0.01, "log_every": 1}
    return small_trainer(mine, b"abcab cab " * 60, model, wishes | train)


@check("every update is done at its own rate, in every group, and tells it", step="rates")
def follows(mine):
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    used = []

    def note(optimizer, *words):
        used.append([group["lr"] for group in optimizer.param_groups])

    out = io.StringIO()
    hook = register_optimizer_step_pre_hook(note)
    try:
        with made(mine, warmup_steps=3) as own, contextlib.redirect_stdout(out):
            own.run()
    finally:
        hook.remove()
    wanted = rates(mine, 6, own.recipe.train)
    equal(len(used), 6, given="updates of 6 steps")
    for number, (groups, rate) in enumerate(zip(used, wanted), 1):
        causes = ["rates are set after the update, or one step late", "only the first group's"]
        for found in groups:
            near(found, rate, 1e-9, f"the rate of update {number}, lr = 0.01, 3 warm-up", causes)
    told = [float(x) for x in re.findall(r"lr (\d\.\d+e[+-]\d+)", out.getvalue())]
    near(told[-1] if told else None, wanted[-1], 1e-4, "the rate in the last report: lr 1.00e-02")
    equal(len(told), 6, given="reports of 6 steps that tell a rate")
    near(own.rate, wanted[-1], 1e-9, "the Trainer's rate after the last update")


def by_hand(step, steps, warmup, last):
    """The rate with a cosine, of lr = 1."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min((step - warmup) / (steps - warmup), 1.0)
    return last + (1 - last) * (1 + math.cos(math.pi * done)) / 2


@check("after warm-up half a cosine leads from the whole rate to final_lr of it", step="cosine")
def falls(mine):
    for steps, warmup, last in ((4, 0, 0.0), (20, 0, 0.1), (30, 10, 0.5), (5, 0, 1.0)):
        wish = config(mine, warmup_steps=warmup, final_lr=last)
        for step in [*range(steps + 1), 3 * steps]:
            causes = [
                "the cosine begins at step 0, not after the warm-up",
                "final_lr is a share of lr, not a rate",
                "beyond the last step the cosine rises again",
            ]
            given = f"step {step} of {steps}, warmup_steps = {warmup}, final_lr = {last}, lr = 1"
            found = float(mine.learning_rate(step, steps, wish))
            near(found, by_hand(step, steps, warmup, last), 1e-9, given, causes)


@check("a warm-up as long as the run, or longer, works too", step="cosine")
def long_warmup(mine):
    for warmup in (10, 25):
        found = rates(mine, 10, config(mine, warmup_steps=warmup, final_lr=0.1))
        for step, rate in enumerate(found):
            near(rate, (step + 1) / (warmup + 1), 1e-9, f"step {step} of 10, warm-up {warmup}")
    with refused("TrainConfig(final_lr=1.5)", the_key="final_lr"):
        mine.TrainConfig(final_lr=1.5)


@check("the other schedule stays, and falls in a straight line at the end", step="wsd")
def stays(mine):
    wish = config(mine, warmup_steps=10, schedule="wsd", decay_share=0.2, final_lr=0.1)
    for step, wanted in ((4, 5 / 11), (10, 1.0), (90, 1.0), (100, 0.55), (110, 0.1)):
        found = float(mine.learning_rate(step, 110, wish))
        given = f"step {step} of 110, warmup_steps = 10, decay_share = 0.2, final_lr = 0.1"
        near(found, wanted, 1e-9, given)
    with refused('TrainConfig(schedule="linear")', the_word="linear", the_choices="cosine, wsd"):
        mine.TrainConfig(schedule="linear")


@check("a recipe chooses by word, and another type is refused", step="wsd")
def in_words(mine):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.toml"
        path.write_text('[train]\nschedule = "wsd"\n', encoding="utf-8")
        equal(mine.load_recipe(path).train.schedule, "wsd", given='schedule = "wsd" in a file')
        path.write_text("[train]\nschedule = 5\n", encoding="utf-8")
        with refused("schedule = 5 in a file", the_key="train.schedule"):
            mine.load_recipe(path)
        expect(mine.TrainConfig().schedule == "cosine", "another", "cosine", "the default")
