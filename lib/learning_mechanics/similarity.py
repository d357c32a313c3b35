r"""How alike two representations of the same inputs are, and by chance.

A representation is a matrix [n, p], the same n inputs in the rows of both,
each with its own number of features: float32 or float64, on one device. Every
score ignores a shift, a rotation and a rescaling of either; canonical
correlations ignore any invertible linear map. K and L are the Gram matrices
of the centred features.

All functions raise a TypeError for representations that are no such tensors,
and a ValueError for those that are empty, not finite, constant or do not fit
each other.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from learning_mechanics import _checks


class Calibration(NamedTuple):
    """A score beside what permutations of the inputs make of it.

    Attributes
    ----------
    score : float
        The similarity itself.
    chance : float
        Its mean over the permutations.
    threshold : float
        Its quantile over the permutations, the observed score among them.
    calibrated : float
        The part of the way from the threshold to 1, or 0 below it.
    p_value : float
        How often chance does as well, at least 1 / (permutations + 1).
    """

    score: float
    chance: float
    threshold: float
    calibrated: float
    p_value: float


def cka(first: torch.Tensor, second: torch.Tensor) -> float:
    r"""Linear centred kernel alignment.

    .. math:: \frac{\langle K,L\rangle}{\|K\|\,\|L\|},\qquad
        \langle K,L\rangle=\operatorname{tr}KL .

    Parameters
    ----------
    first, second : torch.Tensor
        Representations [n, p] and [n, q].

    Returns
    -------
    float
        From 0 to 1.

    Source
    ------
    Kornblith, Norouzi, Lee and Hinton (2019), arXiv:1905.00414.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    >>> round(cka(x, 5 * x.flip(1) + 1), 6)
    1.0
    """
    first, second = _pair(first, second)
    return _cosine(_product, first, second)


def debiased_cka(first: torch.Tensor, second: torch.Tensor) -> float:
    r"""CKA whose mean over permutations of the inputs is exactly zero.

    The inner product of CKA is replaced by

    .. math:: \langle K,L\rangle-\frac n{n-2}\sum_iK_{ii}L_{ii}
        +\frac{\operatorname{tr}K\,\operatorname{tr}L}{(n-1)(n-2)} ,

    :math:`n(n-3)` times the unbiased estimator of the Hilbert-Schmidt
    independence criterion.

    Parameters
    ----------
    first, second : torch.Tensor
        Representations [n, p] and [n, q], of at least 4 inputs.

    Returns
    -------
    float
        From -1 to 1.

    Raises
    ------
    ValueError
        Also if there are fewer than 4 inputs, or if one representation has
        nothing left after debiasing, as equidistant inputs.

    Source
    ------
    The estimator: Song, Smola, Gretton, Bedo and Borgwardt (2012), Journal
    of Machine Learning Research 13, 1393. Its use in CKA: Nguyen, Raghu and
    Kornblith (2021), arXiv:2010.15327.

    Examples
    --------
    >>> stream = torch.Generator().manual_seed(0)
    >>> x, y = (torch.randn(50, 500, generator=stream) for _ in range(2))
    >>> cka(x, y) > 0.8, abs(debiased_cka(x, y)) < 0.1
    (True, True)
    """
    first, second = _pair(first, second)
    n = len(first)
    if n < 4:
        raise ValueError(f"representations of {n} inputs; allowed: at least 4")

    def product(x, y):
        a, b = x.square().sum(1), y.square().sum(1)  # diagonals
        chance = a.sum() * b.sum() / ((n - 1) * (n - 2))
        return _product(x, y) - n / (n - 2) * (a @ b) + chance

    for name, x in (("first", first), ("second", second)):
        rounding = 10 * n * torch.finfo(x.dtype).eps
        if product(x, x) < rounding * _product(x, x):
            raise ValueError(
                f"{name} has a debiased norm of 0, as equidistant inputs "
                "have; allowed: any other representation"
            )
    return _cosine(product, first, second)


def mutual_neighbours(
    first: torch.Tensor, second: torch.Tensor, k: int
) -> float:
    """Share of an input's k nearest neighbours that two spaces agree on.

    Parameters
    ----------
    first, second : torch.Tensor
        Representations [n, p] and [n, q].
    k : int
        Neighbours, by Euclidean distance, from 1 to n - 1.

    Returns
    -------
    float
        From 0 to 1, averaged over inputs; k / (n - 1) by chance.

    Raises
    ------
    ValueError
        Also if `k` is out of range.

    Source
    ------
    Huh, Cheung, Wang and Isola (2024), arXiv:2405.07987.

    Examples
    --------
    >>> line = torch.arange(10.0)[:, None]
    >>> mutual_neighbours(line, line**2, 1) < mutual_neighbours(line, line, 1)
    True
    """
    first, second = _pair(first, second)
    _checks.integer("k", k, 1, len(first) - 1)
    both = _neighbours(first, k) & _neighbours(second, k)
    return both.sum().item() / (k * len(first))


def canonical_correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    r"""Mean squared canonical correlation.

    With orthogonal projections P and Q on the spaces that the centred
    features span, of dimensions p and q,
    :math:`\operatorname{tr}PQ/\min(p,q)`.

    Parameters
    ----------
    first, second : torch.Tensor
        Representations [n, p] and [n, q].

    Returns
    -------
    float
        From 0 to 1; max(p, q) / (n - 1) by chance.

    Source
    ------
    Raghu, Gilmer, Yosinski and Sohl-Dickstein (2017), arXiv:1706.05806, who
    first keep the leading singular vectors of each.

    Examples
    --------
    >>> stream = torch.Generator().manual_seed(0)
    >>> x = torch.randn(9, 3, generator=stream)
    >>> round(canonical_correlation(x, x @ torch.rand(3, 3)), 5)
    1.0
    """
    first, second = (_basis(x) for x in _pair(first, second))
    ranks = first.shape[1], second.shape[1]
    return (first.T @ second).square().sum().item() / min(ranks)


def procrustes(first: torch.Tensor, second: torch.Tensor) -> float:
    r"""Cosine of the angle that is left after the best rotation.

    For centred features, :math:`\|X^\top Y\|_*/\|X\|\|Y\|`.

    Parameters
    ----------
    first, second : torch.Tensor
        Representations [n, p] and [n, q].

    Returns
    -------
    float
        From 0 to 1.

    Source
    ------
    Williams, Kunz, Kornblith and Linderman (2021), arXiv:2110.14739.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    >>> round(procrustes(x, -x.flip(1)), 6)
    1.0
    """
    first, second = _pair(first, second)
    nuclear = torch.linalg.matrix_norm(first.T @ second, ord="nuc")
    return (nuclear / (first.norm() * second.norm())).item()


def participation_ratio(features: torch.Tensor) -> float:
    r"""Effective dimension of the centred features, at most their rank.

    Parameters
    ----------
    features : torch.Tensor
        A representation [n, p].

    Returns
    -------
    float
        :math:`(\operatorname{tr}K)^2/\operatorname{tr}K^2`, from 1.

    Examples
    --------
    >>> round(participation_ratio(torch.eye(5, dtype=torch.float64)), 6)
    4.0
    """
    return _dimension(_centred("features", features))


def chance_cka(first: torch.Tensor, second: torch.Tensor) -> float:
    r"""Mean of `cka` over all permutations of the inputs of one of them.

    Parameters
    ----------
    first, second : torch.Tensor
        Representations [n, p] and [n, q].

    Returns
    -------
    float
        :math:`\sqrt{D_1D_2}/(n-1)`, with the participation ratios D.

    Examples
    --------
    >>> round(chance_cka(torch.eye(5), torch.eye(5)), 6)
    1.0
    """
    first, second = _pair(first, second)
    return math.sqrt(_dimension(first) * _dimension(second)) / (len(first) - 1)


def calibrate(
    similarity: Callable[[torch.Tensor, torch.Tensor], float],
    first: torch.Tensor,
    second: torch.Tensor,
    *,
    permutations: int,
    generator: torch.Generator,
    level: float = 0.05,
) -> Calibration:
    """Compare a score with those of permuted inputs.

    Parameters
    ----------
    similarity : callable
        Maps two representations to a number of at most 1, such as `cka`.
    first, second : torch.Tensor
        Representations [n, p] and [n, q].
    permutations : int
        How many are drawn, at least 1.
    generator : torch.Generator
        The random stream, on the CPU.
    level : float
        Share of the permutations above the threshold, between 0 and 1.

    Returns
    -------
    Calibration
        Score, mean under chance, threshold, calibrated score and p-value.

    Raises
    ------
    ValueError
        Also if `permutations` or `level` is out of range.

    Source
    ------
    Gröger, Wen and Brbić (2026), arXiv:2602.14486.

    Examples
    --------
    >>> stream = torch.Generator().manual_seed(0)
    >>> x, y = (torch.randn(20, 99, generator=stream) for _ in range(2))
    >>> found = calibrate(cka, x, y, permutations=99, generator=stream)
    >>> found.score > 0.8, found.p_value > 0.05
    (True, True)
    """
    _pair(first, second)
    _checks.integer("permutations", permutations, 1)
    _checks.generator("generator", generator)
    if not 0 < level < 1:
        raise ValueError(f"level={level}; allowed: between 0 and 1")
    score = similarity(first, second)
    chance = []
    for _ in range(permutations):
        order = torch.randperm(len(second), generator=generator)
        chance.append(similarity(first, second[order.to(second.device)]))
    null = torch.tensor(chance, dtype=torch.float64)
    drawn = torch.cat([null, torch.tensor([score], dtype=torch.float64)])
    threshold = drawn.quantile(1 - level).item()
    part = (score - threshold) / (1 - threshold) if threshold < 1 else 0.0
    return Calibration(
        score=score,
        chance=null.mean().item(),
        threshold=threshold,
        calibrated=max(0.0, part),
        p_value=(drawn >= score).sum().item() / len(drawn),
    )


def _product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return tr(K L) of centred features, by the smaller matrices."""
    if x.shape[1] * y.shape[1] <= len(x) ** 2:
        return (x.T @ y).square().sum()
    return ((x @ x.T) * (y @ y.T)).sum()


