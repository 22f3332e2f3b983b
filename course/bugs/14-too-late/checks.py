"""Whether two ranks have one gradient. Where a system cannot fork, there is nothing to check."""

from buildgpt.course.checking import check, expect
from buildgpt.course.ranks import can_fork, on_ranks


@check("after a step both ranks have the same gradient", step="")
def one_gradient(mine):
    for parts in (1, 2, 4) if can_fork() else ():
        one, other = on_ranks(2, lambda rank, parts=parts: gradient(mine.core, rank, parts))
        off = max(abs(a - b) for a, b in zip(one, other))
        given = f"the gradient of a step in {parts} micro-batches, which both ranks must share"
        expect(off == 0, f"they differ by up to {off:.2g}", "no difference in any bit", given)


def gradient(core, rank, parts):
    """A rank's gradient of its second step."""
    import torch

    runtime = core.runtime.start_runtime(
        core.config.RuntimeConfig(device="cpu", dtype="fp32", compile="off")
    )
    config = core.config.ModelConfig(layers=1, heads=2, width=16, context=8, vocab_size=20)
    torch.manual_seed(1)
    replica = core.runtime.Replica(core.model.GPT(config), runtime)
    torch.manual_seed(2 + rank)
    for _ in range(2):
        replica.model.zero_grad()
        for part in range(parts):
            ids = torch.randint(20, (8 // parts, 9))
            loss = replica(ids[:, :-1], ids[:, 1:], last=part == parts - 1)
            (loss / parts).backward()
    return torch.cat([p.grad.flatten() for p in replica.model.parameters()]).tolist()
