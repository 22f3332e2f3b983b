"""Whether targets are the tokens after their inputs."""

import numpy as np

from buildgpt.course.checking import check, equal


@check("the target of an input is the very next token, and of the same sequence", step="targets")
def next_token(mine):
    batches = mine.Batches(np.arange(41, dtype=np.uint16), 5, 1)
    for first, count in ((0, 1), (0, 3), (5, 4)):
        x, y = batches(first, count)
        given = f"how far after its input each target stands, inputs {x.tolist()}"
        equal((y - x).tolist(), [[1] * 5] * count, given=given)
