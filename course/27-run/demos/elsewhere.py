import contextlib
import io
import os
import shutil
import signal
import tempfile
from pathlib import Path

import torch

from buildgpt.course.ranks import RankFailed, on_ranks
from buildgpt.course.recorded import need_ranks
from gpt.checkpoint import find_checkpoints, read_tensors
from gpt.train import Trainer, train

need_ranks("27-run/elsewhere")
QUICK = ["data.val_tokens=100", "sample.every=0", "train.checkpoint_every=20"]


def alone(name, wishes, resume=False, dies=False):
    """Train in a process of its own, which may be killed within step 50."""

    def work(rank):
        accumulate = Trainer.accumulate

        def killed(self):
            if dies and self.step == 49:
                os.kill(os.getpid(), signal.SIGKILL)
            return accumulate(self)

        Trainer.accumulate = killed
        with contextlib.redirect_stdout(io.StringIO()) as out:
            train(Path("twin.toml"), name, runs, wishes, resume)
        return out.getvalue()

    return on_ranks(1, work)[0]


with tempfile.TemporaryDirectory() as place:
    runs, bucket = Path(place) / "runs", Path(place) / "bucket"
    alone("whole", [*QUICK, "train.steps=80"])
    wishes = [*QUICK, "train.steps=80", f"train.mirror={bucket}"]
    try:
        alone("moved", wishes, dies=True)
    except RankFailed:
        print("killed in step 50; what the mirror has:")
        print(*(folder.name for folder in find_checkpoints(bucket / "moved")))
    shutil.rmtree(runs / "moved")
    print("its folder is deleted")
    said = alone("moved", wishes, resume=True)
    print(next(line for line in said.splitlines() if "going on" in line))
    whole, moved = (
        read_tensors(find_checkpoints(runs / name)[-1], "model.safetensors")
        for name in ("whole", "moved")
    )
    same = all(torch.equal(whole[name], moved[name]) for name in whole)
    print(f"after step 80, the same bits as at one stretch: {same}")
