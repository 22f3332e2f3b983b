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


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), fused where there is a fused one."""
    device = next(model.parameters()).device.type
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay),
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=1e-8,
        fused=device in FUSED_DEVICES,
    )


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
        group["lr"] = rate


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
