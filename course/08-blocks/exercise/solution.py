"""Attention and thought at the same time."""

from torch import Tensor, nn

from gpt.config import ModelConfig
from gpt.model import MLP, Attention


class ParallelBlock(nn.Module):
    """Attention and MLP read the same normalised copy; what both find is added at once."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.attention, self.mlp = Attention(config), MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        y = self.norm(x)
        return x + self.attention(y) + self.mlp(y)
