"""Synthetic tasks whose answer is known."""

from collections.abc import Sequence

import torch

from learning_mechanics import _checks


def orthonormal(n: int, k: int, generator: torch.Generator) -> torch.Tensor:
    """Draw `k` orthonormal columns in `n` dimensions, uniformly.

    Parameters
    ----------
    n, k : int
        Dimension and number of columns, ``1 <= k <= n``.
    generator : torch.Generator
        The random stream.

    Returns
    -------
    torch.Tensor
        Shape [n, k], float64, with identity Gram matrix.

    Raises
    ------
    TypeError, ValueError
        If `generator` is not one on the CPU; if ``k`` is not an integer
        between 1 and ``n``.

    Examples
    --------
    >>> q = orthonormal(5, 2, torch.Generator().manual_seed(0))
    >>> torch.allclose(q.T @ q, torch.eye(2, dtype=torch.float64))
    True
    """
    _checks.integer("n", n, 1)
    _checks.integer("k", k, 1, n)
    _checks.generator("generator", generator)
    gaussian = torch.randn(n, k, generator=generator, dtype=torch.float64)
    columns, upper = torch.linalg.qr(gaussian)
    # The signs make the distribution uniform (Haar).
    return columns * upper.diagonal().sign()


def linear_teacher(
    strengths: Sequence[float],
    n_in: int,
    n_out: int,
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""Draw a linear map with given singular values.

    Parameters
    ----------
    strengths : sequence of float
        Singular values :math:`a_1 \ge a_2 \ge \dots > 0`, at most
        ``min(n_in, n_out)`` of them.
    n_in, n_out : int
        Dimensions of input and output.
    generator : torch.Generator
        The random stream.

    Returns
    -------
    target : torch.Tensor
        :math:`\Sigma_{yx} = U\,\mathrm{diag}(a)\,V^\top`, shape [n_out, n_in].
    left, right : torch.Tensor
        The singular vectors U [n_out, k] and V [n_in, k], uniform.

    Raises
    ------
    TypeError, ValueError
        As `orthonormal` does; if the strengths are not positive and
        decreasing, or too many.

    Examples
    --------
    >>> stream = torch.Generator().manual_seed(0)
    >>> target, left, right = linear_teacher([2.0, 1.0], 4, 3, stream)
    >>> torch.linalg.svdvals(target).round(decimals=6).tolist()
    [2.0, 1.0, 0.0]
    """
    a = torch.as_tensor(strengths, dtype=torch.float64)
    _checks.positive("strengths", a)
    if a.ndim != 1 or (a.diff() > 0).any():
        raise ValueError(
            f"strengths={a.tolist()}; allowed: a sequence in decreasing order"
        )
    left = orthonormal(n_out, len(a), generator)
    right = orthonormal(n_in, len(a), generator)
    return left * a @ right.T, left, right


def hierarchy(
    levels: int, n_features: int, flip: float, generator: torch.Generator
) -> torch.Tensor:
    r"""Draw the features of items at the leaves of a binary tree.

    Each feature starts as a fair sign at the root and flips with
    probability `flip` on every branch on its way to a leaf, so items that
    part late share most features.

    Parameters
    ----------
    levels : int
        Branchings from the root to a leaf, 1 to 24: ``2**levels`` items.
    n_features : int
        Independent features, at least 1.
    flip : float
        Probability of a flip, between 0 and 1/2.
    generator : torch.Generator
        The random stream.

    Returns
    -------
    torch.Tensor
        Entries :math:`\pm1`, [2**levels, n_features], float64; neighbouring
        rows are siblings.

    Raises
    ------
    TypeError, ValueError
        If `generator` is not one on the CPU; if a number is out of its range.

    Source
    ------
    Saxe et al. (2014), arXiv:1312.6120.

    Examples
    --------
    >>> items = hierarchy(3, 5, 0.1, torch.Generator().manual_seed(0))
    >>> items.shape, items.abs().unique().tolist()
    (torch.Size([8, 5]), [1.0])
    """
    _checks.integer("levels", levels, 1, 24)
    _checks.integer("n_features", n_features, 1)
    _checks.generator("generator", generator)
    if not 0 <= flip <= 0.5:
        raise ValueError(f"flip={flip}; allowed: 0 to 0.5")

    def signs(rows: int, chance: float) -> torch.Tensor:
        draws = torch.rand(rows, n_features, generator=generator)
        return 1.0 - 2.0 * (draws < chance).double()

    items = signs(1, 0.5)
    for _ in range(levels):
        items = items.repeat_interleave(2, dim=0)
        items = items * signs(len(items), flip)
    return items
