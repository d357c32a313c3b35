"""The rules of the book that a program can check.

A rule takes a notebook and the absolute path where it is, or would be, and
yields its problems, each one line: file, cell, what was found, what is
allowed. Rules on the repository as a whole take its root. ``PAGE`` holds for
every notebook, ``CHAPTER`` for those in a pillar's folder, ``APPENDIX`` for
all others, ``BOOK`` for the repository; ``tests/test_book.py`` applies them.
"""

import base64
import io
import os
import re
import statistics
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from nbformat import NotebookNode
from PIL import Image

import ledger
import prose
from learning_mechanics.explorables import BYTES as EXPLORABLE_BYTES
from pages import cells, outputs, root_of, tagged, tokens, where
from stamp import Identity, notebooks

LINES, MEDIAN, WIDTH = 30, 12, 79
IMAGE_BYTES = 61_440


def code_size(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that code cells are short, and so are their lines."""
    sizes = []
    for number, cell in cells(notebook, "code"):
        if tagged(cell, "install"):
            continue
        lines = cell.source.splitlines()
        sizes.append(len(lines))
        if len(lines) > LINES:
            yield (
                f"{where(path, number)}: {len(lines)} lines; allowed: {LINES}"
            )
        for line in lines:
            if len(line) > WIDTH:
                yield (
                    f"{where(path, number)}: a line of {len(line)} "
                    f"characters, {line[:30]!r}...; allowed: {WIDTH}"
                )
    if sizes and statistics.median(sizes) > MEDIAN:
        yield (
            f"{where(path)}: the median code cell has "
            f"{statistics.median(sizes):g} lines; allowed: {MEDIAN}"
        )


def images(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that images are opaque PNG, small, and have alt text."""
    for number, cell in cells(notebook, "markdown"):
        for token in tokens(cell.source):
            if token.type == "image" and not token.content.strip():
                yield f"{where(path, number)}: an image without alt text"
    for number, output in outputs(notebook):
        data = output.get("data", {})
        for tag in re.findall(r"<img\b[^>]*>", data.get("text/html", "")):
            if not re.search(r"\balt=\"[^\"]", tag):
                yield f"{where(path, number)}: an <img> without alt text"
        for kind in [mime for mime in data if mime.startswith("image/")]:
            if kind != "image/png":
                yield f"{where(path, number)}: {kind}; allowed: image/png"
                continue
            alt = output.metadata.get(kind, {}).get("alt", "")
            if not alt.strip():
                yield (
                    f"{where(path, number)}: an image without alt text in "
                    "its output's metadata; figures.show(fig, alt=...) "
                    "writes it"
                )
            png = base64.b64decode(data[kind])
            if len(png) > IMAGE_BYTES:
                yield (
                    f"{where(path, number)}: an image of {len(png)} bytes; "
                    f"allowed: {IMAGE_BYTES}"
                )
            with Image.open(io.BytesIO(png)) as image:
                alpha = image.convert("RGBA").getchannel("A")
            if alpha.getextrema()[0] < 255:
                yield (
                    f"{where(path, number)}: an image with transparent "
                    "pixels; allowed: opaque"
                )


def _explorables(notebook: NotebookNode) -> Iterator[tuple[int, str]]:
    """Yield the id of every explorable, with its cell's number."""
    for number, output in outputs(notebook):
        markup = output.get("data", {}).get("text/html", "")
        pattern = r'<div class="explorable" id="([^"]*)"'
        for name in re.findall(pattern, markup):
            yield number, name


def html_size(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that HTML is small, and that only explorables hold images."""
    moving = {number for number, _ in _explorables(notebook)}
    for number, output in outputs(notebook):
        markup = output.get("data", {}).get("text/html", "")
        limit = EXPLORABLE_BYTES if number in moving else IMAGE_BYTES
        if (size := len(markup.encode())) > limit:
            yield (
                f"{where(path, number)}: {size} bytes of HTML; allowed: "
                f"{limit}"
            )
        if number not in moving and "data:image" in markup:
            yield (
                f"{where(path, number)}: an image in HTML; allowed: "
                "figures.show(fig, alt=...), explorables.show(...)"
            )


def stills(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that explorables have a still image, and ids of their own."""
    seen = set()
    for number, name in _explorables(notebook):
        if name in seen:
            yield (
                f"{where(path, number)}: a second explorable {name!r}; "
                "allowed: other names of the function or the sliders"
            )
        seen.add(name)
    for number, output in outputs(notebook):
        data = output.get("data", {})
        if "explorable" in data.get("text/html", "") and (
            "image/png" not in data
        ):
            yield f"{where(path, number)}: an explorable without a still"


def explorable(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that a chapter has a figure that the reader moves."""
    if not any(_explorables(notebook)):
        yield f"{where(path)}: no explorable; see explorables.show"


def install_cell(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that the install cell is stamped and precedes every import."""
    found = [n for n, c in cells(notebook, "code") if tagged(c, "install")]
    if len(found) != 1:
        yield (
            f"{where(path)}: {len(found)} code cells with the tag 'install'; "
            "allowed: one"
        )
        return
    right = Identity.of(root_of(path)).install_cell
    if notebook.cells[found[0] - 1].source != right:
        yield f"{where(path, found[0])}: stale install cell; run: make stamp"
    for number, cell in cells(notebook, "code"):
        if number < found[0] and re.search(
            r"(?m)^\s*(?:from|import) +learning_mechanics\b", cell.source
        ):
            yield (
                f"{where(path, number)}: imports learning_mechanics before "
                f"the install cell, which is cell {found[0]}"
            )


def badge(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that the first cell has the stamped Colab badge on a line."""
    root = root_of(path)
    right = Identity.of(root).badge(path.relative_to(root))
    first = next(cells(notebook, "markdown"), (0, None))
    if first[0] != 1 or right not in first[1].source.split("\n"):
        yield f"{where(path, 1)}: has no line {right!r}; run: make stamp"


def executed(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that every code cell ran, in order, without error or stderr."""
    for count, (number, cell) in enumerate(cells(notebook, "code"), 1):
        if cell.execution_count != count:
            yield (
                f"{where(path, number)}: execution count "
                f"{cell.execution_count}; allowed: {count}; run: make execute"
            )
            break
    for number, output in outputs(notebook):
        if output.output_type == "error":
            yield f"{where(path, number)}: stored error {output.ename}"
        if output.get("name") == "stderr":
            yield f"{where(path, number)}: stderr {output.text[:60]!r}"


def stored_state(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that no widget state and no timing is stored."""
    if "widgets" in notebook.metadata:
        yield f"{where(path)}: widget state in the notebook's metadata"
    for number, cell in enumerate(notebook.cells, 1):
        for key in {"execution", "ExecuteTime"} & set(cell.metadata):
            yield f"{where(path, number)}: timing metadata {key!r}"
    for number, output in outputs(notebook):
        for mime in output.get("data", {}):
            if "jupyter.widget" in mime:
                yield f"{where(path, number)}: stored output {mime}"


def toc(root: Path) -> Iterator[str]:
    """Check that the table of contents has every page, and no other."""
    text = (root / "_toc.yml").read_text("utf-8")
    listed = set()
    for entry in re.findall(r"(?m)^[ -]*(?:root|file): *(\S+)", text):
        files = {
            file
            for suffix in ("", ".md", ".ipynb")
            if (file := root / f"{entry}{suffix}").is_file()
        }
        if not files:
            yield f"_toc.yml: {entry} does not exist"
        listed |= files
    pages = {*notebooks(root), *(root / "chapters").rglob("*.md")}
    for page in sorted(pages - listed):
        name = page.relative_to(root)
        if not any(part.startswith(("_", ".")) for part in name.parts):
            yield f"{name}: not in _toc.yml"


def modules(root: Path) -> Iterator[str]:
    """Check that each public module is tested, listed and documented."""
    package = root / "lib/learning_mechanics"
    for module in sorted(package.glob("[!_]*.py")):
        name = module.stem
        for file, words in (
            (root / f"reference/{name}.md", ""),
            (root / f"tests/test_{name}.py", ""),
            (root / "_toc.yml", f"- file: reference/{name}\n"),
            (package / "__init__.py", f"\n``{name}`` "),
        ):
            if not file.is_file() or words not in file.read_text("utf-8"):
                yield (
                    f"{file.relative_to(root)}: {words.strip() or 'missing'}, "
                    f"for {module.name}"
                )


def machine_paths(root: Path) -> Iterator[str]:
    """Check that no text file names a folder of one machine."""
    # Every line of .gitignore is the name of a file or folder at any depth.
    ignored = [*(root / ".gitignore").read_text("utf-8").split(), ".git"]

    def kept(names: list[str]) -> list[str]:
        return sorted(
            name
            for name in names
            if not any(fnmatch(name, line.strip("/")) for line in ignored)
        )

    for folder, folders, names in os.walk(root):
        folders[:] = kept(folders)
        for path in [Path(folder, name) for name in kept(names)]:
            try:
                lines = path.read_text("utf-8").splitlines()
            except (UnicodeDecodeError, FileNotFoundError):
                continue  # a binary file, or a link that leads nowhere
            for number, line in enumerate(lines, 1):
                if re.search(r"(?<![\w./<+-])/(?:work|root)(?![\w-])", line):
                    yield (
                        f"{path.relative_to(root)}, line {number}: names a "
                        "path of one machine"
                    )


def repository_links(root: Path) -> Iterator[str]:
    """Check that links in the repository's own pages lead somewhere."""
    for path in sorted(root.glob("*.md")):
        source = path.read_text("utf-8")
        for problem in prose.broken_links(source, [source], path):
            yield f"{path.name}: {problem}"


PAGE = (
    code_size,
    images,
    html_size,
    stills,
    install_cell,
    badge,
    executed,
    stored_state,
    prose.markdown,
    prose.links,
    prose.citations,
    ledger.stored,
)
CHAPTER = (explorable, prose.sections, prose.exercises, ledger.complete)
APPENDIX = (ledger.no_predictions,)
BOOK = (
    toc,
    modules,
    machine_paths,
    repository_links,
    ledger.unique,
    ledger.current,
)
