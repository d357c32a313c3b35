"""One look for every figure, and alternative text with each.

Measurements are coloured, theory is black and dashed, on every page.
"""

import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from IPython import get_ipython
from IPython.display import publish_display_data
from PIL import Image

from learning_mechanics import _checks

THEORY = {"color": "black", "linestyle": "--", "linewidth": 1.1, "zorder": 3}

# Okabe and Ito's colours, told apart by colour-blind readers as well.
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"]

_STYLE = {
    "axes.grid": True,
    "axes.prop_cycle": mpl.cycler(color=COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "font.size": 10,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.facecolor": "white",
}


def panels(
    rows: int = 1, columns: int = 1, height: float = 3.2, **options
) -> tuple[plt.Figure, np.ndarray]:
    """Make a figure of the book's width and look.

    Parameters
    ----------
    rows, columns : int
        Number of panels.
    height : float
        Height of one row in inches; the width is 7.2 inches.
    **options
        Passed to ``matplotlib.pyplot.subplots``, e.g. ``sharey=True``.

    Returns
    -------
    figure : matplotlib.figure.Figure
        The figure.
    axes : numpy.ndarray
        Its panels, [rows * columns], in reading order.

    Raises
    ------
    ValueError
        If a number is not positive.

    Examples
    --------
    >>> figure, axes = panels(1, 2)
    >>> len(axes)
    2
    >>> plt.close(figure)
    """
    _checks.integer("rows", rows, 1)
    _checks.integer("columns", columns, 1)
    _checks.positive("height", height)
    mpl.rcParams.update(_STYLE)
    # Closed at once, so that only `show` displays it.
    with plt.ioff():
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(7.2, height * rows),
            squeeze=False,
            **options,
        )
    return figure, axes.ravel()


def shades(count: int) -> np.ndarray:
    """Return `count` ordered colours, from dark to light.

    Parameters
    ----------
    count : int
        How many, at least 1.

    Returns
    -------
    numpy.ndarray
        RGBA rows, [count, 4].

    Raises
    ------
    ValueError
        If `count` is not such a number.

    Examples
    --------
    >>> shades(3).shape
    (3, 4)
    """
    _checks.integer("count", count, 1)
    return mpl.colormaps["viridis"](np.linspace(0.0, 0.85, count))


def show(figure: plt.Figure, alt: str) -> None:
    """Display a figure with alternative text, and close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    alt : str
        What a reader who cannot see it needs to know: axes, curves, and the
        finding.

    Raises
    ------
    TypeError, ValueError
        If `figure` is none; if `alt` is no text or empty.

    Examples
    --------
    >>> figure, axes = panels()
    >>> show(figure, alt="An empty panel.")
    An empty panel.
    """
    if not isinstance(figure, plt.Figure):
        raise TypeError(f"figure={figure!r}; allowed: a matplotlib figure")
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt={alt!r}; allowed: a description of the figure")
    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png")
    plt.close(figure)
    # A palette of 256 colours makes the file about three times smaller.
    Image.open(raw).convert("RGB").quantize(256).save(
        small, format="PNG", optimize=True
    )
    if get_ipython() is None:  # publishing would start an IPython
        print(alt)
        return
    publish_display_data(
        {"image/png": small.getvalue(), "text/plain": alt},
        metadata={"image/png": {"alt": alt}},
    )
