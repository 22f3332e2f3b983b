"""Whether ranks share a step out among them, near an epoch's end as anywhere."""

from types import SimpleNamespace

from buildgpt.course.checking import check, equal


@check("whatever the number of ranks, an epoch reads each of its sequences once", step="")
def shared_out(mine):
    for sequences in (24, 26):
        for ranks in (1, 2, 4, 8):
            seen = sorted(
                p for rank in range(ranks) for p in read(mine.core, rank, ranks, sequences)
            )
            given = f"positions of the endless order that {ranks} ranks read in 4 steps of 8"
            equal(seen, [*range(32)], given=f"{given}, each once; an epoch has {sequences}")


def read(core, rank, ranks, sequences):
    """The positions that one of several ranks reads in four steps."""
    import torch

    train = core.config.TrainConfig(tokens_per_step=32, micro_batch=8 // ranks)
    seen = []

    def batches(first, count):
        seen.extend(range(first, first + count))
        return torch.zeros(count, 4, dtype=torch.int64), torch.zeros(count, 4, dtype=torch.int64)

    batches.sequences = sequences
    made = object.__new__(core.train.Trainer)
    made.recipe = core.config.Recipe(model=core.config.ModelConfig(context=4), train=train)
    made.runtime = core.runtime.Runtime(torch.device("cpu"), rank=rank, world_size=ranks)
    made.micro_batch, made.batches = 8 // ranks, batches
    made.replica = lambda ids, targets, last: torch.zeros((), requires_grad=True)
    made.scaler = SimpleNamespace(scale=lambda loss: loss)
    for made.step in range(4):
        made.accumulate()
    return seen
