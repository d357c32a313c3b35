r"""Exact dynamics of learning: theory only, no network is trained here.

Time t is learning rate times step. The loss is
:math:`\mathcal L=\tfrac12\|\Sigma_{yx}-W_L\cdots W_1\|_F^2`, that of whitened
inputs; another prefactor would rescale time.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import quad, solve_ivp
from scipy.special import expit

from learning_mechanics import _checks


def mode_strength(
    time: ArrayLike, strength: float, start: float, depth: int = 2
) -> np.ndarray:
    r"""Strength of one mode under gradient flow from an aligned start.

    Solves :math:`\dot s = L\,s^{2-2/L}(a-s)`, :math:`s(0)=s_0`: in closed
    form for one and two layers, numerically for more.

    Parameters
    ----------
    time : array_like
        Times :math:`t \ge 0`, increasing, [m].
    strength : float
        The task's singular value :math:`a>0`.
    start : float
        :math:`s_0`, between 0 and `strength`.
    depth : int
        Number of layers L, at least 1.

    Returns
    -------
    numpy.ndarray
        :math:`s(t)`, [m].

    Raises
    ------
    ValueError, FloatingPointError
        If an argument is out of its range; if double precision does not
        suffice for the largest `time` or the smallest `start`.

    Source
    ------
    Saxe et al. (2014), arXiv:1312.6120, for two layers; Arora et al.
    (2019), arXiv:1905.13655, for any depth.

    Examples
    --------
    >>> mode_strength([0.0, 1.0, 100.0], 2.0, 0.02).round(3).tolist()
    [0.02, 0.711, 2.0]
    """
    time = _times(time)
    _check_mode(strength, start, depth)
    if depth == 1:
        return strength - (strength - start) * np.exp(-time)
    # With x = s / a, u = ln(x / (1 - x)) and tau = L a^(2 - 2/L) t the
    # equation is du / dtau = x^(1 - 2/L), which is neither stiff nor scaled.
    u = np.log(start) - np.log(strength - start)
    with np.errstate(over="raise"):
        tau = depth * strength ** (2 - 2 / depth) * time
    if depth == 2:
        return strength * expit(u + tau)
    solution = solve_ivp(
        lambda _, u: expit(u) ** (1 - 2 / depth),
        (0.0, max(tau[-1], 1e-12)),
        [u],
        method="DOP853",
        t_eval=tau,
        rtol=1e-12,
        atol=1e-12,
    )
    if not solution.success:
        raise FloatingPointError(
            f"start={start} is lost in rounding; allowed: nearer to "
            f"strength={strength}"
        )
    return strength * expit(solution.y[0])


def half_rise_time(strength: float, start: float, depth: int = 2) -> float:
    r"""Time at which a mode reaches half its final strength.

    :math:`t_{1/2}=\int_{s_0}^{a/2}\frac{ds}{L\,s^{2-2/L}(a-s)}`, which is
    :math:`\ln(a/s_0-1)/2a` for two layers.

    Parameters
    ----------
    strength : float
        The task's singular value :math:`a>0`.
    start : float
        :math:`s_0`, between 0 and half of `strength`.
    depth : int
        Number of layers L, at least 1.

    Returns
    -------
    float
        :math:`t_{1/2}`.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Source
    ------
    Saxe et al. (2014), arXiv:1312.6120.

    Examples
    --------
    >>> half_rise_time(2.0, 0.02, depth=2)
    1.148779962...
    """
    _check_mode(strength, start, depth, part=0.5)
    begin = np.log(start) - np.log(strength - start)
    if depth == 2:
        return float(-begin / (2 * strength))
    # In u = ln(s / (a - s)), 0 at half, the integrand is smooth.
    integral, _ = quad(lambda u: expit(u) ** (2 / depth - 1), begin, 0)
    return integral / (depth * strength ** (2 - 2 / depth))


def half_rise_delay(
    strength: float, start: float, learning_rate: float, depth: int = 2
) -> float:
    r"""Delay of the half-rise time by a finite step, to first order.

    Each layer's share :math:`w=s^{1/L}` of the mode takes steps
    :math:`\eta g(w)` with :math:`g=w^{L-1}(a-w^L)`, which delays it by

    .. math:: \frac\eta2\ln\frac{g(w_{1/2})}{g(w_0)}
        =\frac\eta2\Bigl[\Bigl(1-\frac1L\Bigr)\ln\frac a{2s_0}
        -\ln\Bigl(2-\frac{2s_0}a\Bigr)\Bigr].

    Parameters
    ----------
    strength, start, depth
        As for `half_rise_time`.
    learning_rate : float
        The step :math:`\eta>0`.

    Returns
    -------
    float
        To be added to the half-rise time of gradient flow; in the same
        units, learning rate times step.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Source
    ------
    Backward error analysis as in Barrett and Dherin (2021),
    arXiv:2009.11162, applied to one mode.

    Examples
    --------
    >>> round(half_rise_delay(1.0, 1e-3, learning_rate=0.1), 3)
    0.121
    """
    _check_mode(strength, start, depth, part=0.5)
    _number("learning_rate", learning_rate)
    growth = (1 - 1 / depth) * np.log(strength / (2 * start))
    return float(
        learning_rate / 2 * (growth - np.log(2 * (1 - start / strength)))
    )


def coupled_mode_strengths(
    time: ArrayLike, strengths: ArrayLike, gram: ArrayLike
) -> np.ndarray:
    r"""Strengths of all modes of a balanced two-layer net, overlaps included.

    The modes' matrix :math:`K=P^\top P` obeys
    :math:`\dot K = AK + KA - 2K^2`, solved by

    .. math:: K(t)=\bigl[e^{-At}K_0^{-1}e^{-At}
              + A^{-1}(I-e^{-2At})\bigr]^{-1}.

    Parameters
    ----------
    time : array_like
        Times :math:`t\ge0`, increasing, [m].
    strengths : array_like
        The task's singular values, [k], positive.
    gram : array_like
        :math:`K_0`, [k, k], symmetric positive definite.

    Returns
    -------
    numpy.ndarray
        Diagonal of :math:`K(t)`, [m, k].

    Raises
    ------
    ValueError
        If `time` is not as above, a strength is not positive, the shapes do
        not fit or `gram` is not positive definite.

    Source
    ------
    The matrix Riccati solution of Fukumizu (1998); see Braun et al. (2022).

    Examples
    --------
    >>> alone = mode_strength([0.5], 2.0, 0.02)
    >>> among = coupled_mode_strengths([0.5], [2.0, 1.0],
    ...                                [[0.02, 0.0], [0.0, 0.02]])
    >>> bool(np.isclose(alone[0], among[0, 0]))
    True
    """
    a = np.asarray(strengths, dtype=float)
    gram = np.asarray(gram, dtype=float)
    _checks.positive("strengths", a)
    if a.ndim != 1 or gram.shape != 2 * a.shape:
        raise ValueError(
            f"strengths of shape {a.shape} and gram of shape {gram.shape}; "
            "allowed: [k] and [k, k]"
        )
    rounding = 1e-6 * np.abs(gram).max()
    if not (np.abs(gram - gram.T) <= rounding).all():
        raise ValueError(f"gram={gram.tolist()}; allowed: symmetric, finite")
    if np.linalg.eigvalsh(gram).min() <= 0:
        raise ValueError("gram is singular; allowed: positive definite")
    decay = np.exp(-np.multiply.outer(_times(time), a))
    inverse = decay[:, :, None] * np.linalg.inv(gram) * decay[:, None, :]
    inverse[:, range(len(a)), range(len(a))] += (1 - decay**2) / a
    return np.diagonal(np.linalg.inv(inverse), axis1=1, axis2=2)


def linear_flow(
    weights: list[np.ndarray], target: ArrayLike, time: ArrayLike
) -> list[np.ndarray]:
    r"""Integrate gradient flow of a two-layer linear network numerically.

    :math:`\dot W_1=W_2^\top E,\ \dot W_2=E\,W_1^\top` with
    :math:`E=\Sigma_{yx}-W_2W_1`, together with
    :math:`\dot D=\dot W_2^\top\dot W_2-\dot W_1\dot W_1^\top`, the rate at
    which a finite step breaks the conservation law.

    Parameters
    ----------
    weights : list of array_like
        :math:`W_1` [n_hidden, n_in] and :math:`W_2` [n_out, n_hidden].
    target : array_like
        :math:`\Sigma_{yx}`, [n_out, n_in].
    time : array_like
        Times :math:`t\ge0`, increasing, [m], one of them above 0.

    Returns
    -------
    first, second, drift : numpy.ndarray
        :math:`W_1`, :math:`W_2` and :math:`D` at these times, [m, ...].

    Raises
    ------
    ValueError
        If the shapes do not fit, or a value is not finite.

    Examples
    --------
    >>> first, second, _ = linear_flow([[[0.1]], [[0.1]]], [[1.0]], [0.0, 9.0])
    >>> (second[-1] @ first[-1]).round(4).item()
    1.0
    """
    target = np.asarray(target, dtype=float)
    weights = [np.asarray(w, dtype=float) for w in weights]
    shapes = [w.shape for w in weights]
    if [w.ndim for w in (*weights, target)] != [2, 2, 2] or shapes != [
        (shapes[0][0], target.shape[1]),
        (target.shape[0], shapes[0][0]),
    ]:
        raise ValueError(
            f"weights of shapes {shapes} and target of shape {target.shape}; "
            "allowed: [n_hidden, n_in], [n_out, n_hidden] and [n_out, n_in]"
        )
    if not all(np.isfinite(w).all() for w in (*weights, target)):
        raise ValueError("weights or target; allowed: finite values")
    time = _times(time)
    _checks.positive("time[-1]", time[-1])
    first, second = weights
    n_hidden = first.shape[0]
    shapes = (first.shape, second.shape, (n_hidden, n_hidden))
    edges = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])

    def unpack(flat: np.ndarray) -> list[np.ndarray]:
        return [
            flat[..., i:j].reshape(*flat.shape[:-1], *shape)
            for i, j, shape in zip(edges, edges[1:], shapes, strict=False)
        ]

    def velocity(_, flat: np.ndarray) -> np.ndarray:
        w1, w2, _ = unpack(flat)
        error = target - w2 @ w1
        v1, v2 = w2.T @ error, error @ w1.T
        drift = v2.T @ v2 - v1 @ v1.T
        return np.concatenate([v1.ravel(), v2.ravel(), drift.ravel()])

    begin = np.concatenate(
        [first.ravel(), second.ravel(), np.zeros(n_hidden**2)]
    )
    solution = solve_ivp(
        velocity,
        (0.0, time[-1]),
        begin,
        method="DOP853",
        t_eval=time,
        rtol=1e-9,
        atol=1e-12,
    )
    return unpack(solution.y.T)


def _times(time: ArrayLike) -> np.ndarray:
    """Return `time` as an array, or raise if it is not as promised."""
    t = np.asarray(time, dtype=float)
    if t.ndim != 1 or not t.size or not (np.isfinite(t) & (t >= 0)).all():
        raise ValueError(f"time={time}; allowed: finite values from 0, [m]")
    if (np.diff(t) <= 0).any():
        raise ValueError(f"time={time}; allowed: increasing values")
    return t


def _number(name: str, value: float) -> None:
    _checks.positive(name, value)
    if np.ndim(value):
        raise ValueError(f"{name}={value}; allowed: one number")


def _check_mode(strength, start, depth, part=1.0) -> None:
    _number("strength", strength)
    _number("start", start)
    _checks.integer("depth", depth, 1)
    if start >= part * strength:
        raise ValueError(
            f"start={start}; allowed: below {part * strength}, as "
            f"strength={strength}"
        )
