"""Argument checks that more than one module needs."""

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