def _cosine(product, x, y) -> float:
    return (product(x, y) / (product(x, x) * product(y, y)).sqrt()).item()


def _dimension(x: torch.Tensor) -> float:
    """Return the participation ratio of centred features."""
    return (x.norm() ** 4 / _product(x, x)).item()


def _neighbours(x: torch.Tensor, k: int) -> torch.Tensor:
    """Return a mask [n, n], true where j is among the k nearest to i."""
    # Not by the expanded square, whose rounding reorders close neighbours.
    distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(math.inf)
    nearest = distances.topk(k, largest=False).indices
    return torch.zeros_like(distances, dtype=torch.bool).scatter(
        1, nearest, True
    )


def _basis(x: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis of the columns' span, [n, rank]."""
    left, values, _ = torch.linalg.svd(x, full_matrices=False)
    small = max(x.shape) * torch.finfo(x.dtype).eps * values[0]
    return left[:, values > small]


def _centred(name: str, features: torch.Tensor) -> torch.Tensor:
    _checks.tensor(name, features, 2)
    centred = features - features.mean(0)
    if not (features != features[0]).any():
        raise ValueError(
            f"{name} has equal rows; allowed: at least two that differ"
        )
    return centred


def _pair(first, second) -> tuple[torch.Tensor, torch.Tensor]:
    """Check and centre two representations."""
    centred = _centred("first", first), _centred("second", second)
    _checks.alike("second", second, "first", first)
    if len(first) != len(second):
        raise ValueError(
            f"first has {len(first)} inputs and second {len(second)}; "
            "allowed: as many in both"
        )
    return centred
