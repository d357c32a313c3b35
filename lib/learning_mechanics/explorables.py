"""Figures that a slider moves, on a page without a kernel or a network.

Every frame is drawn beforehand and travels in the notebook's output. Where
no script runs, as in print or on GitHub, the frame at the start is left.
`live` is the same figure with a kernel behind it: it computes what is picked.
"""

import base64
import hashlib
import html
import io
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from PIL import Image

from learning_mechanics import figures

BYTES = 200_000  # of one explorable, as HTML
COLORS = 64  # of what differs between two frames
NOTE = "Run this cell in Jupyter or Colab to train the network yourself."

# The controls are made by the script: where it does not run, none are dead.
_SCRIPT = """\
const make = (tag, fields) =>
  Object.assign(document.createElement(tag), fields);
const root = document.querySelector(`#${id}:not([data-ready])`);
if (!root) return;
root.dataset.ready = "";
// Frames are transparent where they are like the one at the start.
const image = root.querySelector("img");
image.id = `${id}-frame`;
const still = make("img", {src: image.src});
const layers = frames.map((src) => make("img", {src}));
await Promise.all([still, ...layers].map((layer) => layer.decode()));
const canvas = make("canvas", {width: still.naturalWidth,
  height: still.naturalHeight});
const pen = canvas.getContext("2d");
const at = [...start];
const index = () => at.reduce((i, k, n) => i * sliders[n].texts.length + k, 0);
root.append(make("style", {textContent: `
.explorable img {height: auto; max-width: 100%}
.explorable div {align-items: center; display: flex; flex-wrap: wrap;
  font: 1rem/1.5 system-ui, sans-serif; gap: 0 1rem; max-width: 45rem}
.explorable input {accent-color: #0080c8; flex: 1 1 10rem; height: 2rem;
  margin: 0; min-width: 0}
.explorable output {flex: 0 0 5.5em; font-variant-numeric: tabular-nums}
.explorable button {background: none; border: 1px solid; border-radius: 4px;
  color: inherit; font: inherit; padding: 0 0.75rem}
.explorable :is(button, input):focus-visible {
  outline: 2px solid; outline-offset: 2px}
@media (width < 600px) {
  .explorable :is(label, input, output) {flex: 1 0 auto}
  .explorable input {flex-basis: 100%; order: 1}
  .explorable output {text-align: right}}
@media print {.explorable :is(button, input) {display: none}}
@media (prefers-reduced-motion: reduce) {.explorable button {display: none}}
`}));
let timer = 0;
const button = make("button", {type: "button", textContent: "Play"});
const rows = sliders.map(({name, texts}, n) => {
  const input = make("input", {type: "range", id: `${id}-${n}`, min: 0,
    max: texts.length - 1, value: at[n]});
  const label = make("label", {htmlFor: input.id, textContent: name});
  input.setAttribute("aria-describedby", image.id);
  const output = make("output", {htmlFor: input.id});
  output.setAttribute("aria-live", "off");  // the slider says its value
  const row = make("div", {});
  row.append(label, input, output);
  root.append(row);
  input.oninput = () => {
    stop();
    at[n] = input.valueAsNumber;
    update();
  };
  return {input, output, texts, row};
});
const update = () => {
  rows.forEach(({input, output, texts}, n) => {
    input.value = at[n];
    input.setAttribute("aria-valuetext", texts[at[n]]);
    output.value = texts[at[n]];
  });
  pen.drawImage(still, 0, 0);
  pen.drawImage(layers[index()], 0, 0);
  image.src = canvas.toDataURL();
  image.alt = alts[index()];
};
const stop = () => {
  clearInterval(timer);
  timer = 0;
  button.textContent = "Play";
};
const last = sliders[0].texts.length - 1;
button.onclick = () => {
  if (timer) {
    stop();
    return update();
  }
  if (at[0] === last) at[0] = -1;
  button.textContent = "Pause";
  timer = setInterval(() => {
    at[0] += 1;
    if (at[0] === last) stop();
    update();
  }, 300);
};
if (play) rows[0].row.prepend(button);
update();
"""


