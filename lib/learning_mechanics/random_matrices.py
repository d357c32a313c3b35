r"""Spectra of large random matrices: the bulk of noise, and what spikes do.

Everything is exact in the limit of large p and n with p/n fixed. Arguments
that are not positive raise a ValueError.
"""

import numpy as np
from numpy.typing import ArrayLike

from learning_mechanics import _checks


def marchenko_pastur_edges(
    ratio: float, variance: float = 1.0
) -> tuple[float, float]:
    r"""Edges :math:`\sigma^2(1\mp\sqrt\gamma)^2` of the bulk of pure noise.

    Parameters
    ----------
    ratio : float
        :math:`\gamma=p/n>0`, dimension over samples, of the covariance
        :math:`X^\top X/n` with X [n, p].
    variance : float
        :math:`\sigma^2>0` of the entries of X.

    Returns
    -------
    lower, upper : float
        Above :math:`\gamma=1` there are also zero eigenvalues, a share
        :math:`1-1/\gamma` of all.

    Source
    ------
    Marchenko and Pastur (1967).

    Examples
    --------
    >>> marchenko_pastur_edges(0.25)
    (0.25, 2.25)
    """
    _checks.positive("ratio", ratio)
    _checks.positive("variance", variance)
    root = np.sqrt(ratio)
    return float(variance * (1 - root) ** 2), float(variance * (1 + root) ** 2)


def marchenko_pastur_density(
    x: ArrayLike, ratio: float, variance: float = 1.0
) -> np.ndarray:
    r"""Density :math:`\sqrt{(b-x)(x-a)}/(2\pi\gamma\sigma^2x)` of the bulk.

    Parameters
    ----------
    x : array_like
        Eigenvalues, any shape.
    ratio, variance
        As for `marchenko_pastur_edges`, whose values are a and b.

    Returns
    -------
    numpy.ndarray
        In the shape of `x`; integrates to :math:`\min(1,1/\gamma)`, since
        the zero eigenvalues are not part of it.

    Source
    ------
    Marchenko and Pastur (1967).

    Examples
    --------
    >>> marchenko_pastur_density([0.1, 1.0], 0.25).round(4).tolist()
    [0.0, 0.6164]
    """
    low, high = marchenko_pastur_edges(ratio, variance)
    x = np.asarray(x, dtype=float)
    root = np.sqrt(np.clip((high - x) * (x - low), 0, None))
    return np.divide(
        root,
        2 * np.pi * ratio * variance * x,
        out=np.zeros_like(x),
        where=x > 0,
    )


def marchenko_pastur_distribution(
    x: ArrayLike, ratio: float, variance: float = 1.0
) -> np.ndarray:
    r"""Share of eigenvalues of pure noise that are at most `x`.

    The density integrates in closed form, with a and b its edges, to

    .. math:: \frac1{2\pi\gamma\sigma^2}\Bigl[\sqrt{(b-x)(x-a)}
        +\frac{a+b}2\arcsin\frac{2x-a-b}{b-a}
        -\sqrt{ab}\,\arcsin\frac{(a+b)x-2ab}{(b-a)x}\Bigr]_a^x.

    Parameters
    ----------
    x : array_like
        Eigenvalues, any shape.
    ratio, variance
        As for `marchenko_pastur_edges`.

    Returns
    -------
    numpy.ndarray
        In the shape of `x`, with the jump :math:`1-1/\gamma` at zero when
        :math:`\gamma>1`.

    Source
    ------
    Marchenko and Pastur (1967).

    Examples
    --------
    >>> marchenko_pastur_distribution([-1.0, 0.0, 20.0], 4.0).tolist()
    [0.0, 0.75, 1.0]
    """
    low, high = marchenko_pastur_edges(ratio, variance)
    x = np.asarray(x, dtype=float)
    inside = np.clip(x, low, high)
    # Rounding may push an arcsine's argument past one at the edges; at
    # x = a = 0 the last term carries the factor zero.
    first = (2 * inside - low - high) / (high - low)
    second = np.divide(
        (low + high) * inside - 2 * low * high,
        (high - low) * inside,
        out=np.full(x.shape, -1.0),
        where=inside > 0,
    )
    first, second = np.clip(first, -1, 1), np.clip(second, -1, 1)
    area = np.sqrt(np.clip((high - inside) * (inside - low), 0, None))
    area += (low + high) / 2 * (np.arcsin(first) + np.pi / 2)
    area -= np.sqrt(low * high) * (np.arcsin(second) + np.pi / 2)
    share = area / (2 * np.pi * ratio * variance)
    share += (x >= 0) * max(0.0, 1 - 1 / ratio)
    return np.clip(share, 0, 1)


