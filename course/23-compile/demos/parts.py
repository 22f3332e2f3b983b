import torch

from gpt import model as model_py
from gpt.config import ModelConfig


def run(at_once):
    """The megabytes kept for the backward pass, the loss and the gradient."""
    model_py.LOGITS_AT_ONCE = at_once
    torch.manual_seed(1)
    model = model_py.GPT(ModelConfig(layers=1, vocab_size=20000))
    ids, kept = torch.randint(20000, (8, 65)), {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(ids[:, :-1], ids[:, 1:])
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    return sum(kept.values()) / 1e6, loss.item(), gradient


whole, parts = run(2**27), run(2**20)
for words, (mb, loss, _) in (("at once", whole), ("in parts", parts)):
    print(f"512 x 20,000 logits {words}: {mb:4.0f} MB held, loss {loss:.5f}")
off = ((whole[2] - parts[2]).norm() / whole[2].norm()).item()
print(f"the gradients differ by {off:.0e} of their size")
