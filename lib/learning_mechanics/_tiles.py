"""Matrices of inner products filled tile by tile, the inside of `kernels`.

A tile stays in the processor's cache through all that is done to it; of a
symmetric matrix only the upper half is computed.
"""

import math
from collections.abc import Callable

import torch

# A few tiles, shared by the cores, stay in their second-level caches; an
# accelerator takes the whole matrix as one.
TILE_BYTES = 512 * 1024


def fill(
    inputs: torch.Tensor,
    others: torch.Tensor,
    step: Callable[..., torch.Tensor],
    count: int,
    diagonal: torch.Tensor,
) -> torch.Tensor:
    """Return the matrix [n, m] of a kernel between two sets of inputs.

    `step` is given two slices, of rows and columns, a tile of inner products
    and `count - 1` scratch tiles, and returns the one that holds the result.
    If `others` is `inputs`, the kernel is symmetric and has that `diagonal`.
    """
    n, m = len(inputs), len(others)
    same = others is inputs
    side = max(n, m)
    if inputs.device.type == "cpu":
        side = min(side, math.isqrt(TILE_BYTES // inputs.element_size()))
    kernel = inputs.new_empty(n, m)
    buffers = [inputs.new_empty(side * side) for _ in range(count)]
    for i in range(0, n, side):
        rows = slice(i, min(i + side, n))
        for j in range(i if same else 0, m, side):
            columns = slice(j, min(j + side, m))
            shape = rows.stop - i, columns.stop - j
            tiles = [b[: math.prod(shape)].view(shape) for b in buffers]
            torch.mm(inputs[rows], others[columns].T, out=tiles[0])
            tile = step(rows, columns, *tiles)
            if same and i == j:
                tile.triu_().add_(tile.triu(1).T)
            elif same:
                kernel[columns, rows] = tile.T
            kernel[rows, columns] = tile
    if same:
        kernel.diagonal().copy_(diagonal)
    return kernel


def scale_(tile, left, right):
    """Multiply rows by `left` and columns by `right`, in place."""
    return tile.mul_(left[:, None]).mul_(right)


def sine(cosine, out):
    """Write the sine of the angle between 0 and pi with that cosine."""
    one = cosine.new_ones(())
    return torch.addcmul(one, cosine, cosine, value=-1, out=out).sqrt_()


def inverse(lengths: torch.Tensor) -> torch.Tensor:
    """Return 1 / lengths, and 0 for a zero vector."""
    return torch.where(lengths > 0, 1 / lengths, 0)
