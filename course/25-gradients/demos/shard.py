import tempfile
from pathlib import Path

from buildgpt.course.ranks import on_ranks
from buildgpt.course.recorded import need_ranks
from gpt.config import RuntimeConfig, load_recipe
from gpt.runtime import start_runtime
from gpt.train import Trainer

need_ranks("25-gradients/shard")


def work(rank):
    """How many weights a rank holds, and the losses of three steps."""
    runtime = start_runtime(RuntimeConfig(device="cpu", dtype="fp32", parallel="fsdp"))
    with tempfile.TemporaryDirectory() as runs:
        trainer = Trainer(Path(runs), load_recipe(Path("small.toml")), runtime)
        parameters = [*trainer.model.parameters()]
        held = sum(
            p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in parameters
        )
        losses = []
        for _ in range(3):
            trainer.update()
            losses.append(f"{trainer.loss:.4f}")
    return f"holds {held:,} numbers of the model; losses {' '.join(losses)}"


for ranks in (1, 2):
    for rank, answer in enumerate(on_ranks(ranks, work)):
        print(f"rank {rank} of {ranks} {answer}")
