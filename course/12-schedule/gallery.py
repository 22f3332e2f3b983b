"""What this lesson's model makes of the gallery's prompt: [(what it is, loss, text), ...]."""

from buildgpt.course.gallery import trained


def talk(mine, text, prompt):
    """The small GPT again, with AdamW in groups and a rate that rises and falls."""
    model = {"layers": 3, "heads": 4, "width": 96, "init_std": 0.05}
    train = {"steps": 800, "tokens_per_step": 1024, "lr": 0.004, "warmup_steps": 80}
    return [trained(mine, text, prompt, "the same with a rate that rises and falls", model, train)]
