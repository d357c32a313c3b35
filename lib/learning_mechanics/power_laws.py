r"""Power laws fitted to measurements, with errors and a test of the window."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import f as f_distribution

from learning_mechanics import _checks

RESAMPLES = 2000  # of the bootstrap


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


def fit(
    x: ArrayLike,
    y: ArrayLike,
    *,
    window: tuple[float, float] | None = None,
    confidence: float = 0.95,
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
    >>> law = fit(x, 3 * x**-0.5)
    >>> round(law.exponent, 6), round(law.prefactor, 6), law.p_value
    (0.5, 3.0, 1.0)
    """
    u, v = _log_log(x, y, window)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}; allowed: between 0 and 1")
    center = u.mean()
    design = np.stack([np.ones_like(u), u - center], 1)
    inverse = np.linalg.pinv(design)
    line = inverse @ v
    residual = v - design @ line
    # What ln y carries of rounding, and no fit can see below.
    floor = len(u) * (1e-13 * (1 + np.abs(v).max())) ** 2
    drift, p_value = _bend(u - center, v, residual, floor)
    if p_value < 1 - confidence:
        _checks.warn(
            "power_laws",
            f"not a power law from x={np.exp(u.min()):.4g} to "
            f"{np.exp(u.max()):.4g}: the exponent drifts by ≈{drift:.3g} "
            f"around ≈{-line[1]:.3g} (p ≈ {p_value:.2g}); choose another "
            "window",
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
        draws = rng.choice(free, (RESAMPLES, len(u)))
        shift = draws @ inverse.T  # [RESAMPLES, 2]
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


def _bend(u, v, residual, floor) -> tuple[float, float]:
    """Drift of the exponent, and p value of the parabola's F test."""
    parabola = np.polynomial.Polynomial.fit(u, v, 2)
    drift = -np.diff(parabola.deriv()([u.min(), u.max()])).item()
    straight, curved = residual @ residual, ((v - parabola(u)) ** 2).sum()
    if straight <= floor:
        return drift, 1.0
    freedom = len(u) - 3
    ratio = (straight - curved) / max(curved, floor) * freedom
    return drift, float(f_distribution.sf(ratio, 1, freedom))
