import torch

from gpt.config import ModelConfig
from gpt.model import GPT
from gpt.runtime import Runtime


def held(runtime):
    """The bytes that one pass keeps for its backward pass, and its loss."""
    kept = {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(1)
    model = GPT(ModelConfig(vocab_size=257)).to(runtime.device)
    (ids,) = runtime.send(torch.randint(257, (16, 65)))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        with runtime.autocast():
            loss = model(ids[:, :-1], ids[:, 1:])
    return sum(kept.values()), loss.item()


x = torch.tensor([1.0, 3.14159265, 1e-30])
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    print(f"{dtype!s:14} writes these as {x.to(dtype).tolist()}")
for dtype in (torch.float32, torch.bfloat16):
    bytes_held, loss = held(Runtime(torch.device("cpu"), dtype))
    print(f"{dtype!s:14} holds {bytes_held / 1e6:5.1f} MB for the backward pass, loss {loss:.4f}")
