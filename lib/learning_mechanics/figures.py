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

# Of a row of numbers, what `curves` keeps.
_KEPT = 200

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
    publish(png(pixels(figure)), alt)


def curves(figure: plt.Figure) -> list[dict]:
    """Return what a figure shows as numbers, to be stored or drawn again.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure, still open.

    Returns
    -------
    list of dict
        For each panel its ``title``, ``x`` and ``y``, the labels of its axes,
        and ``lines``, ``points``, ``bars`` and ``images``: those that it
        has. A line, a set of points or of bars is a dict of ``label``, ``x``
        and ``y``; an image is rows of values. Numbers have four digits, None
        stands for those that are not finite, and of more than 200 in a row
        an even choice is kept.

    Examples
    --------
    >>> figure, (panel,) = panels()
    >>> _ = panel.plot([0, 1], [2, 3], label="rise")
    >>> curves(figure)[0]["lines"]
    [{'label': 'rise', 'x': [0.0, 1.0], 'y': [2.0, 3.0]}]
    >>> plt.close(figure)
    """
    return [
        {"title": axes.get_title(), "x": axes.get_xlabel()}
        | {"y": axes.get_ylabel()}
        | {kind: found for kind, found in _drawn(axes).items() if found}
        for axes in figure.axes
    ]


def _drawn(axes: plt.Axes) -> dict[str, list]:
    scatters = [
        artist
        for artist in axes.collections
        if isinstance(artist, mpl.collections.PathCollection)
    ]
    return {
        "lines": [_series(line, *line.get_data(False)) for line in axes.lines],
        "points": [_series(s, *s.get_offsets().T) for s in scatters],
        "bars": [
            _series(
                bars,
                [bar.get_x() + bar.get_width() / 2 for bar in bars],
                [bar.get_height() for bar in bars],
            )
            for bars in axes.containers
            if isinstance(bars, mpl.container.BarContainer)
        ],
        "images": [
            [_numbers(row) for row in _thinned(image.get_array())]
            for image in axes.images
            if image.get_array().ndim == 2
        ],
    }


def _series(artist, x, y) -> dict:
    label = str(artist.get_label())
    return {
        "label": "" if label.startswith("_") else label,
        "x": _numbers(x),
        "y": _numbers(y),
    }


def _thinned(values) -> np.ndarray:
    values = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)
    last = len(values) - 1
    return values[np.linspace(0, last, min(last + 1, _KEPT)).astype(int)]


def _numbers(values) -> list[float | None]:
    return [
        float(f"{value:.4g}") if np.isfinite(value) else None
        for value in _thinned(values)
    ]


def pixels(figure: plt.Figure) -> Image.Image:
    """Return a figure as an opaque image, and close it.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.

    Returns
    -------
    PIL.Image.Image
        Red, green and blue.

    Examples
    --------
    >>> figure, axes = panels()
    >>> pixels(figure).size
    (792, 352)
    """
    raw = io.BytesIO()
    figure.savefig(raw, format="png")
    plt.close(figure)
    return Image.open(raw).convert("RGB")


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG file of 256 colours: a third of the size.

    Parameters
    ----------
    image : PIL.Image.Image
        Red, green and blue.

    Returns
    -------
    bytes
        The file.

    Examples
    --------
    >>> png(Image.new("RGB", (8, 8)))[1:4]
    b'PNG'
    """
    file = io.BytesIO()
    image.quantize(256).save(file, format="PNG", optimize=True)
    return file.getvalue()


def publish(image: bytes, alt: str, html: str | None = None) -> None:
    """Display an image with alternative text; outside a notebook, the text.

    Parameters
    ----------
    image : bytes
        The PNG file.
    alt : str
        Its alternative text.
    html : str, optional
        What is shown instead where HTML can be.

    Examples
    --------
    >>> figure, axes = panels()
    >>> publish(png(pixels(figure)), alt="An empty panel.")
    An empty panel.
    """
    if get_ipython() is None:  # publishing would start an IPython
        print(alt)
        return
    data = {"image/png": image, "text/plain": alt}
    publish_display_data(
        data if html is None else data | {"text/html": html},
        metadata={"image/png": {"alt": alt}},
    )
