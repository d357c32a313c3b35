import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

from learning_mechanics import figures


def test_show_stores_a_small_opaque_png_with_alt_text(shown):
    figure, (axis,) = figures.panels()
    axis.plot([0, 1], label="curve")
    figures.show(figure, alt="A rising line.")
    data, metadata = shown[0]
    image = Image.open(io.BytesIO(data["image/png"]))
    assert image.format == "PNG"
    assert image.convert("RGBA").getchannel("A").getextrema() == (255, 255)
    assert len(data["image/png"]) < 30_000
    assert data["text/plain"] == "A rising line."
    assert metadata["image/png"]["alt"] == "A rising line."


def test_show_closes_the_figure(shown):
    figure, _ = figures.panels()
    figures.show(figure, alt="Empty.")
    assert not plt.fignum_exists(figure.number)


def test_show_refuses_an_empty_alt(shown):
    figure, _ = figures.panels()
    for alt in (" ", None):
        with pytest.raises(ValueError, match="alt=.*allowed"):
            figures.show(figure, alt=alt)
    with pytest.raises(TypeError, match="figure=.*allowed"):
        figures.show(figure.axes, alt="Empty.")
    plt.close(figure)
    assert not shown


def test_sizes_must_be_positive():
    for make, size in (
        (figures.shades, {"count": 0}),
        (figures.panels, {"rows": 0}),
        (figures.panels, {"columns": 1.5}),
        (figures.panels, {"height": 0}),
    ):
        with pytest.raises(ValueError, match=f"{next(iter(size))}=.*allowed"):
            make(**size)


def test_outside_a_notebook_the_text_is_printed(capsys):
    figure, _ = figures.panels()
    figures.show(figure, alt="Empty.")
    assert capsys.readouterr().out == "Empty.\n"
    assert not InteractiveShell.initialized()


def test_panels_come_in_reading_order():
    figure, axes = figures.panels(2, 3)
    rows = [axis.get_subplotspec().rowspan.start for axis in axes]
    assert rows == [0, 0, 0, 1, 1, 1]
    plt.close(figure)


def test_curves_are_what_was_drawn():
    figure, (a, b) = figures.panels(1, 2)
    x = np.linspace(0, 1, 500)
    a.plot(x, x**2, label="square")
    a.plot([0, 1], [np.nan, np.inf])
    a.scatter([1, 2], [3, 4], label="dots")
    a.set(title="A", xlabel="x", ylabel="y")
    b.bar([0, 1], [5, 6], label="bars")
    b.imshow(np.arange(6.0).reshape(2, 3))
    first, second = figures.curves(figure)
    square, gone = first["lines"]
    assert (first["title"], first["x"], first["y"]) == ("A", "x", "y")
    assert square["label"] == "square"
    assert len(square["x"]) == 200
    assert (square["x"][0], square["x"][-1]) == (0, 1)
    np.testing.assert_allclose(
        square["y"], np.square(square["x"]), rtol=1e-3, atol=1e-9
    )
    assert gone == {"label": "", "x": [0, 1], "y": [None, None]}
    assert first["points"] == [{"label": "dots", "x": [1, 2], "y": [3, 4]}]
    assert second["bars"] == [{"label": "bars", "x": [0, 1], "y": [5, 6]}]
    assert second["images"] == [[[0, 1, 2], [3, 4, 5]]]
    assert "images" not in first
    plt.close(figure)
