"""What this lesson's model makes of the gallery's prompt: [(what it is, loss, text), ...]."""

from buildgpt.course.gallery import trained


def talk(mine, text, prompt):
    """Four heads, each with an eye of its own."""
    model = {"width": 64, "heads": 4}
    train = {"steps": 500, "lr": 0.01}
    return [trained(mine, text, prompt, "four heads of 16 numbers each", model, train)]
