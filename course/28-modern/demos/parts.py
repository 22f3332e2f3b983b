import torch
from race import MODEL

from gpt import model, modern

torch.manual_seed(1)
x = torch.randn(2, 10, MODEL.width)
pairs = (
    (model.Attention(MODEL), modern.Attention(MODEL, modern.ModernConfig()), modern.View(None)),
    (model.MLP(MODEL), modern.MLP(MODEL, modern.ModernConfig()), None),
)
for theirs, ours, view in pairs:
    ours.load_state_dict(theirs.state_dict())
    found = ours(x) if view is None else ours(x, view, None)
    off = (found - theirs(x)).abs().max()
    print(f"{type(ours).__name__}: with the same weights at most {off:.1g} off GPT-2's")
