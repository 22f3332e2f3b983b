import tempfile
from pathlib import Path

import torch

from gpt.checkpoint import find_checkpoints, save_checkpoint
from gpt.mirror import copy_checkpoint, newest_whole

with tempfile.TemporaryDirectory() as place:
    run, bucket = Path(place) / "run", Path(place) / "bucket"
    for step in (10, 20):
        folder = save_checkpoint(run, step, {"weight": torch.ones(1000)}, {}, {})
        copy_checkpoint(folder, bucket / "checkpoints" / folder.name)
    (bucket / "checkpoints" / "step_000020" / "complete.json").unlink()  # cut off before its end
    print("copies:", *(folder.name for folder in find_checkpoints(bucket)))
    copy_checkpoint(folder, bucket / "checkpoints" / folder.name)
    print("and now:", *(folder.name for folder in find_checkpoints(bucket)))
    weights = bucket / "checkpoints" / "step_000020" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    print("of step 20 a byte is another; whole is:")
    print(newest_whole(find_checkpoints(bucket)).name)
