import tempfile
from pathlib import Path

import torch

from gpt import checkpoint
from gpt.config import UserError

with tempfile.TemporaryDirectory() as place:
    run, weights = Path(place), {"weight": torch.ones(1000)}
    for step in (10, 20, 30, 40):
        checkpoint.save_checkpoint(run, step, weights, weights, {}, 2)
    print("checkpoints:", *(folder.name for folder in checkpoint.find_checkpoints(run)))
    last = run / "checkpoints" / "step_000040"
    data = bytearray((last / "model.safetensors").read_bytes())
    data[-5] ^= 1  # one bit
    (last / "model.safetensors").write_bytes(data)
    try:
        checkpoint.read_tensors(last, "model.safetensors")
        print("one bit of the weights is another one, and nobody says anything")
    except UserError as error:
        print(str(error).replace(place, "RUN"))
