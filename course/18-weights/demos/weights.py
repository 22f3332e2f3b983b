import tempfile
from pathlib import Path

import theirs
import torch

from gpt.checkpoint import load_weights
from gpt.config import ModelConfig
from gpt.hub import from_hugging_face, read_weights
from gpt.model import GPT

with tempfile.TemporaryDirectory() as place:
    folder = Path(place)
    theirs.make(folder)
    tensors = read_weights(folder)
    for layers in (2, 3):
        model = GPT(ModelConfig(layers=layers, heads=4, width=32, context=16, vocab_size=257))
        try:
            load_weights(model, from_hugging_face(tensors, model), "the folder")
            print(f"{len(tensors)} tensors are in a model of {layers} layers")
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    try:
        read_weights(folder)
    except Exception as error:
        print(f"{type(error).__name__}: {str(error).replace(place, 'folder')}")
