import tempfile
from pathlib import Path

import torch

from gpt import checkpoint

with tempfile.TemporaryDirectory() as place:
    run, weights = Path(place), {"weight": torch.ones(1000)}
    for step in (10, 20):
        checkpoint.save_checkpoint(run, step, weights, weights, {})
    last = run / "checkpoints" / "step_000020"
    for path in sorted(last.iterdir()):
        print(f"{path.name:24}{path.stat().st_size:6,} bytes")
    with (last / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    print("the weights of step 20 are cut off at 1,000 bytes")
    print("checkpoints:", *(folder.name for folder in checkpoint.find_checkpoints(run)))
