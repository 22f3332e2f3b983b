import torch

from gpt.model import GPT
from gpt.tokenizer import ByteTokenizer

torch.manual_seed(1337)
tokenizer = ByteTokenizer()
model = GPT(tokenizer.vocab_size)
logits = model(torch.tensor([tokenizer.encode("To be")]))
print("logits", tuple(logits.shape), "from", sum(p.numel() for p in model.parameters()), "weights")
print("likeliest after T:", tokenizer.decode(logits[0, 0].topk(5).indices.tolist()))
