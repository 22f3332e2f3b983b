from buildgpt.course.ranks import on_ranks
from buildgpt.course.recorded import need_ranks
from gpt import runtime as module
from gpt.config import RuntimeConfig
from gpt.runtime import start_runtime

need_ranks("25-gradients/silent")
module.GRACE_SECONDS = 1.5


def work(rank):
    """Three ranks wait for each other; after the first time, rank 1 does something else."""
    runtime = start_runtime(RuntimeConfig(device="cpu", timeout_seconds=2.0))
    runtime.wait()
    if rank == 1:
        return "rank 1 has gone for a walk"
    try:
        runtime.wait()
    except RuntimeError:
        return f"rank {rank} waited in vain; silent is: {runtime.silent_ranks()}"
    return "all are here"


for answer in on_ranks(3, work):
    print(answer)
