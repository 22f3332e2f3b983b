"""The nearest orthogonal matrix."""

from torch import Tensor


def nearest(matrix: Tensor, steps: int) -> Tensor:
    """A square or tall matrix (rows, columns), with all its singular values brought to 1.

    Newton and Schulz's own iteration, so many steps: a value s, at most 1, becomes 1.5 s - 0.5 s^3.
    """
    x = matrix / matrix.norm()
    for _ in range(steps):
        x = 1.5 * x - 0.5 * x @ (x.T @ x)
    return x
