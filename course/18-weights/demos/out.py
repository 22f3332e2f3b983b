import tempfile
from pathlib import Path

import theirs
import torch

from gpt.config import ModelConfig
from gpt.hub import export_folder, import_folder
from gpt.model import GPT
from gpt.tokenizer import ByteTokenizer, GPT2Tokenizer

ids = list(b"To be, or not to")
with tempfile.TemporaryDirectory() as place:
    model = GPT(ModelConfig(layers=2, heads=4, width=32, context=16, vocab_size=257)).eval()
    export_folder(model, ByteTokenizer(), Path(place) / "mine")
    named = theirs.logits(Path(place) / "mine", ids)
    again = import_folder(Path(place) / "mine")[0]
    with torch.no_grad():
        print(f"theirs: {(model(torch.tensor([ids]))[0] - named).abs().max():.0e} apart, ", end="")
        print("and back:", torch.equal(model(torch.tensor([ids])), again(torch.tensor([ids]))))
    big = GPT(ModelConfig(layers=1, heads=1, width=2, context=16, vocab_size=50257))
    export_folder(big, GPT2Tokenizer(), Path(place) / "large")
    for path in sorted((Path(place) / "large").iterdir()):
        print(f"{path.name}: {path.stat().st_size:,} bytes")
