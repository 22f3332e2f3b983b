import contextlib
import io
import tempfile
from pathlib import Path

from buildgpt.course.ranks import on_ranks
from buildgpt.course.recorded import need_ranks
from gpt.train import train

need_ranks("25-gradients/main")
QUICK = ["train.steps=20", "train.log_every=10", "data.val_tokens=1000"]


def trained(runs, name, ranks):
    """What each of so many ranks says while it trains."""

    def work(rank):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            train(Path("small.toml"), name, Path(runs), QUICK)
        return out.getvalue()

    return on_ranks(ranks, work)


with tempfile.TemporaryDirectory() as runs:
    for ranks in (1, 2):
        for rank, said in enumerate(trained(runs, f"on-{ranks}", ranks)):
            print(f"rank {rank} of {ranks} says:")
            print("".join(line for line in said.splitlines(True) if "loss" in line), end="")
