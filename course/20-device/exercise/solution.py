"""Rounding to bf16, by hand."""

import torch


def to_bf16(x: torch.Tensor) -> torch.Tensor:
    """Finite fp32 numbers, rounded to the nearest that bf16 can write; of two equally near ones the
    one whose last bit is 0. Still in fp32."""
    bits = x.view(torch.int32)
    last = (bits >> 16) & 1  # the last bit that stays
    return ((bits + 0x7FFF + last) & -0x10000).view(torch.float32)
