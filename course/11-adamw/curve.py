"""The run whose loss is compared with the recorded band."""

from buildgpt.course.curves import ATTENDING, trained

STEPS = 60
WIDTH, IN_A_ROW = ATTENDING
UNTIL = "12"  # then there is a schedule


def losses(mine, text, seed):
    """The loss of each step of 16 sequences of 32 tokens."""
    model = {"layers": 2, "heads": 4, "width": 32, "init_std": 0.05}
    return trained(mine, text, model, {"steps": STEPS, "seed": seed, "lr": 0.003})
