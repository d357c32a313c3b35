"""Explorables: what is stored, and what a browser makes of it."""

import base64
import io
import json
import os
import re
import shutil
import sys
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from learning_mechanics import explorables, figures

X = np.linspace(0, 1, 50)


def draw(power, height=1.0):
    figure, (axis,) = figures.panels(height=2)
    axis.plot(X, height * X**power)
    axis.set(title=f"power {power}")
    return figure, f"A <curve> to the power {power}, {height} high."


ONE = {"power {:g}": [1, 2, 3]}
TWO = {"power {:g}": [1, 2, 3], "height {:g} cm": [1.0, 2.0]}


class Outline(HTMLParser):
    """The elements of a page, each with its attributes; checks nesting."""

    def __init__(self):
        super().__init__()
        self.found, self.open, self.script = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open == ["script"]:
            self.script += data


@pytest.fixture
def markup(shown):
    """Return the HTML of an explorable of two sliders."""
    explorables.show(draw, TWO, start=[2, 1.0], play=True)
    return shown[0][0]["text/html"]


def outline(markup):
    parser = Outline()
    parser.feed(markup)
    parser.close()
    assert not parser.open
    return parser


def stored(markup):
    """Return the data that the script has."""
    data = re.search(r"\}\)\((\{.*\})\);\n</script>", markup)[1]
    return json.loads(data)


