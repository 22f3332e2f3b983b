"""What this lesson's model makes of the gallery's prompt: [(what it is, loss, text), ...]."""

from buildgpt.course.gallery import trained


def talk(mine, text, prompt):
    """A small GPT: blocks on blocks."""
    model = {"layers": 3, "heads": 4, "width": 96}
    train = {"steps": 800, "tokens_per_step": 1024, "lr": 0.002}
    return [
        trained(
            mine, text, prompt, "a small GPT: three blocks of four heads, 96 wide", model, train
        )
    ]
