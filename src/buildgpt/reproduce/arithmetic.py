"""What is counted and looked up, in one place for plan, report and benchmarks.

FLOPs a token, and what gpus.toml knows of a GPU: its peak and its price. Unknown is None, never a
guess.
"""

import tomllib
from pathlib import Path
from typing import Any

from buildgpt.core import load_core

GPUS = Path(__file__).parent / "gpus.toml"
# torch's names for what a recipe calls bf16, fp16 and fp32.
SHORT_NAMES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def product_parameters(model: Any) -> int:
    """Parameters that a token is multiplied with: all but the position embedding.

    `model` is a ModelConfig with its vocab_size. Each block has 12 C^2 weights and 13 C biases and
    norms, the last norm 2 C, and the embedding V C, which is the head as well.
    """
    width = model.width
    block = 12 * width**2 + 13 * width
    return model.layers * block + 2 * width + model.vocab_size * width


def flops_per_token(model: Any) -> float:
    """FLOPs of training on one token: 6 N + 12 L T C.

    Each of N parameters costs a multiplication and an addition forward, and twice that backward
    (Kaplan et al. 2020, section 2.1). Attention's two products, with keys and values, cost 4 T C
    a layer forward, counted over the full square as is usual (Chowdhery et al. 2022, appendix B).
    """
    attention = 12 * model.layers * model.context * model.width
    return float(6 * product_parameters(model) + attention)


def load_gpus(prices: Path | None = None) -> dict[str, Any]:
    """gpus.toml as a dict, with what the file `prices` says instead. Raises UsageError."""
    gpus = tomllib.loads(GPUS.read_text(encoding="utf-8"))
    return merged(gpus, read_prices(prices)) if prices else gpus


def read_prices(path: Path) -> dict[str, Any]:
    """A user's own TOML file, of the same form as gpus.toml."""
    errors = load_core().config
    try:
        own = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise errors.UsageError(f"cannot read the prices {path}: {error.strerror}") from None
    except ValueError as error:
        raise errors.UsageError(f"{path} is not TOML: {error}") from None
    for name, table in own.items():
        errors.require(isinstance(table, dict), f"{path}: {name} is no section; write [{name}]")
    return own


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `change` in place of its own, tables merged key by key."""
    result = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if both else value
    return result


def find_gpu(device_name: str, prices: Path | None = None) -> dict[str, Any] | None:
    """The entry of a GPU, by its name in gpus.toml ("h100") or as torch says it; None if unknown.

    >>> find_gpu("NVIDIA H100 80GB HBM3")["memory_gb"]
    80
    """
    gpus = load_gpus(prices)
    gpus.pop("assumed", None)
    for name, gpu in gpus.items():
        if device_name == name or device_name in gpu.get("device_names", ()):
            return gpu
    return None


def peak_flops(device_name: str, dtype: str) -> float | None:
    """Dense FLOP/s of matrix products in "bf16" or "bfloat16", and so on; None if unknown."""
    gpu = find_gpu(device_name)
    tera = (gpu or {}).get("peak_tflops", {}).get(SHORT_NAMES.get(dtype, dtype))
    return tera * 1e12 if tera else None


def price(device_name: str, prices: Path | None = None) -> tuple[float, str, str] | None:
    """Dollars a GPU-hour on demand, the date and the source; None if unknown."""
    found = (find_gpu(device_name, prices) or {}).get("price")
    if not found or "on_demand" not in found:
        return None
    return float(found["on_demand"]), found.get("date", ""), found.get("source", "")