def image(source):
    kind, data = source.split(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_page_holds_a_still_and_no_dead_slider(markup):
    page = outline(markup)
    assert [tag for tag, _ in page.found] == ["div", "img", "script"]
    still = page.found[1][1]
    assert still["alt"] == "A <curve> to the power 2, 1.0 high."
    size = image(still["src"]).size
    assert size == (int(still["width"]), int(still["height"])) == (792, 220)
    assert not re.search(r"https?:|\bsrc=\"(?!data:)", markup)


def test_the_still_is_also_an_image_with_a_text(shown):
    explorables.show(draw, ONE, start=[3])
    data, metadata = shown[0]
    alt = "A <curve> to the power 3, 1.0 high."
    assert data["text/plain"] == metadata["image/png"]["alt"] == alt
    assert base64.b64encode(data["image/png"]).decode() in data["text/html"]
    pixels = Image.open(io.BytesIO(data["image/png"])).convert("RGBA")
    assert pixels.getchannel("A").getextrema() == (255, 255)


def test_a_frame_over_the_still_is_what_was_drawn(markup):
    """Compare with each frame drawn alone, with the limits of all."""
    base = image(outline(markup).found[1][1]["src"]).convert("RGBA")
    frames = stored(markup)["frames"]
    assert len(frames) == 6
    for source, (power, height) in zip(
        frames, [(p, h) for p in (1, 2, 3) for h in (1.0, 2.0)], strict=True
    ):
        figure, _ = draw(power, height)
        figure.axes[0].set(xlim=(-0.05, 1.05), ylim=(-0.1, 2.1))
        alone = np.asarray(figures.pixels(figure), dtype=int)
        seen = Image.alpha_composite(base, image(source).convert("RGBA"))
        seen = np.asarray(seen.convert("RGB"), dtype=int)
        # The palettes of still and frame may move a colour a little.
        assert np.abs(seen - alone).mean() < 0.2
        assert (np.abs(seen - alone).max(-1) > 32).mean() < 0.005


def test_every_frame_has_its_texts_in_order(markup):
    data = stored(markup)
    assert data["sliders"] == [
        {"name": "power", "texts": ["1", "2", "3"]},
        {"name": "height", "texts": ["1 cm", "2 cm"]},
    ]
    assert data["start"] == [1, 0]
    assert data["play"] is True
    assert data["alts"][3] == "A <curve> to the power 2, 2.0 high."


def test_a_second_run_stores_the_same(shown):
    explorables.show(draw, ONE)
    explorables.show(draw, ONE)
    assert shown[0] == shown[1]


def test_ids_differ_within_a_page_and_do_not_depend_on_pixels(shown):
    def wide(power):
        plt.close("all")
        figure, _ = figures.panels(height=1)
        return figure, "Empty."

    other = {"power {:g}": [1, 2]}
    for function, sliders in ((draw, ONE), (draw, other), (wide, ONE)):
        explorables.show(function, sliders)
    wide.__name__ = "draw"
    explorables.show(wide, ONE)
    ids = [stored(data["text/html"])["id"] for data, _ in shown]
    assert len(set(ids[:3])) == 3
    assert ids[3] == ids[0]


def test_too_large_is_an_error_that_says_what_to_reduce(shown):
    def noise(seed):
        figure, (axis,) = figures.panels(height=4)
        axis.imshow(np.random.default_rng(seed).random((300, 500)))
        return figure, "Noise."

    with pytest.raises(ValueError, match="3 frames take .*allowed: 200000; h"):
        explorables.show(noise, {"seed {}": range(3)})
    assert not shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sliders": {}}, "sliders={}; allowed: a mapping of one or two"),
        ({"sliders": ["power"]}, "sliders=.*allowed: a mapping"),
        ({"sliders": {k: [1, 2] for k in "abc"}}, "mapping of one or two"),
        ({"sliders": {"power": [1, 2]}}, "'power'; allowed: a name with the"),
        ({"sliders": {"{:g}": [1, 2]}}, "'{:g}'; allowed: a name with the"),
        ({"sliders": {"power {:g}": ["a", "b"]}}, "format that suits each"),
        ({"sliders": {"power {x}": [1, 2]}}, "allowed: a format that suits"),
        ({"sliders": {"power {:g}": 3}}, "'power {:g}' with 3"),
        ({"sliders": {"power {:g}": [1]}}, "reads .* two or more values"),
        ({"sliders": {"power {:.0f}": [1, 1.1]}}, "a text of its own"),
        ({"start": [4]}, r"start=\[4\]; allowed: one value of each slider"),
        ({"start": [1, 2]}, "start=.*allowed"),
        ({"start": 2}, "start=2; allowed"),
        ({"draw": lambda p: figures.panels(height=p)[0]}, "figure and its"),
        ({"draw": lambda p: ("Text.", figures.panels()[0])}, "figure and its"),
        ({"draw": lambda p: (figures.panels()[0], " ")}, "alternative text"),
        ({"draw": lambda p: (figures.panels(height=p)[0], "a")}, "in size"),
        ({"draw": lambda p: (figures.panels(1, p)[0], "a")}, "panels; allow"),
    ],
)
def test_bad_input_is_named(changes, words, shown):
    given = {"draw": draw, "sliders": ONE} | changes
    with pytest.raises((ValueError, TypeError), match=words):
        explorables.show(**given)
    plt.close("all")
    assert not shown


def test_an_inverted_axis_stays_inverted():
    drawn = [figures.panels()[0] for _ in range(2)]
    drawn[0].axes[0].set(ylim=(3, 0), xlim=(0, 1))
    drawn[1].axes[0].set(ylim=(4, 1), xlim=(-1, 0.5))
    explorables._share_limits(drawn)
    for figure in drawn:
        assert figure.axes[0].get_ylim() == (4, 0)
        assert figure.axes[0].get_xlim() == (-1, 1)
        plt.close(figure)


def test_live_says_where_to_run_it(monkeypatch, capsys):
    monkeypatch.setattr(figures, "get_ipython", lambda: object())
    monkeypatch.setenv("CI", "true")
    explorables.live(draw, ONE)
    assert capsys.readouterr().out == explorables.NOTE + "\n"
    with pytest.raises(ValueError, match="sliders"):
        explorables.live(draw, {})


def test_live_names_what_it_needs(monkeypatch):
    monkeypatch.setattr(figures, "get_ipython", lambda: object())
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError, match="pip install ipywidgets"):
        explorables.live(draw, ONE)


