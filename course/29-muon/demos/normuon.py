import torch
from race import CUT, MODEL, windows

from gpt import optim
from gpt.config import TrainConfig
from gpt.model import GPT

for normuon in (False, True):
    torch.manual_seed(1)
    model = GPT(MODEL)
    wishes = {"optimizer": "muon", "normuon": normuon, "weight_decay": 0.0}
    optimizer = optim.build_optimizer(model, TrainConfig(**wishes))
    generator = torch.Generator().manual_seed(1)
    for _ in range(30):
        model(*windows(0, CUT, 16, generator)).backward()
        before = model.blocks[1].mlp.up.weight.detach().clone()
        optimizer.step()
        optimizer.zero_grad()
    moved = model.blocks[1].mlp.up.weight.detach() - before
    rows = moved.norm(dim=1).sort().values
    print(f"normuon = {normuon}: step 30 moves {len(rows)} neurons")
    print(f"    by {rows[0]:.4f} at least, {rows[128]:.4f} in the middle, {rows[-1]:.4f} at most")
    print(f"    and the matrix by {moved.norm():.4f}")
