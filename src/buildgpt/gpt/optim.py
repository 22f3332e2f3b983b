"""Gradients to weights: parameter groups, AdamW, clipping, the learning rate's schedule."""

import math

import torch
from torch import Tensor, nn

from .config import TrainConfig, UserError

# Where torch has one kernel for the whole AdamW update.
FUSED_DEVICES = ("cpu", "cuda", "mps")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Matrices, embeddings among them, decay; biases and norms, vectors, do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, config: TrainConfig, dtype=torch.float32) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019), fused where there is a fused one."""
    if config.optimizer == "muon":
        return Muon(model, config, dtype)
    device = next(model.parameters()).device.type
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=1e-8,
        fused=device in FUSED_DEVICES,
    )


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for the matrices of the blocks, AdamW for all else.

    A matrix's update is its momentum with all singular values set to 1: every direction is
    learnt at the same pace, however seldom it shows in the gradient.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, dtype: torch.dtype) -> None:
        blocks, rest = divide(model)
        self.dtype, self.config = dtype, config
        groups = [{**same, "is_muon": True, "share": config.matrix_lr / config.lr, "weight_decay": config.weight_decay} for same in blocks]
        super().__init__(groups + rest, {"lr": config.lr, "momentum": 0.95, "share": 1.0})
        self.adamw = torch.optim.AdamW(rest, lr=config.lr, betas=(config.beta1, config.beta2), eps=1e-10, fused=True)
        self.adamw.param_groups = [g for g in self.param_groups if not g.get("is_muon")]
        for g in self.adamw.param_groups:
            for key, value in self.adamw.defaults.items():
                g.setdefault(key, value)
        self.adamw.state = self.state

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            if group.get("is_muon"):
                self.update(group)
        self.adamw.step()

    def update(self, group: dict) -> None:
        parameters = group["params"]
        for p in parameters:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
                self.state[p]["second_moment"] = p.new_zeros(p.shape[0], 1)
        momentum = [self.state[p]["momentum"] for p in parameters]
        second = [self.state[p]["second_moment"] for p in parameters]
        gradients = [p.grad for p in parameters]
        torch._foreach_lerp_(momentum, gradients, 1 - group["momentum"])
        wanted = torch._foreach_lerp(gradients, momentum, group["momentum"])
        parts = group["parts"]
        stack = torch.cat([w.view(parts, -1, w.size(1)) for w in wanted])
        rows, columns = stack.shape[1:]
        updates = orthogonalise(stack, self.dtype).view(len(parameters), -1, columns)
        if self.config.normuon:
            sq = updates.square().mean(dim=2, keepdim=True)
            torch._foreach_lerp_(second, list(sq), 1 - self.config.beta2)
            scaled = updates / (torch.stack(second).sqrt() + 1e-8)
            updates = scaled * (updates.norm(dim=(1, 2), keepdim=True) / (scaled.norm(dim=(1, 2), keepdim=True) + 1e-8))
        rate = group["lr"]
        scale = rate * max(1.0, rows / columns) ** 0.5
        for p, u in zip(parameters, updates):
            if group["weight_decay"]:
                if self.config.cautious_decay:
                    p.addcmul_(p, (p * u > 0).to(p.dtype), value=-rate * group["weight_decay"])
                else:
                    p.mul_(1 - rate * group["weight_decay"])
            p.add_(u, alpha=-scale)


def divide(model):
    """matrices of the blocks, by shape; and the rest's groups."""
    import os
    shapes = {}
    rest = {"embed": [], "head": [], "scalars": []}
    for name, p in model.named_parameters():
        if name.startswith("blocks.") and p.dim() == 2:
            shapes.setdefault((tuple(p.shape), 3 if ".qkv." in name else 1), []).append(p)
        elif p.dim() < 2:
            rest["scalars"].append(p)
        elif name.startswith("head"):
            rest["head"].append(p)
        else:
            rest["embed"].append(p)
    blocks = [dict(params=ps, parts=parts) for (_, parts), ps in shapes.items()]
    E = lambda k, d: float(os.environ.get(k, d))
    others = [{"params": rest["embed"], "share": E("ESHARE", 1), "weight_decay": E("EWD", 0)}, {"params": rest["head"], "share": E("HSHARE", 1), "weight_decay": E("HWD", 0)}, {"params": rest["scalars"], "share": E("SSHARE", 1), "weight_decay": 0.0}]
    return blocks, [o for o in others if o["params"]]


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, rows, columns) -> each with its singular values set to about 1.

    Five steps of a quintic Newton-Schulz iteration, with the coefficients of Jordan et al. 2024.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.to(dtype)
    turned = x.size(1) > x.size(2)
    x = x.mT if turned else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if turned else x).to(matrices.dtype)


def clip_gradients(model: nn.Module, largest: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most `largest`; returns the norm before.

    largest = 0 leaves finite ones as they are (Pascanu et al. 2013, algorithm 1).
    """
    return nn.utils.clip_grad_norm_(model.parameters(), largest or math.inf)


def learning_rate(step: int, steps: float, config: TrainConfig) -> float:
    """The rate of the update that follows `step` updates, of `steps` in all.

    The first update's is not 0, and the last one's not quite the end of the decay.
    """
    warmup = min((step + 1) / (config.warmup_steps + 1), 1.0)
    done = (step - config.warmup_steps) / max(steps - config.warmup_steps, 1)
    return config.lr * warmup * decay(min(max(done, 0.0), 1.0), config)


def decay(done: float, config: TrainConfig) -> float:
    """The share of the highest rate when `done`, 0 to 1, of the steps after warm-up are done.

    cosine: half a cosine from 1 to final_lr (Loshchilov and Hutter 2017).
    wsd: warm-up, stable, decay: 1, then a line to final_lr (Zhai et al. 2022; Haegele et al. 2024).
    """
    if config.schedule == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * done))
    else:
        left = min((1 - done) / config.decay_share, 1.0)
    return config.final_lr + (1 - config.final_lr) * left


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state under the parameters' names: "norm.bias/exp_avg" -> tensor."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def load_optimizer_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave; UserError if it belongs to another model."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    kinds = {key.rpartition("/")[2] for key in tensors}
    same_names = tensors.keys() == {f"{name}/{kind}" for name in shapes for kind in kinds}
    if not same_names or any(
        value.dim() and value.shape != shapes[key.rpartition("/")[0]]  # steps have no dim
        for key, value in tensors.items()
    ):
        raise UserError("the checkpoint's optimizer state belongs to another model")
    for name, parameter in model.named_parameters():
        state = {k.rpartition("/")[2]: v for k, v in tensors.items() if k.startswith(f"{name}/")}
        optimizer.state[parameter] = {
            # The step counter of the fused kernel lives where its parameter does.
            key: value.to(parameter.device)
            for key, value in state.items()
        }
