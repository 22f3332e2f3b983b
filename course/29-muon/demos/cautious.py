import torch
from race import CUT, MODEL, windows

from gpt import optim
from gpt.config import TrainConfig
from gpt.model import GPT

moves = {}
for decay, cautious in ((0.0, True), (0.5, False), (0.5, True)):
    torch.manual_seed(1)
    model = GPT(MODEL)
    wishes = {"optimizer": "muon", "weight_decay": decay, "cautious_decay": cautious}
    optimizer = optim.build_optimizer(model, TrainConfig(**wishes))
    optim.set_rates(optimizer, 6e-4, 0.95)
    model(*windows(0, CUT, 16, torch.Generator().manual_seed(1))).backward()
    weight = model.blocks[0].mlp.up.weight
    before = weight.detach().clone()
    optimizer.step()
    moves[decay, cautious] = weight.detach() - before
update = moves[0.0, True]
for cautious in (False, True):
    decays = (moves[0.5, cautious] - update).abs() > 1e-9
    back = (decays & (update * before > 0)).sum() / decays.sum()
    print(f"cautious_decay = {cautious}: {decays.float().mean():.0%} of the weights decay;")
    print(f"    of those, {back:.0%} are pulled back from where their update takes them")
