"""Argument checks and warnings that more than one module needs.

A check raises an error that names the argument, what was given and what is
allowed, and returns nothing. PyTorch is not loaded for them.
"""

import math
import warnings
from numbers import Integral

import numpy as np


def positive(name: str, values) -> None:
    """Raise unless every value is a positive finite number.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    values : array_like
        One number or many.

    Raises
    ------
    ValueError
        If a value is zero, negative, NaN or infinite, or there is none.

    Examples
    --------
    >>> positive("scale", -1.0)
    Traceback (most recent call last):
    ...
    ValueError: scale=-1.0; allowed: positive finite numbers
    """
    array = np.asarray(values, dtype=float)
    if not (array.size and np.isfinite(array).all() and (array > 0).all()):
        raise ValueError(
            f"{name}={array.tolist()}; allowed: positive finite numbers"
        )


def non_negative(name: str, value: float) -> None:
    """Raise a ValueError unless a number is finite and at least 0."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}={value}; allowed: finite, at least 0")


def integer(name: str, value: int, least: int, most: int | None = None):
    """Raise a ValueError unless `value` is an integer in the range."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        end = "" if most is None else f" to {most}"
        raise ValueError(
            f"{name}={value!r}; allowed: integers from {least}{end}"
        )


def real(name: str, value) -> None:
    """Raise a TypeError unless `value` is a tensor of float32 or float64."""
    kind = str(getattr(value, "dtype", type(value).__name__))
    if kind not in ("torch.float32", "torch.float64"):
        raise TypeError(
            f"{name} is {kind}; allowed: a tensor of float32 or float64"
        )


def tensor(name: str, value, ndim: int) -> None:
    """Raise unless a tensor is real, finite, not empty and has `ndim` axes.

    The error is a TypeError as by `real`, and otherwise a ValueError.
    """
    real(name, value)
    if value.ndim != ndim or not value.numel():
        raise ValueError(
            f"{name} of shape {list(value.shape)}; allowed: {ndim} axes, "
            "none of them empty"
        )
    if not value.isfinite().all():
        raise ValueError(f"{name} has NaN or infinity; allowed: finite values")


def alike(name: str, value, other_name: str, other) -> None:
    """Raise a ValueError unless two tensors share their type and device.

    Anything with ``dtype`` and ``device`` will do.
    """
    if (value.dtype, value.device) != (other.dtype, other.device):
        raise ValueError(
            f"{name} is {value.dtype} on {value.device}; allowed: as "
            f"{other_name}, {other.dtype} on {other.device}"
        )


def square(name: str, matrix) -> None:
    """Raise a ValueError unless a matrix or operator has a shape [p, p]."""
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"{name} has shape {list(matrix.shape)}; allowed: [p, p]"
        )


def fits(name: str, vector, operator) -> None:
    """Raise a ValueError unless `operator` [p, p] can multiply `vector`."""
    if list(vector.shape) != [operator.shape[0]]:
        raise ValueError(
            f"{name} has shape {list(vector.shape)}; allowed: "
            f"{[operator.shape[0]]}"
        )
    alike(name, vector, "the operator", operator)


def generator(name: str, value) -> None:
    """Raise a TypeError unless `value` is a torch.Generator on the CPU.

    None would pass for PyTorch's global stream, which nobody seeded.
    """
    device = str(getattr(value, "device", None))
    if type(value).__name__ != "Generator" or device != "cpu":
        raise TypeError(
            f"{name}={value!r}; allowed: a torch.Generator on the CPU"
        )


def warn(module: str, message: str) -> None:
    """Issue a UserWarning that reads the same wherever the code stands.

    The usual place, file and line, would differ between two machines, and in
    a notebook between two runs of one cell.
    """
    warnings.warn_explicit(
        message, UserWarning, f"learning_mechanics.{module}", 0
    )
