import time

import torch

from gpt.config import RuntimeConfig
from gpt.runtime import start_runtime

for wish in ("auto", "bf16", "fp16"):
    runtime = start_runtime(RuntimeConfig(dtype=wish))
    print(f"{wish}: {runtime.dtype} on {runtime.device}", *runtime.notes, sep="\n    ")


def rate(dtype):
    """Billions of multiplications and additions a second, in a product of that dtype."""
    device, products = start_runtime(RuntimeConfig()).device, 20
    x = torch.ones(512, 512, dtype=dtype, device=device)
    x @ x
    began = time.perf_counter()
    for _ in range(products):
        y = x @ x
    y[0, 0].item()  # a GPU is waited for
    return 2 * 512**3 * products / (time.perf_counter() - began) / 1e9


for dtype in (torch.float32, torch.bfloat16):
    print(f"{dtype}: {rate(dtype):,.0f} GFLOP/s here")
