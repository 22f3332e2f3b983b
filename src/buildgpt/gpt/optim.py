"""Gradients to weights: parameter groups, AdamW, clipping, the learning rate's schedule."""

import math
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .config import TrainConfig, UserError

# Where torch has one kernel for the whole AdamW update.
FUSED_DEVICES = ("cpu", "cuda", "mps")
NEWTON_SCHULZ_STEPS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)
MOMENTUM = (0.85, 0.95)  # Muon's, low and high
MOMENTUM_WARMUP, MOMENTUM_COOLDOWN = 300, 50  # steps; at most a quarter of all
# Beside Muon, rates as shares of train.lr. A row of an embedding learns only when its id comes.
SHARES = {"embeddings": 6.0, "head": 0.5, "vectors": 1.0}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Matrices, embeddings among them, decay; biases and norms, vectors, do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


def build_optimizer(
    model: nn.Module, config: TrainConfig, dtype: torch.dtype = torch.float32
) -> torch.optim.Optimizer:
    """AdamW, or Muon with products in `dtype`."""
    if config.optimizer == "muon":
        return Muon(model, config, dtype)
    return adamw(model, parameter_groups(model, config.weight_decay), config)


def adamw(
    model: nn.Module, groups: list[dict], config: TrainConfig, eps: float = 1e-8
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), fused where there is a fused one."""
    fused = next(model.parameters()).device.type in FUSED_DEVICES
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=eps, fused=fused)


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, rows, columns) -> each with all its singular values near 1, computed in `dtype`.

    Five steps of a Newton-Schulz iteration. The quintic's coefficients (Jordan et al. 2024) are
    chosen for speed: values come to lie between 0.7 and 1.2, which serves as well as 1.
    """
    # Scaled in fp32: fp16 would lose what is small already.
    x = (matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(dtype)
    is_tall = x.size(1) > x.size(2)
    x = x.mT if is_tall else x
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=QUINTIC[1], alpha=QUINTIC[2])
        x = torch.baddbmm(x, polynomial, x, beta=QUINTIC[0])
    return (x.mT if is_tall else x).to(matrices.dtype)


