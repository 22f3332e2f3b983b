import tempfile
import time
from pathlib import Path

import torch

from gpt import mirror
from gpt.checkpoint import find_checkpoints, save_checkpoint

with tempfile.TemporaryDirectory() as place:
    run, bucket = Path(place) / "run", Path(place) / "bucket"
    slow, copy = [], mirror.copy_checkpoint

    def slowly(*words):
        time.sleep(0.2)  # as a bucket far away
        copy(*words)

    mirror.copy_checkpoint = slowly
    copies = mirror.Mirror(run, bucket, 2)
    for step in (10, 20, 30):
        folder = save_checkpoint(run, step, {"weight": torch.ones(1000)}, {}, {})
        began = time.monotonic()
        copies.start(folder)
        slow.append(time.monotonic() - began)
    print(f"the training waited for none of 3 copies: {max(slow) < 0.1}")
    copies.wait()
    print("copies in the end:", *(folder.name for folder in find_checkpoints(bucket)))
