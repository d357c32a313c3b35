"""Reading the pages of the book: cells, code, Markdown, headings."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.myst_blocks import myst_block_plugin
from mdit_py_plugins.myst_role import myst_role_plugin
from nbformat import NotebookNode

# As the site reads Markdown, so that what only the site understands is seen.
_MARKDOWN = (
    MarkdownIt("commonmark", {"linkify": True})
    .enable(["table", "linkify"])
    .use(dollarmath_plugin, double_inline=True)
    .use(myst_role_plugin)
    .use(myst_block_plugin)
    .use(colon_fence_plugin)
)


def root_of(path: Path) -> Path:
    """Return the root of the book that `path` lies in."""
    return next(p for p in path.parents if (p / "pyproject.toml").is_file())


def where(path: Path, cell: int | None = None) -> str:
    """Name a notebook, or one of its cells, counted from 1."""
    name = path.relative_to(root_of(path)).as_posix()
    return name if cell is None else f"{name}, cell {cell}"


def is_chapter(path: Path) -> bool:
    """Return whether a notebook teaches: it lies in a pillar's folder.

    Those beside the folders, such as the scoreboard, are appendices.
    """
    return path.parent.parent.name == "chapters"


def cells(
    notebook: NotebookNode, cell_type: str
) -> Iterator[tuple[int, NotebookNode]]:
    """Yield the cells of one type, with their numbers from 1."""
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == cell_type:
            yield number, cell


def outputs(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """Yield every stored output, with its cell's number."""
    for number, cell in cells(notebook, "code"):
        for output in cell.outputs:
            yield number, output


def tagged(cell: NotebookNode, tag: str) -> bool:
    """Return whether a cell has a tag."""
    return tag in cell.metadata.get("tags", [])


def tree(source: str) -> ast.Module:
    """Parse a code cell, magics included."""
    return ast.parse(TransformerManager().transform_cell(source))


def imports(notebook: NotebookNode) -> str:
    """Return the imports of a notebook, but for those of its install cell."""
    statements = (
        ast.get_source_segment(cell.source, node)
        for _, cell in cells(notebook, "code")
        if not tagged(cell, "install")
        for node in tree(cell.source).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    )
    return "\n".join(dict.fromkeys(statements))


def prose(path: Path) -> list[str]:
    """Return the Markdown of a page, cell by cell."""
    if path.suffix == ".ipynb":
        notebook = nbformat.read(path, as_version=4)
        return [cell.source for _, cell in cells(notebook, "markdown")]
    return [path.read_text("utf-8")]


def tokens(source: str) -> Iterator[Token]:
    """Yield the tokens of some Markdown, inline ones after their block."""
    for token in _MARKDOWN.parse(source):
        yield token
        yield from token.children or []


def heading(token: Token) -> str:
    """Return the text of a heading, as its anchor is made from it."""
    return "".join(
        child.content
        for child in token.children
        if child.type in ("text", "code_inline")
    )


def headings(source: str) -> Iterator[str]:
    """Yield the text of each heading."""
    previous = ""
    for token in tokens(source):
        if previous == "heading_open":
            yield heading(token)
        previous = token.type


def targets(source: str) -> Iterator[str]:
    """Yield where each link and image of some Markdown points."""
    for token in tokens(source):
        found = [token.attrs.get("href"), token.attrs.get("src")]
        if token.type in ("html_block", "html_inline"):
            found = re.findall(r"\b(?:href|src)=\"(.*?)\"", token.content)
        yield from map(unquote, filter(None, found))
