"""What this lesson's model makes of the gallery's prompt: [(what it is, loss, text), ...]."""

from buildgpt.course.gallery import trained


def talk(mine, text, prompt):
    """A modern model of the same size."""
    model = {"layers": 3, "heads": 4, "width": 96, "init_std": 0.05, "architecture": "modern"}
    train = {"steps": 800, "tokens_per_step": 1024, "lr": 0.004, "warmup_steps": 80}
    return [trained(mine, text, prompt, "a modern model of the same shape", model, train)]
