"""What this lesson's model makes of the gallery's prompt: [(what it is, loss, text), ...]."""

from buildgpt.course.gallery import trained


def talk(mine, text, prompt):
    """The small GPT again, which has learnt while a tenth of its numbers were missing."""
    model = {"layers": 3, "heads": 4, "width": 96, "init_std": 0.05, "dropout": 0.1}
    train = {"steps": 800, "tokens_per_step": 1024, "lr": 0.004, "warmup_steps": 80}
    train |= {"eval_every": 0}
    what = "the same with a tenth of its numbers dropped while it learnt"
    return [trained(mine, text, prompt, what, model, train)]
