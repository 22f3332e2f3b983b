"""Whether top-p leaves enough."""

from buildgpt.course.checking import check, equal


@check("what top-p leaves makes up p, with as few tokens as will do", step="top-p")
def reaches(mine):
    import torch

    for chances, p, kept in (
        ([0.1, 0.2, 0.7], 0.8, [1, 2]),
        ([0.5, 0.41, 0.09], 0.9, [0, 1]),
        ([0.02, 0.95, 0.03], 0.8, [1]),
    ):
        wish = mine.Sampling(temperature=1.0, top_p=p)
        found = mine.probabilities(torch.tensor([chances]).log(), wish)[0].tolist()
        left = [i for i, chance in enumerate(found) if chance > 0]
        share = sum(chances[i] for i in left)
        causes = [f"what is left makes up {share:.2f}, and {p} was asked for"]
        equal(left, kept, given=f"which ids make up {p}, of chances {chances}", causes=causes)
