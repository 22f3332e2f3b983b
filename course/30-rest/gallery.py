"""What this lesson's model makes of the gallery's prompt: [(what it is, loss, text), ...]."""

from buildgpt.course.gallery import trained


def talk(mine, text, prompt):
    """The modern model with every switch there is."""
    model = {"layers": 3, "heads": 4, "width": 96, "init_std": 0.05, "architecture": "modern"}
    train = {"steps": 800, "tokens_per_step": 1024, "lr": 0.004, "warmup_steps": 80}
    train |= {"optimizer": "muon"}
    return [trained(mine, text, prompt, "the modern model with all its switches on", model, train)]