def orthogonalise_together(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """The same, each rank its share of the N, then all of them everywhere: the same bits."""
    if not (dist.is_available() and dist.is_initialized()):
        return orthogonalise(matrices, dtype)
    ranks, rank = dist.get_world_size(), dist.get_rank()
    share = -(-len(matrices) // ranks)
    padded = matrices.new_zeros(share * ranks, *matrices.shape[1:])
    padded[: len(matrices)] = matrices
    gathered = torch.empty_like(padded)
    mine = orthogonalise(padded[rank * share : (rank + 1) * share], dtype)
    dist.all_gather_into_tensor(gathered, mine.contiguous())
    return gathered[: len(matrices)]


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for the blocks' matrices, AdamW for all the rest.

    A matrix's update is its momentum with all singular values set to 1, so that what seldom shows
    in the gradient is learnt as fast as what always does. Matrices of one shape are stacked and
    orthogonalised at once. `dtype` is that of the products.
    """

    def __init__(self, model: nn.Module, config: TrainConfig, dtype: torch.dtype) -> None:
        self.config, self.dtype = config, dtype
        matrices, rest = muon_groups(model, config), rest_groups(model, config)
        self.adamw = adamw(model, rest, config, eps=1e-10)
        super().__init__(matrices + self.adamw.param_groups, {"lr": config.lr})
        self.adamw.param_groups = self.param_groups[len(matrices) :]
        self.adamw.state = self.state  # one state, so that whoever saves it finds all

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters from their gradients."""
        for group in self.param_groups:
            if "parts" in group:
                self.update(group)
        self.adamw.step()

    def update(self, group: dict) -> None:
        """Update the matrices of one shape."""
        parameters: list[Tensor] = group["params"]
        for matrix in parameters:
            if not self.state[matrix]:
                self.state[matrix] = {"momentum": torch.zeros_like(matrix)}
                if self.config.normuon:
                    self.state[matrix]["second_moment"] = matrix.new_zeros(len(matrix), 1)
        directions = self.directions(group, parameters)
        if self.config.normuon:
            directions = self.even_out(directions, parameters)
        rows, columns = directions.shape[1] // group["parts"], directions.size(2)
        # An orthogonal matrix of more rows than columns has smaller entries.
        scale = group["lr"] * math.sqrt(max(1.0, rows / columns))
        shrink(parameters, directions, group["lr"] * group["weight_decay"], self.config)
        torch._foreach_add_(parameters, list(directions.unbind()), alpha=-scale)

    def directions(self, group: dict, parameters: list[Tensor]) -> Tensor:
        """Nesterov momentum, orthogonalised: (N, rows, columns), one for each parameter.

        A parameter of several parts, as queries, keys and values are, is so many matrices.
        """
        momentum = [self.state[matrix]["momentum"] for matrix in parameters]
        gradients = [cast(Tensor, matrix.grad) for matrix in parameters]
        torch._foreach_lerp_(momentum, gradients, 1 - group["momentum"])
        ahead = torch.stack(torch._foreach_lerp(gradients, momentum, group["momentum"]))
        parts = ahead.unflatten(1, (group["parts"], -1)).flatten(0, 1)
        return orthogonalise_together(parts, self.dtype).view_as(ahead)

    def even_out(self, directions: Tensor, parameters: list[Tensor]) -> Tensor:
        """Divide each neuron's update by its usual size, and keep the matrix's (NorMuon; Li et
        al. 2025)."""
        usual = [self.state[matrix]["second_moment"] for matrix in parameters]
        squares = directions.square().mean(dim=2, keepdim=True)
        torch._foreach_lerp_(usual, list(squares.unbind()), 1 - self.config.beta2)
        even = directions / (torch.stack(usual).sqrt() + 1e-10)
        size, new = (d.norm(dim=(1, 2), keepdim=True) for d in (directions, even))
        return even * (size / (new + 1e-10))


def shrink(parameters: list[Tensor], updates: Tensor, share: float, config: TrainConfig) -> None:
    """Weight decay; the cautious one only where the update goes towards zero too (Chen et al.
    2025)."""
    for matrix, update in zip(parameters, updates) if share else ():
        decaying = matrix * update > 0 if config.cautious_decay else torch.ones_like(matrix)
        matrix.addcmul_(matrix, decaying.to(matrix.dtype), value=-share)


def muon_groups(model: nn.Module, config: TrainConfig) -> list[dict]:
    """The blocks' matrices, a group for each shape. `share` is their rate as a share of lr's."""
    same: dict[tuple, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if is_muons(name, parameter):
            parts = 3 if ".qkv." in name else 1
            same.setdefault((*parameter.shape, parts), []).append(parameter)
    common = {"weight_decay": config.weight_decay, "momentum": MOMENTUM[1]}
    common |= {"share": config.matrix_lr / config.lr}
    return [{"params": found, "parts": key[2]} | common for key, found in same.items()]


def is_muons(name: str, parameter: Tensor) -> bool:
    """Whether Muon, not AdamW, takes a parameter: a matrix that transforms, in a block."""
    return name.startswith("blocks.") and parameter.dim() == 2


def rest_groups(model: nn.Module, config: TrainConfig) -> list[dict]:
    """What AdamW takes beside Muon, each kind at its own rate; nothing of it decays."""
    kinds: dict[str, list[Tensor]] = {kind: [] for kind in SHARES}
    for name, parameter in model.named_parameters():
        if not is_muons(name, parameter):
            kind = "head" if name.startswith("head.") else "embeddings"
            kinds["vectors" if parameter.dim() < 2 else kind].append(parameter)
    common = {"weight_decay": 0.0}
    return [{"params": kinds[k], "share": SHARES[k]} | common for k in kinds if kinds[k]]


def momentum(step: int, steps: float) -> float:
    """Muon's, of the update that follows `step` updates: it rises while gradients still turn
    quickly, and falls before the end, when the last ones should count."""
    low, high = MOMENTUM
    rising = step / min(MOMENTUM_WARMUP, max(steps / 4, 1))
    falling = (steps - step) / min(MOMENTUM_COOLDOWN, max(steps / 4, 1))
    return low + (high - low) * min(rising, falling, 1.0)


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


def set_rates(optimizer: torch.optim.Optimizer, rate: float, heavy: float) -> None:
    """Give every group its share of the rate, and Muon's groups their momentum."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("share", 1.0)
        if "parts" in group:
            group["momentum"] = heavy


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state under the parameters' names: "norm.bias/exp_avg" -> tensor."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def expected_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> set[str]:
    """The keys of `optimizer_tensors` after a step."""
    keys = set()
    is_normuon = isinstance(optimizer, Muon) and optimizer.config.normuon
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        kinds = ["step", "exp_avg", "exp_avg_sq"]
        if "parts" in group:
            kinds = ["momentum", "second_moment"] if is_normuon else ["momentum"]
        keys |= {f"{names[parameter]}/{kind}" for parameter in group["params"] for kind in kinds}
    return keys


def load_optimizer_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave; UserError if it belongs to another model."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    if tensors and tensors.keys() != expected_state(model, optimizer):
        raise UserError("the checkpoint's optimizer state belongs to another model")
    for key, value in tensors.items():
        name, _, kind = key.rpartition("/")
        wanted = (shapes[name][0], 1) if kind == "second_moment" else shapes[name]
        if value.dim() and value.shape != wanted:  # steps have no dim
            raise UserError("the checkpoint's optimizer state belongs to another model")
    for name, parameter in model.named_parameters():
        state = {k.rpartition("/")[2]: v for k, v in tensors.items() if k.startswith(f"{name}/")}
        optimizer.state[parameter] = {
            # The step counter of the fused kernel lives where its parameter does.
            key: value.to(parameter.device)
            for key, value in state.items()
        }