def test_live_computes_what_is_picked(monkeypatch):
    """Move the slider as a front end would, by its value."""
    widgets = pytest.importorskip("ipywidgets")
    boxes, drawn = [], []
    monkeypatch.setattr(figures, "get_ipython", lambda: object())
    monkeypatch.setattr(
        figures, "publish_display_data", lambda data, metadata: None
    )
    monkeypatch.setattr(explorables, "display", boxes.append)
    monkeypatch.delenv("CI", raising=False)

    def watched(power, height):
        drawn.append((power, height))
        return draw(power, height)

    explorables.live(watched, TWO)
    power, height, figure = boxes[0].children
    assert isinstance(figure, widgets.Output)
    power.value = 3
    height.label = "2 cm"
    assert drawn == [(1, 1.0), (3, 1.0), (3, 2.0)]


@pytest.fixture(scope="module")
def browser():
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    # Stopped with the module: its event loop would be in the others' way.
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM") or shutil.which("chromium")
        yield playwright.chromium.launch(executable_path=path, args=arguments)


@pytest.fixture
def opened(browser, markup):
    """Open a page with the explorable; options are those of the browser."""
    contexts = []

    def opened(copies=1, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_content(f"<!doctype html><main>{markup * copies}</main>")
        if options.get("java_script_enabled", True):
            page.wait_for_selector("input")
        return page

    yield opened
    for context in contexts:
        context.close()


def test_the_keyboard_moves_the_figure(opened):
    page = opened()
    power, height = page.locator("input").all()
    figure = page.locator("img")
    assert page.get_by_label("height").count() == 1
    page.keyboard.press("Tab")  # the button
    page.keyboard.press("Tab")
    before = figure.screenshot()
    page.keyboard.press("End")
    assert power.get_attribute("aria-valuetext") == "3"
    assert figure.get_attribute("alt") == "A <curve> to the power 3, 1.0 high."
    after = figure.screenshot()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert height.get_attribute("aria-valuetext") == "2 cm"
    assert page.locator("output").all_inner_texts() == ["3", "2 cm"]
    assert len({before, after, figure.screenshot()}) == 3
    page.keyboard.press("ArrowLeft")
    power.press("Home")
    power.press("ArrowRight")
    assert figure.screenshot() == before


def test_it_plays_to_the_end_and_pauses(opened):
    page = opened()
    page.clock.install()
    button, power = page.get_by_role("button"), page.locator("input").first
    button.click()
    assert button.inner_text() == "Pause"
    page.clock.run_for(310)
    assert power.input_value() == "2"  # the last
    assert button.inner_text() == "Play"
    button.click()  # from the first
    page.clock.run_for(310)
    button.click()
    assert button.inner_text() == "Play"
    page.clock.run_for(2000)
    assert power.get_attribute("aria-valuetext") == "1"
    assert page.locator("output").first.inner_text() == "1"


def test_nothing_plays_unasked(opened):
    page = opened()
    page.clock.install()
    page.clock.run_for(5000)
    assert page.locator("input").first.input_value() == "1"
    assert not opened(reduced_motion="reduce").get_by_role("button").count()


def test_without_scripts_only_the_still_is_left(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("img").is_visible()
    assert page.locator("main *:visible").count() == 2  # its box, and it


def test_print_has_the_figure_and_its_values_but_no_controls(opened):
    page = opened()
    page.emulate_media(media="print")
    assert page.locator("img").is_visible()
    assert page.locator("output").first.is_visible()
    assert not page.locator("input:visible, button:visible").count()


def test_a_narrow_page_does_not_overflow(opened):
    page = opened(viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [
        row.bounding_box() for row in page.locator(".explorable > div").all()
    ]
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]


def test_each_copy_on_a_page_moves_alone(opened):
    page = opened(copies=2)
    assert page.locator("input").count() == 4
    page.locator("input").nth(2).press("End")
    alts = [image.get_attribute("alt") for image in page.locator("img").all()]
    assert alts[0] != alts[1]
