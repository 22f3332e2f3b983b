"""What is counted and looked up, in one place for plan, report and benchmarks.

FLOPs a token, and what gpus.toml knows of a GPU: its peak and its price. Unknown is None, never a
guess.
"""

import tomllib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from buildgpt.core import load_core

GPUS = Path(__file__).parent / "gpus.toml"
ASSUMED = ("utilisation", "link_utilisation", "memory_share")  # of every GPU
# torch's names for what a recipe calls bf16, fp16 and fp32.
SHORT_NAMES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def product_parameters(model: Any, switches: Any = None) -> int:
    """Parameters that a token is multiplied with: all that are not only looked up.

    `model` is a ModelConfig with its vocab_size. Each block has 12 C^2 weights and, unless it has
    an RMSNorm, 13 C biases and norms; the last norm 2 C, and the head V C, tied or not. A modern
    model's few scalars do not count, nor its embeddings of values and of pairs.
    """
    width = model.width
    plain = model.architecture == "modern" and switches and switches.rms_norm
    block = 12 * width**2 + (0 if plain else 13 * width)
    return model.layers * block + (0 if plain else 2 * width) + model.vocab_size * width


def flops_per_token(model: Any, switches: Any = None, train: Any = None) -> float:
    """FLOPs of training on one token: 6 N + 12 C times the tokens that its layers see.

    Each of N parameters costs a multiplication and an addition forward, and twice that backward
    (Kaplan et al. 2020, section 2.1). Attention's two products, with keys and values, cost 4 C a
    token seen forward, counted over the full square as is usual, T in every layer (Chowdhery et
    al. 2022, appendix B), but with windows over those: a mean over the run's tokens.
    """
    seen = float(model.layers * model.context)
    if model.architecture == "modern" and switches and switches.windows and train:
        seen = seen_through_windows(model, train)
    return 6 * product_parameters(model, switches) + 12 * model.width * seen


@lru_cache
def seen_through_windows(model: Any, train: Any) -> float:
    """The window of each layer, added up, in the mean over a run's tokens."""
    core = load_core()
    far = sum(core.modern.is_far(index, model.layers) for index in range(model.layers))
    total = 0
    for step in range(train.steps):
        window = core.modern.window_at(step / train.steps, model.context)
        seen = far * window + (model.layers - far) * max(1, window // 2)
        total += seen * core.config.tokens_of(step, train)
    return total / core.config.tokens_before(train.steps, train)


def load_gpus(prices: Path | None = None) -> dict[str, Any]:
    """gpus.toml as a dict, with what the file `prices` says instead. Raises UsageError."""
    gpus = tomllib.loads(GPUS.read_text(encoding="utf-8"))
    if prices:
        gpus = merged(gpus, read_prices(prices))
        check_numbers(gpus["assumed"], ASSUMED, f"{prices}: assumed")
        for name in gpus.keys() - {"assumed"}:
            check_gpu(gpus[name], f"{prices}: {name}")
    return gpus


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


def check_gpu(gpu: dict[str, Any], where: str) -> None:
    """UsageError for the first number that a GPU's entry lacks or has wrong."""
    check_numbers(gpu, ("memory_gb", "bandwidth_gb_s", "link_gb_s"), where)
    check_numbers(gpu.get("peak_tflops", {}), ("fp16", "fp32"), where)
    price = gpu.get("price", {})
    check_numbers(price, [key for key in ("on_demand", "spot") if key in price], where)
    for row in gpu.get("measured", []):
        check_numbers(row, ("tokens_per_second",), where)


def check_numbers(table: dict[str, Any], keys: Iterable[str], where: str) -> None:
    """UsageError unless each key stands for a number above 0."""
    for key in keys:
        value = table.get(key, 0)
        good = type(value) in (int, float) and value > 0
        load_core().config.require(good, f"{where}: {key} must be a number above 0")


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
