"""The rules of prose: Markdown, links, citations, sections, exercises."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mdit_py_plugins.anchors.index import slugify
from nbformat import NotebookNode
from pybtex.database import parse_file

from ledger import records
from pages import (
    cells,
    heading,
    headings,
    prose,
    root_of,
    tagged,
    targets,
    tokens,
    where,
)

SECTIONS = (
    "The question",
    "Where it breaks",
    "Back to the question",
    "Exercises",
    "Further reading",
)
# What MyST reads as markup and Jupyter, Colab and GitHub show raw.
MYST = {
    "myst_role": "a MyST role",
    "myst_target": "a MyST target",
    "myst_line_comment": "a MyST comment",
    "myst_block_break": "a MyST block break",
    "colon_fence": "a colon fence",
    "math_block_label": "a label after $$",
}
_PAPER = re.compile(
    r"https?://(?:www\.|dx\.)?(?:arxiv\.org/(?:abs|pdf|html)/"
    r"([a-z.-]+/\d{7}|\d{4}\.\d{4,5})|doi\.org/(10\..+))",
    re.IGNORECASE,
)


def markdown(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that prose is plain Markdown, without MyST markup."""
    for number, cell in cells(notebook, "markdown"):
        previous = ""
        for token in tokens(cell.source):
            found = MYST.get(token.type)
            if token.type == "fence" and token.info.startswith("{"):
                found = "a MyST directive"
            if (previous, token.type) == ("link_open", "link_close"):
                found = "a link without text"
            if found:
                yield (
                    f"{where(path, number)}: {found} {token.info} "
                    f"{token.content[:40]!r}; allowed: plain Markdown, LaTeX, "
                    "<details>"
                )
            previous = token.type


def _anchors(sources: list[str]) -> set[str]:
    anchors = set()
    for source in sources:
        anchors.update(map(slugify, headings(source)))
        anchors.update(re.findall(r"\b(?:id|name)=\"([^\"]+)\"", source))
        anchors.update(
            token.content
            for token in tokens(source)
            if token.type == "myst_target"
        )
    return anchors


def broken_links(source: str, page: list[str], path: Path) -> Iterator[str]:
    """Yield the relative links that lead nowhere.

    Parameters
    ----------
    source : str
        The Markdown with the links.
    page : list of str
        All of the Markdown of its page, for links within it.
    path : Path
        Where the page is.
    """
    for target in targets(source):
        if re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if name and not file.is_file():
            yield f"link to {target}, which does not exist"
        elif (
            anchor
            and file.suffix in (".md", ".ipynb")
            and anchor not in _anchors(prose(file) if name else page)
        ):
            yield f"link to {target}: no heading has that anchor"


def links(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that relative links lead to files and headings that exist."""
    page = [cell.source for _, cell in cells(notebook, "markdown")]
    for number, cell in cells(notebook, "markdown"):
        for problem in broken_links(cell.source, page, path):
            yield f"{where(path, number)}: {problem}"


def _paper(target: str) -> set[str]:
    """Return the arXiv number or DOI that a link has, if it has one."""
    found = _PAPER.match(target)
    if found is None:
        return set()
    return {(found[1] or found[2]).lower().removeprefix("10.48550/arxiv.")}


@cache
def bibliography(root: Path) -> tuple[set[str], set[str]]:
    """Return the bibliography's keys, and its arXiv numbers and DOIs."""
    entries = parse_file(root / "references.bib").entries
    papers = set()
    for entry in entries.values():
        fields = entry.fields
        papers.update(_paper(fields.get("url", "")))
        papers.add(re.sub(r"v\d+$", "", fields.get("eprint", "").lower()))
        papers.add(fields.get("doi", "").lower())
    return set(entries), papers - {""}


def citations(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that papers and sources of predictions are in references.bib."""
    keys, papers = bibliography(root_of(path))
    for number, cell in cells(notebook, "markdown"):
        cited = set().union(*map(_paper, targets(cell.source)))
        for name in sorted(cited - papers):
            yield f"{where(path, number)}: {name} is not in references.bib"
    for number, record, _ in records(notebook):
        if record.get("source") not in keys:
            yield (
                f"{where(path, number)}: source {record.get('source')!r} is "
                "not a key of references.bib"
            )


def sections(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that a chapter has the sections of a chapter."""
    titles = [
        title
        for _, cell in cells(notebook, "markdown")
        for title in headings(cell.source)
    ]
    for section in SECTIONS:
        if not any(section in title for title in titles):
            yield f"{where(path)}: no heading contains {section!r}"


def solution(notebook: NotebookNode, check: int) -> str | None:
    """Return the reference solution to the self-check in cell `check`.

    It is the only block of Python in the Markdown two cells before; the
    blank function is between. Anything else gives None.
    """
    if check < 3:
        return None
    before, blank = notebook.cells[check - 3 : check - 1]
    blocks = [
        token.content
        for token in tokens(before.source)
        if before.cell_type == "markdown"
        and token.type == "fence"
        and token.info == "python"
    ]
    found = len(blocks) == 1 and blank.source.startswith("def ")
    return blocks[0] if found else None


def exercises(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that exercises are solved, and computations checked.

    An exercise starts, under the heading "Exercises", with a heading or
    bold text such as "Exercise 2 (computation)".
    """
    section, title = 0, ""
    solved, checked = {}, set()
    for number, cell in enumerate(notebook.cells, 1):
        if tagged(cell, "check"):
            checked.add(title)
            if solution(notebook, number) is None:
                yield (
                    f"{where(path, number)}: a self-check without reference "
                    "solution; allowed: three cells in a row, Markdown with "
                    "one ```python block, blank function, cell tagged check"
                )
        if cell.cell_type != "markdown":
            continue
        previous, level, opened = "", 0, 0
        for token in tokens(cell.source):
            text = ""
            if token.type == "heading_open":
                level = int(token.tag[1])
            elif previous == "heading_open":
                text = heading(token)
                if "Exercises" in text:
                    section = level
                elif level <= section:
                    section, title = 0, ""
            elif previous == "strong_open":
                text = token.content
            elif token.type in ("html_block", "html_inline"):
                opens = token.content.count("<details")
                opened += opens - token.content.count("</details")
                if opens and title:
                    solved[title] = True
            if section and re.match(r"Exercise \d", text):
                title = text
                solved[title] = False
            previous = token.type
        if opened:
            yield (
                f"{where(path, number)}: <details> and </details> do not "
                "match; allowed: as many of each in one cell"
            )
    if not solved:
        yield f"{where(path)}: no 'Exercise 1' under the heading 'Exercises'"
    for text, done in solved.items():
        if not done:
            yield f"{where(path)}: {text!r} has no solution in <details>"
        if "computation" in text and text not in checked:
            yield f"{where(path)}: {text!r} has no cell tagged check"
