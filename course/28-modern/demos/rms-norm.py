import torch
from race import MODEL

from gpt.config import ModernConfig
from gpt.modern import Modern, norm_layer

torch.manual_seed(1)
x = (torch.randn(64) * 3 + 5).requires_grad_()
for on in (False, True):
    norm = norm_layer(64, ModernConfig(rms_norm=on))
    y = norm(x)
    (gradient,) = torch.autograd.grad(y @ torch.randn(64), x)
    along = (gradient @ x / (gradient.norm() * x.norm())).abs().item()
    sideways = (gradient.sum() / (gradient.norm() * 8)).abs().item()
    print(f"{type(norm).__name__}: {sum(p.numel() for p in norm.parameters())} parameters")
    print(f"    mean {y.mean().abs():.2f}, root of the mean square {y.square().mean().sqrt():.2f},")
    print(f"    the same if x is 7 times as long: {torch.allclose(norm(7 * x), y, atol=1e-4)}")
    print(f"    the gradient's share along x {along:.2f}, along the mean {sideways:.2f}")
for on in (False, True):
    model = Modern(MODEL, ModernConfig(rms_norm=on))
    vectors = sum(p.numel() for p in model.parameters() if p.dim() < 2)
    print(f"rms_norm = {on}: the model has {vectors:,} gains and biases")
