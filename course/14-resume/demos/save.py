import tempfile
from pathlib import Path

import torch

from gpt.checkpoint import read_state, read_tensors, save_checkpoint
from gpt.config import ModelConfig
from gpt.model import GPT

model = GPT(ModelConfig(vocab_size=257))
with tempfile.TemporaryDirectory() as runs:
    folder = save_checkpoint(Path(runs), 500, model.state_dict(), {}, {})
    for path in sorted(folder.iterdir()):
        print(f"{folder.name}/{path.name}: {path.stat().st_size:,} bytes")
    print(read_state(folder))
    weights = read_tensors(folder, "model.safetensors")
same = all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
print(f"{len(weights)} tensors come back, the same to the last bit: {same}")
