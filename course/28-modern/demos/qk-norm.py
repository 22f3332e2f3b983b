import torch
from race import CUT, MODEL, windows

from gpt import modern

ids = windows(0, CUT, 4, torch.Generator().manual_seed(1))[0]
seen, attend = [], modern.attend


def watched(q, k, v, scale, *mask):
    """Attention that notes its largest score."""
    seen.append(float((q @ k.transpose(2, 3) * scale).abs().max()))
    return attend(q, k, v, scale, *mask)


modern.attend = watched
for on in (False, True):
    torch.manual_seed(1)
    model = modern.Modern(MODEL, modern.ModernConfig(qk_norm=on))
    for times in (1, 10, 100):
        with torch.no_grad():
            weight = model.blocks[0].attention.qkv.weight
            weight[: 2 * MODEL.width] *= 10 if times > 1 else 1
            seen.clear()
            model(ids)
        print(f"qk_norm = {on}, {times:3} times the weights: the largest score is {seen[0]:.4g}")
