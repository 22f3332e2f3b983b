import dataclasses
import tempfile
from pathlib import Path

import torch
from race import MODEL

from gpt import hub
from gpt.modern import Modern, ModernConfig, build_like, switches_of
from gpt.tokenizer import ByteTokenizer

torch.manual_seed(1)
config = dataclasses.replace(MODEL, architecture="modern")
model = Modern(config, ModernConfig(windows=False)).eval()
print(f"another one like it has windows = {switches_of(build_like(model)).windows}")
with tempfile.TemporaryDirectory() as place:
    folder = Path(place) / "mine"
    hub.export_folder(model, ByteTokenizer(), folder)
    for path in sorted(folder.iterdir()):
        print(f"{path.name}: {path.stat().st_size:,} bytes")
    back, _ = hub.import_folder(folder)
ids = torch.tensor([[*b"To be, or not to be"]])
print(f"out and in again, the same logits: {torch.equal(back(ids), model(ids))}")
