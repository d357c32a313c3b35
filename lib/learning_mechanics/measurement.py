"""What is read off a network, during or after training."""

from itertools import chain

import numpy as np
import torch
from numpy.typing import ArrayLike

from learning_mechanics import _checks


def mode_strengths(
    linear_map: torch.Tensor, left: torch.Tensor, right: torch.Tensor
) -> torch.Tensor:
    r"""Strength :math:`s_\alpha=u_\alpha^\top M v_\alpha` of each mode.

    Parameters
    ----------
    linear_map : torch.Tensor
        M, [n_out, n_in]: a product of weights, or a network's best linear
        approximation.
    left, right : torch.Tensor
        Singular vectors of the task, [n_out, k] and [n_in, k].

    Returns
    -------
    torch.Tensor
        [k].

    Raises
    ------
    ValueError
        If the shapes, types or devices do not fit.

    Examples
    --------
    >>> eye = torch.eye(2)
    >>> mode_strengths(torch.tensor([[3.0, 1.0], [1.0, 2.0]]), eye, eye)
    tensor([3., 2.])
    """
    _fit("out in, out k, in k", linear_map=linear_map, left=left, right=right)
    return (left * (linear_map @ right)).sum(0)


def hidden_modes(
    first: torch.Tensor,
    second: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Return where each mode lives in the hidden space of two layers.

    Parameters
    ----------
    first, second : torch.Tensor
        :math:`W_1` [n_hidden, n_in] and :math:`W_2` [n_out, n_hidden].
    left, right : torch.Tensor
        Singular vectors of the task, [n_out, k] and [n_in, k].

    Returns
    -------
    writing, reading : torch.Tensor
        :math:`p_\alpha=W_1v_\alpha`, what the first layer writes for the
        mode, and :math:`q_\alpha=W_2^\top u_\alpha`, what the second reads:
        the columns of two matrices [n_hidden, k]. Their product
        :math:`q_\alpha^\top p_\alpha` is the mode's strength.

    Raises
    ------
    ValueError
        If the shapes, types or devices do not fit.

    Examples
    --------
    >>> eye = torch.eye(2)
    >>> p, q = hidden_modes(2 * eye, 3 * eye, eye, eye)
    >>> (q * p).sum(0)
    tensor([6., 6.])
    """
    _fit(
        "hidden in, out hidden, out k, in k",
        first=first, second=second, left=left, right=right,
    )  # fmt: skip
    return first @ right, second.T @ left


def balance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`W_2^\top W_2-W_1W_1^\top`, conserved by gradient flow.

    Parameters
    ----------
    first, second : torch.Tensor
        Neighbouring weights, [n_hidden, n_in] and [n_out, n_hidden]. Of a
        ReLU network only the diagonal is conserved, neuron by neuron.

    Returns
    -------
    torch.Tensor
        [n_hidden, n_hidden].

    Raises
    ------
    ValueError
        If the shapes, types or devices do not fit.

    Source
    ------
    Du, Hu and Lee (2018), arXiv:1806.00900.

    Examples
    --------
    >>> balance(torch.eye(2), 2 * torch.eye(2))
    tensor([[3., 0.],
            [0., 3.]])
    """
    _fit("hidden in, out hidden", first=first, second=second)
    return second.T @ second - first @ first.T


def crossing_time(
    time: ArrayLike, curves: ArrayLike, levels: ArrayLike
) -> np.ndarray:
    """First time at which each curve reaches its level, interpolated.

    Parameters
    ----------
    time : array_like
        Increasing, [m].
    curves : array_like
        One curve a column, [m, k].
    levels : array_like
        [k].

    Returns
    -------
    numpy.ndarray
        [k].

    Raises
    ------
    ValueError
        If a curve starts above its level or never reaches it (names which),
        a value is not finite, `time` does not increase or shapes do not fit.

    Examples
    --------
    >>> crossing_time([0.0, 1.0, 2.0], [[0.0], [1.0], [3.0]], [2.0]).tolist()
    [1.5]
    """
    time, curves, levels = (
        np.asarray(a, dtype=float) for a in (time, curves, levels)
    )
    if curves.ndim != 2 or time.shape + levels.shape != curves.shape:
        raise ValueError(
            f"time, curves, levels of shapes {time.shape}, {curves.shape}, "
            f"{levels.shape}; allowed: [m], [m, k], [k]"
        )
    if not all(np.isfinite(a).all() for a in (time, curves, levels)):
        raise ValueError("time, curves, levels; allowed: finite values")
    if (np.diff(time) <= 0).any() or not time.size:
        raise ValueError(f"time={time}; allowed: increasing values")
    reached = curves >= levels
    outside = np.flatnonzero(reached[0] | ~reached.any(0))
    if outside.size:
        raise ValueError(
            f"curves {outside.tolist()} do not cross their levels; allowed: "
            "curves that start below and come to reach them"
        )
    after = reached.argmax(0)
    column = np.arange(curves.shape[1])
    low, high = curves[after - 1, column], curves[after, column]
    part = (levels - low) / (high - low)
    return time[after - 1] + part * (time[after] - time[after - 1])


def _fit(axes: str, **tensors: torch.Tensor) -> None:
    """Raise unless axes of one name have one length, and all types agree."""
    names = [axis.split() for axis in axes.split(", ")]
    shapes = [list(tensor.shape) for tensor in tensors.values()]
    lengths = dict(zip(chain(*names), chain(*shapes), strict=False))
    if shapes != [[lengths.get(name) for name in some] for some in names]:
        raise ValueError(
            f"{', '.join(tensors)} of shapes {shapes}; allowed: [{axes}]"
        )
    (first, like), *others = tensors.items()
    for name, tensor in others:
        _checks.alike(name, tensor, first, like)
