import torch
from race import CUT, MODEL, train, windows

from gpt import optim
from gpt.config import TrainConfig
from gpt.model import GPT

torch.manual_seed(1)
model = GPT(MODEL)
optimizer = optim.build_optimizer(model, TrainConfig(optimizer="muon"))
model(*windows(0, CUT, 16, torch.Generator().manual_seed(1))).backward()
rows = model.blocks[0].mlp.up.weight.grad.norm(dim=1)
print(f"neurons of a layer that one batch has a gradient for: {int((rows > 0).sum())}, all")
ids = windows(0, CUT, 16, torch.Generator().manual_seed(1))[0].unique()
print(f"rows of the embedding that its ids look up: {len(ids)} of {MODEL.vocab_size}")
for group in optimizer.param_groups:
    if "parts" not in group:
        print(f"AdamW: {len(group['params'])} parameters, {group.get('share', 1.0)} times train.lr")
print(f"loss after 100 steps {train(model, 100, optimizer='muon'):.3f}")
