import torch
from race import CUT, MODEL, train, windows
from torch.nn import functional as F

from gpt.config import ModernConfig
from gpt.modern import Modern

print("     x   GELU  ReLU squared")
for x in (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0):
    gelu = F.gelu(torch.tensor(x), approximate="tanh").item()
    print(f"  {x:4.1f}  {gelu:5.2f}  {max(x, 0.0) ** 2:5.2f}")
torch.manual_seed(1)
model = Modern(MODEL, ModernConfig(relu2=True))
train(model, 60)
seen = []
model.blocks[1].mlp.out.register_forward_hook(lambda part, given, out: seen.append(given[0]))
model(windows(0, CUT, 4, torch.Generator().manual_seed(1))[0])
print(f"after 60 steps {(seen[0] == 0).float().mean():.0%} of what the MLP hands on is exactly 0")
