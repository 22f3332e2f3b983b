"""The run whose loss is compared with the recorded band."""

from buildgpt.course.curves import ATTENDING, trained

STEPS = 60
WIDTH, IN_A_ROW = ATTENDING
UNTIL = "07"  # then there are several heads


def losses(mine, text, seed):
    """The loss of each step of 16 sequences of 32 tokens."""
    model = {"width": 32}
    return trained(mine, text, model, {"steps": STEPS, "seed": seed, "lr": 0.01})
