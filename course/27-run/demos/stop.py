import contextlib
import io
import os
import signal
import tempfile
from pathlib import Path

import torch

from gpt.checkpoint import find_checkpoints, read_tensors
from gpt.train import Trainer, train

QUICK = ["data.val_tokens=100", "sample.every=0", "train.steps=60"]
report = Trainer.report


def pressed(self):
    """Somebody presses Ctrl-C after step 20."""
    report(self)
    if self.step == 20 and self.folder.name == "stopped":
        os.kill(os.getpid(), signal.SIGINT)


Trainer.report = pressed
with tempfile.TemporaryDirectory() as place:
    runs = Path(place)
    with contextlib.redirect_stdout(io.StringIO()):
        train(Path("twin.toml"), "whole", runs, QUICK)
    try:
        train(Path("twin.toml"), "stopped", runs, QUICK)
    except KeyboardInterrupt:
        print("the process ended, with nothing saved since step 0")
    print(f"state: {(runs / 'stopped' / 'state').read_text().strip()}")
    print("checkpoints:", *(folder.name for folder in find_checkpoints(runs / "stopped")))
    Trainer.report = report
    with contextlib.redirect_stdout(io.StringIO()):
        train(Path("twin.toml"), "stopped", runs, [], True)
    whole, again = (
        read_tensors(find_checkpoints(runs / name)[-1], "model.safetensors")
        for name in ("whole", "stopped")
    )
    same = all(torch.equal(whole[name], again[name]) for name in whole)
    print(f"stopped, and resumed to step 60: the same bits as at one stretch: {same}")
