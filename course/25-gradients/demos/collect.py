import contextlib
import io
import tempfile
from pathlib import Path

import torch

from buildgpt.course.ranks import on_ranks
from buildgpt.course.recorded import need_ranks
from gpt.checkpoint import find_checkpoints, read_tensors
from gpt.train import train

need_ranks("25-gradients/collect")
QUICK = ["data.val_tokens=1000", "train.schedule=wsd", "train.log_every=1000"]


def trained(runs, name, ranks, *wishes, resume=False):
    """Train on so many ranks; the newest checkpoint's weights."""

    def work(rank):
        with contextlib.redirect_stdout(io.StringIO()):
            train(Path("small.toml"), name, runs, [*QUICK, *wishes], resume)

    on_ranks(ranks, work)
    return read_tensors(find_checkpoints(runs / name)[-1], "model.safetensors")


with tempfile.TemporaryDirectory() as place:
    runs = Path(place)
    one = trained(runs, "whole", 4, "train.steps=8", "train.checkpoint_every=4")
    first = find_checkpoints(runs / "whole")[0]
    (runs / "again" / "checkpoints").mkdir(parents=True)
    for name in ("recipe.toml", "tokenizer.json"):
        (runs / "again" / name).write_bytes((runs / "whole" / name).read_bytes())
    first.rename(runs / "again" / "checkpoints" / first.name)
    two = trained(runs, "again", 4, resume=True)
    same = all(torch.equal(one[name], two[name]) for name in one)
    print(f"4 + 4 steps on 4 ranks are 8, bit by bit: {same}")
    trained(runs, "parts", 2, "train.steps=4", "runtime.parallel=fsdp")
    shapes = {name: tuple(tensor.shape) for name, tensor in one.items()}
    parts = read_tensors(find_checkpoints(runs / "parts")[-1], "model.safetensors")
    print("saved by 2 ranks that held halves, whole all the same:", end=" ")
    print(shapes == {name: tuple(tensor.shape) for name, tensor in parts.items()})
