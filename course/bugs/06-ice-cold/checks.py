"""Whether temperature 0 is the limit of the low ones."""

from buildgpt.course.checking import check, equal


@check("at temperature 0, and next to it, the likeliest token has all the chance", step="greedy")
def limit(mine):
    import torch

    logits = torch.tensor([[2.0, 3.0, 1.0], [-5.0, -9.0, -4.0]])
    for temperature in (0.0, 1e-40, 1e-6):
        found = mine.probabilities(logits, mine.Sampling(temperature=temperature)).tolist()
        given = f"the chances of logits {logits.tolist()} at temperature {temperature}"
        equal(str(found), str([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), given=given)