def show(
    draw: Callable[..., tuple[plt.Figure, str]],
    sliders: Mapping[str, Sequence],
    *,
    start: Sequence | None = None,
    play: bool = False,
) -> None:
    """Display one figure for each value of one or two sliders.

    Parameters
    ----------
    draw : callable
        Takes one value of each slider and returns the figure and its
        alternative text. The panels of all frames get common limits.
    sliders : mapping of str to sequence
        What each slider is called, with the format of its value in braces
        and the unit behind them, and its values in order:
        ``{"width {} units": [64, 128]}``.
    start : sequence, optional
        One value of each slider: the frame that is seen first, in print, and
        where no script runs. The first of each if left out.
    play : bool
        Whether a button plays the first slider's frames: for motion, where
        that slider is time.

    Raises
    ------
    TypeError
        If `draw` returns anything but a figure and a text.
    ValueError
        If an argument is not as described, the frames differ in size or in
        their panels, or all of them together exceed 200 kB.

    Examples
    --------
    >>> def draw(power):
    ...     x = np.linspace(0, 1, 50)
    ...     figure, (axis,) = figures.panels()
    ...     axis.plot(x, x**power)
    ...     return figure, f"x to the power {power} rises from 0 to 1."
    >>> show(draw, {"power {:g}": [1, 2, 3]}, start=[2])
    x to the power 2 rises from 0 to 1.
    """
    texts = _texts(sliders)
    values = [list(column) for column in sliders.values()]
    first = _position(values, start)
    drawn = [_frame(draw, point) for point in itertools.product(*values)]
    _share_limits([figure for figure, _ in drawn])
    images = [figures.pixels(figure) for figure, _ in drawn]
    alts = [alt for _, alt in drawn]
    index = int(np.ravel_multi_index(first, [len(v) for v in values]))
    still = figures.png(images[index])
    data = {
        "id": f"explorable-{_digest(draw, texts)}",
        "sliders": [{"name": n, "texts": t} for n, t in texts.items()],
        "start": first,
        "play": bool(play),
        "alts": alts,
        "frames": [_url(_overlay(image, images[index])) for image in images],
    }
    markup = _html(data, still, alts[index], images[index].size)
    if (size := len(markup.encode())) > BYTES:
        raise ValueError(
            f"sliders: {len(images)} frames take {size} bytes; allowed: "
            f"{BYTES}; have fewer values, lower panels or fewer curves"
        )
    figures.publish(still, alts[index], markup)


def live(
    draw: Callable[..., tuple[plt.Figure, str]],
    sliders: Mapping[str, Sequence],
) -> None:
    """Display a figure that is computed anew for each value picked.

    Its cell is tagged ``live``. Where the environment variable ``CI`` is
    set, or there is no kernel, nobody can pick: one line says where to run
    the cell.

    Parameters
    ----------
    draw : callable
        As for `show`; it may take a second or two.
    sliders : mapping of str to sequence
        As for `show`, with as many values as there is reason to try; the
        first ones are drawn at once.

    Raises
    ------
    ImportError
        If ipywidgets is not installed.
    ValueError
        If `sliders` is not as described.

    Examples
    --------
    >>> live(lambda width: ..., {"width {} units": range(8, 129)})
    Run this cell in Jupyter or Colab to train the network yourself.
    """
    texts = _texts(sliders)
    if os.environ.get("CI") or figures.get_ipython() is None:
        print(NOTE)
        return
    try:
        import ipywidgets
    except ImportError as error:
        raise ImportError(
            "a live figure needs ipywidgets; run: pip install ipywidgets"
        ) from error
    pickers = {
        name: ipywidgets.SelectionSlider(
            options=list(zip(texts[name], sliders[key], strict=True)),
            description=name,
            continuous_update=False,  # train once, where the slider is left
            style={"description_width": "initial"},
            layout={"width": "32em", "max_width": "95%"},
        )
        for name, key in zip(texts, sliders, strict=True)
    }
    figure = ipywidgets.interactive_output(
        lambda **picked: figures.show(*_frame(draw, picked.values())), pickers
    )
    display(ipywidgets.VBox([*pickers.values(), figure]))


def _texts(sliders) -> dict[str, list[str]]:
    """Return what each slider is called and the text of each value."""
    if not isinstance(sliders, Mapping) or len(sliders) not in (1, 2):
        raise ValueError(
            f"sliders={sliders!r}; allowed: a mapping of one or two"
        )
    texts = {}
    for key, values in sliders.items():
        name, brace, rest = str(key).partition("{")
        if not name.strip() or not brace:
            raise ValueError(
                f"sliders: {key!r}; allowed: a name with the format of its "
                "value, such as 'width {} units'"
            )
        try:
            written = [(brace + rest).format(value) for value in values]
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"sliders: {key!r} with {values!r}: {error}; allowed: a "
                "format that suits each value"
            ) from error
        if len(written) < 2 or len(set(written)) < len(written):
            raise ValueError(
                f"sliders: {key!r} reads {written}; allowed: two or more "
                "values, each with a text of its own"
            )
        texts[name.strip()] = written
    return texts