def spiked_covariance(
    spike: ArrayLike, ratio: float
) -> tuple[np.ndarray, np.ndarray]:
    r"""Place the top sample eigenvalue of noise with one strong direction.

    The population covariance has one eigenvalue :math:`\ell` and else ones.
    Above the threshold :math:`\ell=1+\sqrt\gamma` the sample covariance has
    an outlier whose eigenvector remembers the direction,

    .. math:: \ell\Bigl(1+\frac\gamma{\ell-1}\Bigr),\qquad
        \langle u,\hat u\rangle^2
        =\frac{1-\gamma/(\ell-1)^2}{1+\gamma/(\ell-1)};

    below, the top eigenvalue sits at the edge of the bulk and the overlap
    is zero.

    Parameters
    ----------
    spike : array_like
        :math:`\ell>0`, in units of the noise's variance, any shape.
    ratio : float
        :math:`\gamma=p/n>0`, dimension over samples.

    Returns
    -------
    eigenvalue, overlap : numpy.ndarray
        The top eigenvalue and the squared overlap, in the shape of `spike`,
        as p and n grow.

    Source
    ------
    Baik, Ben Arous and Péché (2005), arXiv:math/0403022, for the
    transition; Paul (2007) for the eigenvector.

    Examples
    --------
    >>> top, overlap = spiked_covariance([1.2, 3.0], ratio=1.0)
    >>> top.tolist(), overlap.tolist()
    ([4.0, 4.5], [0.0, 0.5])
    """
    _checks.positive("spike", spike)
    _checks.positive("ratio", ratio)
    # At the threshold itself both branches agree.
    excess = np.maximum(np.asarray(spike, dtype=float) - 1, np.sqrt(ratio))
    eigenvalue = (1 + excess) * (1 + ratio / excess)
    overlap = (1 - ratio / excess**2) / (1 + ratio / excess)
    return eigenvalue, np.clip(overlap, 0, 1)


def spiked_matrix(
    spike: ArrayLike, ratio: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Place the top singular value of :math:`\theta uv^\top+W`.

    W is [p, n] with independent entries of variance 1/n. Above the
    threshold :math:`\theta=\gamma^{1/4}` the singular value and the squared
    overlaps are

    .. math:: \frac{\sqrt{(1+\theta^2)(\gamma+\theta^2)}}\theta,\quad
        \langle u,\hat u\rangle^2
        =1-\frac{\gamma(1+\theta^2)}{\theta^2(\theta^2+\gamma)},\quad
        \langle v,\hat v\rangle^2
        =1-\frac{\gamma+\theta^2}{\theta^2(\theta^2+1)};

    below, the edge :math:`1+\sqrt\gamma` and zero.

    Parameters
    ----------
    spike : array_like
        :math:`\theta>0`, any shape.
    ratio : float
        :math:`\gamma=p/n>0`, rows over columns.

    Returns
    -------
    value, left, right : numpy.ndarray
        The top singular value and the squared overlaps with u and v, in the
        shape of `spike`, as p and n grow.

    Source
    ------
    Benaych-Georges and Nadakuditi (2012), arXiv:1103.2221.

    Examples
    --------
    >>> value, left, right = spiked_matrix([0.5, 2.0], ratio=1.0)
    >>> value.tolist(), left.tolist(), right.tolist()
    ([2.0, 2.5], [0.0, 0.75], [0.0, 0.75])
    """
    _checks.positive("spike", spike)
    _checks.positive("ratio", ratio)
    power = np.maximum(np.asarray(spike, dtype=float) ** 2, np.sqrt(ratio))
    value = np.sqrt((1 + power) * (ratio + power) / power)
    left = 1 - ratio * (1 + power) / (power * (power + ratio))
    right = 1 - (ratio + power) / (power * (power + 1))
    return value, np.clip(left, 0, 1), np.clip(right, 0, 1)
