r"""Learning curves from the eigenvalues of a kernel.

Theory in NumPy and float64: no network is trained, and no kernel inverted.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from learning_mechanics import _checks


def effective_ridge(
    eigenvalues: ArrayLike, n: ArrayLike, ridge: float = 0.0
) -> np.ndarray:
    r"""Solve :math:`n=\sum_i\lambda_i/(\lambda_i+\kappa)+\delta/\kappa`.

    The right side falls from its value at :math:`\kappa=0` to zero, so
    there is one solution :math:`\kappa>0`, except for kernel regression
    without ridge on at least as many samples as there are nonzero
    eigenvalues, where :math:`\kappa=0`.

    Parameters
    ----------
    eigenvalues : array_like
        :math:`\lambda_i\ge0` of the kernel under the distribution of the
        data, [m], with repetitions; not all zero.
    n : array_like
        Numbers of samples, positive, any shape.
    ridge : float
        :math:`\delta\ge0`, what is added to the diagonal of the kernel
        matrix (not divided by n).

    Returns
    -------
    numpy.ndarray
        :math:`\kappa`, in the shape of `n`.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Source
    ------
    Simon et al. (2023), arXiv:2110.03922.

    Examples
    --------
    >>> effective_ridge([1.0, 1.0, 1.0, 1.0], [1, 2, 4]).round(6).tolist()
    [3.0, 1.0, 0.0]
    """
    eigenvalues = _eigenvalues(eigenvalues)
    _checks.positive("n", n)
    _checks.non_negative("ridge", ridge)
    n = np.asarray(n, dtype=float)
    # Zero eigenvalues learn nothing; the order serves the lower bound.
    spectrum = np.sort(eigenvalues[eigenvalues > 0])[::-1]
    kappa = [_one_ridge(spectrum, size, ridge) for size in n.ravel()]
    return np.reshape(kappa, n.shape)


def learnabilities(
    eigenvalues: ArrayLike, n: ArrayLike, ridge: float = 0.0
) -> np.ndarray:
    r"""Share :math:`L_i=\lambda_i/(\lambda_i+\kappa)` learned of each mode.

    They sum to n without ridge up to as many samples as there are nonzero
    eigenvalues, and to less than n otherwise.

    Parameters
    ----------
    eigenvalues, n, ridge
        As for `effective_ridge`.

    Returns
    -------
    numpy.ndarray
        Between 0 and 1, the shape of `n` followed by [m].

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Source
    ------
    Simon et al. (2023), arXiv:2110.03922.

    Examples
    --------
    >>> learnabilities([1.0, 1.0, 1.0, 1.0], 2).round(6).tolist()
    [0.5, 0.5, 0.5, 0.5]
    """
    kappa = effective_ridge(eigenvalues, n, ridge)
    return _learned(_eigenvalues(eigenvalues), kappa)


def learning_curve(
    eigenvalues: ArrayLike,
    coefficients: ArrayLike,
    n: ArrayLike,
    *,
    ridge: float = 0.0,
    noise: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Predict the errors of kernel regression from the eigenstructure.

    The mean squared errors on noisy labels, averaged over training sets,

    .. math:: E_\mathrm{test}=\frac n{n-\sum_iL_i^2}
        \Bigl[\sum_i(1-L_i)^2v_i^2+\sigma^2\Bigr],\qquad
        E_\mathrm{train}=\Bigl(\frac\delta{n\kappa}\Bigr)^2E_\mathrm{test}.

    Since :math:`\delta/\kappa=n-\sum_iL_i`, the limit without ridge is
    :math:`E_\mathrm{train}=0` where the kernel interpolates and
    :math:`(1-m/n)^2E_\mathrm{test}` beyond its m nonzero eigenvalues.

    Parameters
    ----------
    eigenvalues, n, ridge
        As for `effective_ridge`.
    coefficients : array_like
        :math:`v_i` of the target in the orthonormal eigenfunctions, [m].
    noise : float
        Variance :math:`\sigma^2\ge0` of the labels' noise; it is part of
        the test error, so subtract it to get the excess.

    Returns
    -------
    test, train : numpy.ndarray
        In the shape of `n`. The test error is infinite at the peak, where
        n equals the number of nonzero eigenvalues and nothing regularizes.

    Raises
    ------
    ValueError
        If an argument is out of its range or the shapes differ.

    Source
    ------
    Simon et al. (2023), arXiv:2110.03922.

    Examples
    --------
    >>> test, train = learning_curve([1.0] * 4, [1.0] * 4, [2], noise=0.5)
    >>> test.round(6).tolist(), train.tolist()
    ([3.0], [0.0])
    """
    eigenvalues = _eigenvalues(eigenvalues)
    coefficients = np.asarray(coefficients, dtype=float)
    if coefficients.shape != eigenvalues.shape:
        raise ValueError(
            f"coefficients of shape {coefficients.shape}; allowed: that of "
            f"eigenvalues, {eigenvalues.shape}"
        )
    if not np.isfinite(coefficients).all():
        raise ValueError("coefficients are not all finite; allowed: finite")
    _checks.non_negative("noise", noise)
    kappa = effective_ridge(eigenvalues, n, ridge)
    learned = _learned(eigenvalues, kappa)
    n = np.asarray(n, dtype=float)
    if ridge > 0:
        unused = ridge / (n * kappa)
    else:
        unused = np.maximum(0.0, 1 - (eigenvalues > 0).sum() / n)
    bare = (1 - learned) ** 2 @ coefficients**2 + noise
    # 1 - sum L^2 / n, from sum L and what no mode uses.
    left = ((1 - learned) * learned).sum(-1) / n + unused
    test = np.divide(
        bare, left, out=np.where(bare > 0, np.inf, 0.0), where=left > 0
    )
    train = np.zeros_like(test)
    np.multiply(unused**2, test, out=train, where=unused > 0)
    return test, train


def _one_ridge(spectrum: np.ndarray, n: float, ridge: float) -> float:
    m = len(spectrum)
    if ridge == 0 and n >= m:
        return 0.0
    # Each term is below its numerator over kappa, which bounds kappa from
    # above; the ridge alone, or the k largest eigenvalues taken as equal to
    # the k-th, bound it from below.
    high = (spectrum.sum() + ridge) / n
    low = max(ridge, (spectrum * (np.arange(1, m + 1) - n)).max()) / n
    log_kappa = brentq(
        lambda t: (
            (spectrum / (spectrum + np.exp(t))).sum() + ridge * np.exp(-t) - n
        ),
        np.log(low) - 1,
        np.log(high) + 1,
        xtol=1e-14,
        rtol=1e-14,
    )
    return float(np.exp(log_kappa))


def _learned(eigenvalues: np.ndarray, kappa: np.ndarray) -> np.ndarray:
    # A mode without variance is never learned, not even at kappa = 0.
    return np.divide(
        eigenvalues,
        eigenvalues + kappa[..., None],
        out=np.zeros((*kappa.shape, len(eigenvalues))),
        where=eigenvalues > 0,
    )


def _eigenvalues(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if (
        array.ndim != 1
        or not np.isfinite(array).all()
        or (array < 0).any()
        or not array.any()
    ):
        raise ValueError(
            f"eigenvalues of shape {array.shape}; allowed: a list of finite "
            "values >= 0, not all zero"
        )
    return array
