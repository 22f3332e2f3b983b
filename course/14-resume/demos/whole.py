import tempfile
from pathlib import Path

import torch

from gpt import checkpoint

with tempfile.TemporaryDirectory() as place:
    run, weights = Path(place), {"weight": torch.ones(1000)}
    checkpoint.save_checkpoint(run, 10, weights, {}, {})
    try:
        checkpoint.save_checkpoint(run, 20, weights, {}, {"loss": torch})  # nobody can write that
    except TypeError as error:
        print(f"saving step 20 broke off: {error}")
    for folder in sorted((run / "checkpoints").iterdir()):
        print(f"{folder.name}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
