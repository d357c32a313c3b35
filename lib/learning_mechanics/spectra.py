r"""What a spectrum predicts: learning curves, noise bulks, spikes, exponents.

Theory in NumPy and float64; no network is trained and nothing is sampled
here, but for the resampling that gives `power_law_fit` its error bars.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import f as f_distribution

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
    _non_negative("ridge", ridge)
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
    _non_negative("noise", noise)
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

    Raises
    ------
    ValueError
        If an argument is not positive.

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

    Raises
    ------
    ValueError
        If `ratio` or `variance` is not positive.

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

    Raises
    ------
    ValueError
        If `ratio` or `variance` is not positive.

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

    Raises
    ------
    ValueError
        If an argument is not positive.

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

    Raises
    ------
    ValueError
        If an argument is not positive.

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


@dataclass(frozen=True)
class PowerLaw:
    r"""A fitted :math:`y=c\,x^{-a}`, with its errors and its window's test.

    Attributes
    ----------
    exponent : float
        a.
    prefactor : float
        c.
    exponent_interval : tuple of float
        Confidence interval of a.
    prefactor_interval : tuple of float
        Confidence interval of c.
    window : tuple of float
        The smallest and the largest x that were fitted.
    drift : float
        How much the local exponent :math:`-d\ln y/d\ln x` changes from the
        start of the window to its end, by a parabola in log-log.
    p_value : float
        Of the F test of the power law against that parabola: the chance of
        so much curvature if there were none.
    """

    exponent: float
    prefactor: float
    exponent_interval: tuple[float, float]
    prefactor_interval: tuple[float, float]
    window: tuple[float, float]
    drift: float
    p_value: float

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """Evaluate the fitted law.

        Parameters
        ----------
        x : array_like
            Positive, any shape.

        Returns
        -------
        numpy.ndarray
            In the shape of `x`.
        """
        return self.prefactor * np.asarray(x, dtype=float) ** -self.exponent


def power_law_fit(
    x: ArrayLike,
    y: ArrayLike,
    *,
    window: tuple[float, float] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> PowerLaw:
    r"""Fit :math:`y=c\,x^{-a}` and test whether the window is straight.

    Least squares in log-log. The intervals are bootstrap-t: residuals,
    scaled up for their leverage, are drawn again onto the line, and the
    distribution of the refitted :math:`(a^*-a)/\mathrm{se}^*` gives the
    quantiles; unlike a plain percentile interval this keeps its coverage
    with few points. Errors are taken as independent and of equal spread in
    ln y. Repeated measurements are repeated values of `x`.

    Parameters
    ----------
    x, y : array_like
        Positive, [m] each, in any order, at least 5 of them in the window
        and at 4 different places.
    window : tuple of float, optional
        Smallest and largest x to fit; all by default.
    confidence : float
        Of the intervals, between 0 and 1; a window is called bad when its
        p value is below ``1 - confidence``.
    resamples : int
        Bootstrap resamples, at least 100.
    seed : int
        Of the resampling.

    Returns
    -------
    PowerLaw
        With the p value of its window.

    Warns
    -----
    UserWarning
        If the exponent drifts inside the window: a power law with another
        window, or another law, would fit better.

    Raises
    ------
    ValueError
        If an argument is out of its range, the shapes differ or too few
        points are left.

    Source
    ------
    Efron and Tibshirani (1993), *An Introduction to the Bootstrap*.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    >>> law = power_law_fit(x, 3 * x**-0.5)
    >>> round(law.exponent, 6), round(law.prefactor, 6), law.p_value
    (0.5, 3.0, 1.0)
    """
    u, v = _log_log(x, y, window)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}; allowed: between 0 and 1")
    if resamples < 100:
        raise ValueError(f"resamples={resamples}; allowed: at least 100")
    center = u.mean()
    design = np.stack([np.ones_like(u), u - center], 1)
    inverse = np.linalg.pinv(design)
    line = inverse @ v
    residual = v - design @ line
    # What ln y carries of rounding, and no fit can see below.
    floor = len(u) * (1e-13 * (1 + np.abs(v).max())) ** 2
    drift, p_value = _curvature(u - center, v, residual, floor)
    if p_value < 1 - confidence:
        warnings.warn(
            f"not a power law from x={np.exp(u.min()):.4g} to "
            f"{np.exp(u.max()):.4g}: the exponent drifts by {drift:.3g} "
            f"around {-line[1]:.3g} (p={p_value:.2g}); choose another window",
            stacklevel=2,
        )
    # Exponent and prefactor as two contrasts of (mean, slope).
    contrasts = np.array([[0.0, -1.0], [1.0, -center]])
    estimate = contrasts @ line
    spread = np.zeros(2), np.zeros(2)
    if residual @ residual > floor:
        leverage = (design * inverse.T).sum(1)
        free = residual / np.sqrt(1 - leverage)
        free -= free.mean()
        rng = np.random.default_rng(seed)
        draws = rng.choice(free, (resamples, len(u)))
        shift = draws @ inverse.T  # [resamples, 2]
        again = draws - shift @ design.T
        gram = np.diag(contrasts @ inverse @ inverse.T @ contrasts.T)
        error = np.sqrt((again**2).mean(1)[:, None] * gram)
        ratio = shift @ contrasts.T / error
        tails = (1 - confidence) / 2
        high, low = np.quantile(ratio, [1 - tails, tails], axis=0)
        scale = np.sqrt((residual**2).mean() * gram)
        spread = high * scale, low * scale
    lower, upper = estimate - spread[0], estimate - spread[1]
    return PowerLaw(
        exponent=float(estimate[0]),
        prefactor=float(np.exp(estimate[1])),
        exponent_interval=(float(lower[0]), float(upper[0])),
        prefactor_interval=(float(np.exp(lower[1])), float(np.exp(upper[1]))),
        window=(float(np.exp(u.min())), float(np.exp(u.max()))),
        drift=drift,
        p_value=p_value,
    )


def _log_log(x, y, window) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(
            f"x of shape {x.shape} and y of shape {y.shape}; allowed: two "
            "lists of one length"
        )
    _checks.positive("x", x)
    _checks.positive("y", y)
    if window is not None:
        low, high = window
        if not 0 <= low < high:
            raise ValueError(f"window={window}; allowed: 0 <= low < high")
        kept = (x >= low) & (x <= high)
        x, y = x[kept], y[kept]
    if len(x) < 5 or len(np.unique(x)) < 4:
        raise ValueError(
            f"{len(x)} points at {len(np.unique(x))} places in the window; "
            "allowed: at least 5 points of x, at 4 places"
        )
    return np.log(x), np.log(y)


def _curvature(u, v, residual, floor) -> tuple[float, float]:
    """Drift of the exponent, and p value of the parabola's F test."""
    parabola = np.polynomial.Polynomial.fit(u, v, 2)
    drift = -np.diff(parabola.deriv()([u.min(), u.max()])).item()
    straight, curved = residual @ residual, ((v - parabola(u)) ** 2).sum()
    if straight <= floor:
        return drift, 1.0
    freedom = len(u) - 3
    ratio = (straight - curved) / max(curved, floor) * freedom
    return drift, float(f_distribution.sf(ratio, 1, freedom))


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


def _non_negative(name: str, value: float) -> None:
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value}; allowed: finite and >= 0")