def _position(values: list[list], start) -> tuple[int, ...]:
    """Return which value of each slider is the start."""
    if start is None:
        return (0,) * len(values)
    try:
        return tuple(
            column.index(value)
            for column, value in zip(values, start, strict=True)
        )
    except (TypeError, ValueError):
        raise ValueError(
            f"start={start!r}; allowed: one value of each slider, {values}"
        ) from None


def _frame(draw, point) -> tuple[plt.Figure, str]:
    """Draw one frame, and see that it is one."""
    point = tuple(point)
    drawn = draw(*point)
    try:
        figure, alt = drawn
        right = isinstance(figure, plt.Figure) and bool(alt.strip())
    except (AttributeError, TypeError, ValueError):
        right = False
    if not right:
        raise TypeError(
            f"draw{point} returned {drawn!r}; allowed: a figure and its "
            "alternative text"
        )
    plt.close(figure)  # many open figures would be a warning
    return figure, alt


def _share_limits(drawn: list[plt.Figure]) -> None:
    """Give each panel the same limits in all frames: the widest."""
    panels = [figure.axes for figure in drawn]
    sizes = {(len(f.axes), *f.get_size_inches(), f.dpi) for f in drawn}
    if len(sizes) > 1:
        raise ValueError(
            "draw: figures differ in size or number of panels; allowed: all "
            "alike"
        )
    for axis in "xy":
        limits = np.array(
            [[getattr(a, f"get_{axis}lim")() for a in row] for row in panels]
        )  # [frames, panels, 2]
        low, high = limits.min(axis=(0, 2)), limits.max(axis=(0, 2))
        for row in panels:
            for i, panel in enumerate(row):
                ends = (low[i], high[i])
                inverted = getattr(panel, f"{axis}axis_inverted")()
                getattr(panel, f"set_{axis}lim")(
                    ends[:: -1 if inverted else 1]
                )


def _digest(draw, texts: dict[str, list[str]]) -> str:
    """Return what tells this explorable from others, in every run alike.

    Pixels are left out: they depend on the processor.
    """
    name = getattr(draw, "__name__", "")
    return hashlib.sha256(repr((name, texts)).encode()).hexdigest()[:8]


def _overlay(image: Image.Image, base: Image.Image) -> bytes:
    """Return a PNG of what differs from `base`, transparent elsewhere."""
    after, before = np.asarray(image), np.asarray(base)
    same = (after == before).all(-1)
    changed = np.where(same[..., None], np.uint8(255), after)
    # Each colour counts once, or thin lines would get those of large areas.
    colors = np.unique(changed.reshape(-1, 3), axis=0)[None]  # [1, n, 3]
    palette = Image.fromarray(colors).quantize(COLORS - 2).getpalette()
    # What is erased shall be white, and the nearest to white is a grey.
    palette = [255 if part > 247 else part for part in palette]
    palette = (palette + [255] * 3 * COLORS)[: 3 * COLORS]
    chosen = Image.new("P", (1, 1))
    chosen.putpalette(palette)
    index = Image.fromarray(changed).quantize(
        palette=chosen, dither=Image.Dither.NONE
    )
    overlay = Image.fromarray(
        np.where(same, np.uint8(COLORS - 1), np.asarray(index)), mode="P"
    )
    overlay.putpalette(palette)
    file = io.BytesIO()
    overlay.save(file, "PNG", optimize=True, transparency=COLORS - 1)
    return file.getvalue()


def _url(png: bytes) -> str:
    """Return an image as an address that needs no network."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _html(data: dict, still: bytes, alt: str, size: tuple[int, int]) -> str:
    """Return the frame at the start, and a script that has the others."""
    # No "<" of a text may end the script.
    stored = json.dumps(data, ensure_ascii=False).replace("<", r"\u003c")
    return (
        f'<div class="explorable" id="{data["id"]}" '
        'data-lm-suppress-shortcuts="true">\n'
        f'<img src="{_url(still)}" alt="{html.escape(alt)}" '
        f'width="{size[0]}" height="{size[1]}">\n</div>\n'
        "<script>\n(async ({id, sliders, start, play, alts, frames}) => {\n"
        f"{_SCRIPT}}})({stored});\n</script>"
    )
