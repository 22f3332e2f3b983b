import time

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from gpt.model import attend_by_hand, attend_in_halves


def kernel(q, k, v):
    """The fused one."""
    return scaled_dot_product_attention(q, k, v, is_causal=True)


def milliseconds(attention, inputs):
    """Of forward and backward, at its fastest."""
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        attention(*inputs).sum().backward()
        seconds.append(time.perf_counter() - began)
    return 1000 * min(seconds)


q, k, v = torch.randn(3, 8, 4, 256, 32)
off = (attend_in_halves(q, k, v) - attend_by_hand(q, k, v)).abs().max()
print(f"in halves: off by {off:.1g} at most")
for attention in (attend_by_hand, attend_in_halves):
    with FlopCounterMode(display=False) as counter:
        attention(q, k, v)
    print(f"{attention.__name__}: {counter.get_total_flops() / 1e6:.0f} million operations")
print("\n   T  written out  in halves  kernel")
for time_ in (32, 64, 128, 256, 512):
    inputs = [torch.randn(2048 // time_, 4, time_, 32, requires_grad=True) for _ in range(3)]
    ms = [milliseconds(way, inputs) for way in (attend_by_hand, attend_in_halves, kernel)]
    print(f"{time_:4} {ms[0]:9.1f} ms {ms[1]:7.1f} ms {ms[2]:4.1f} ms")
