import contextlib
import io
import os
import tempfile
from pathlib import Path

from buildgpt.course.ranks import RankFailed, on_ranks
from buildgpt.course.recorded import need_ranks
from gpt import runtime
from gpt.train import Trainer, train

need_ranks("25-gradients/reason")
runtime.GRACE_SECONDS = 1.5
QUICK = ["train.steps=20", "data.val_tokens=1000", "runtime.timeout_seconds=3"]


def work(rank):
    """Train as one of two ranks, of which the second is killed after step 5."""
    accumulate = Trainer.accumulate

    def dies(self):
        if self.step == 5 and rank == 1:
            os._exit(1)
        return accumulate(self)

    Trainer.accumulate = dies
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            train(Path("small.toml"), "mine", runs, QUICK)
    except Exception as error:
        words = " ".join(str(error).replace(str(runs), "runs").split())
        (runs / f"words of rank {rank}").write_text(words[:100])


with tempfile.TemporaryDirectory() as place:
    runs = Path(place)
    with contextlib.suppress(RankFailed):
        on_ranks(2, work)
    for path in runs.glob("words*"):
        print(f"{path.name}: {path.read_text()}")
