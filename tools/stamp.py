"""Write the book's version, address and branch wherever they are needed.

They stand in ``pyproject.toml`` and nowhere else. Derived from them are each
notebook's install cell and Colab badge, ``_config.yml``, ``CITATION.cff`` and
every link to the repository or to the site in the book's Markdown.

``python tools/stamp.py`` writes them; with ``--check`` it writes nothing,
names what is stale, and fails if anything is.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import v4

ROOT = Path(__file__).parents[1]
TEXTS = ("*.md", "CITATION.cff", "_config.yml", "chapters/**/*.md")
COLAB = "https://colab.research.google.com"


@dataclass(frozen=True)
class Identity:
    """What the book is called and where it lives.

    Attributes
    ----------
    version : str
        Version of the package, and without the leading ``v`` its tag.
    repository : str
        Address of the repository on GitHub, without a trailing slash.
    branch : str
        Branch that the site and the Colab badges show.
    """

    version: str
    repository: str
    branch: str

    @classmethod
    def of(cls, root: Path) -> "Identity":
        """Read the identity from the ``pyproject.toml`` in `root`."""
        table = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
        identity = cls(
            table["project"]["version"],
            table["project"]["urls"]["Repository"],
            table["tool"]["learning-mechanics"]["branch"],
        )
        if not re.fullmatch(
            r"https://github\.com/[\w.-]+/[\w.-]+", identity.repository
        ):
            raise ValueError(
                f"Repository={identity.repository!r} in pyproject.toml; "
                "allowed: https://github.com/<owner>/<name>"
            )
        return identity

    @property
    def owner(self) -> str:
        """Owner of the repository."""
        return self.repository.split("/")[-2]

    @property
    def name(self) -> str:
        """Name of the repository."""
        return self.repository.split("/")[-1]

    @property
    def site(self) -> str:
        """Address of the published book on GitHub Pages."""
        return f"https://{self.owner}.github.io/{self.name}"

    @property
    def install_cell(self) -> str:
        """Source of the cell that installs the package on Colab."""
        return f"""\
# On Colab: add the book's package, leave everything else as it is.
import importlib.util

if importlib.util.find_spec("learning_mechanics") is None:
    %pip install -q --no-deps {self.repository}/archive/refs/tags/v{self.version}.zip"""  # noqa: E501

    def badge(self, path: Path) -> str:
        """Return the line that opens the notebook `path` on Colab.

        Parameters
        ----------
        path : Path
            Where the notebook is, relative to the root of the book.
        """
        return (
            f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]"
            f"({COLAB}/github/{self.owner}/{self.name}/blob/{self.branch}"
            f"/{path.as_posix()})"
        )


def notebooks(root: Path) -> list[Path]:
    """Return every notebook under ``chapters``, sorted."""
    return sorted(
        path
        for path in (root / "chapters").rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts
    )


def stamp_text(text: str, identity: Identity, names: set[str]) -> str:
    """Return `text` with the book's addresses, branch and version replaced.

    Parameters
    ----------
    text : str
        Content of a Markdown, YAML or CFF file.
    identity : Identity
        What to write.
    names : set of str
        Present and former names of the repository. Links to a repository
        of another name are not the book's and stay as they are.
    """
    name = "(?:" + "|".join(sorted(map(re.escape, names))) + r")(?![\w-])"
    for pattern, value in (
        (rf"https://github\.com/[\w.-]+/{name}", identity.repository),
        (rf"https://[\w-]+\.github\.io/{name}", identity.site),
        (
            rf"(?<={COLAB}/github/)[\w.-]+/{name}/blob/[\w.-]+",
            f"{identity.owner}/{identity.name}/blob/{identity.branch}",
        ),
        (r"(?<=badge\.svg\?branch=)[\w.-]+", identity.branch),
        # _config.yml, under `repository:`
        (r"(?m)(?<=^  branch: )\S+", identity.branch),
        # CITATION.cff
        (r"(?m)(?<=^version: )\S+", identity.version),
    ):
        text = re.sub(pattern, lambda _, value=value: value, text)
    return text


def stamp_notebook(
    text: str, identity: Identity, names: set[str], path: Path
) -> str:
    """Return a notebook's JSON with badge, install cell and links replaced.

    Parameters
    ----------
    text : str
        The notebook, as nbformat writes it.
    identity, names
        As for `stamp_text`.
    path : Path
        Where the notebook is, relative to the root of the book.

    Raises
    ------
    ValueError
        If it is no notebook, its first cell has no badge line, or not
        exactly one cell has the tag ``install``.
    """
    try:
        notebook = nbformat.reads(text, as_version=4)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; allowed: a notebook") from error
    first = (notebook.cells or [v4.new_markdown_cell()])[0]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = stamp_text(cell.source, identity, names)
    first.source, badges = re.subn(
        rf"(?m)^.*{re.escape(COLAB)}/github/.*$",
        lambda _: identity.badge(path),
        first.source,
    )
    installs = [
        cell
        for cell in notebook.cells
        if "install" in cell.metadata.get("tags", [])
    ]
    if badges != 1 or len(installs) != 1:
        raise ValueError(
            f"{path}: {badges} Colab badges in the first cell and "
            f"{len(installs)} cells tagged install; allowed: one of each"
        )
    installs[0].source = identity.install_cell
    return nbformat.writes(notebook) + "\n"


def stale(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file whose stamp is out of date, with its right content."""
    identity = Identity.of(root)
    config = (root / "_config.yml").read_text("utf-8")
    former = re.search(r"(?m)^  url: +\S+/([\w.-]+)", config)
    if former is None:
        raise ValueError(
            "_config.yml has no line '  url: https://github.com/<owner>/"
            "<name>' under repository"
        )
    names = {identity.name, former[1]}
    for path in sorted({p for glob in TEXTS for p in root.glob(glob)}):
        text = path.read_text("utf-8")
        right = stamp_text(text, identity, names)
        if right != text:
            yield path, right
    for path in notebooks(root):
        text = path.read_text("utf-8")
        right = stamp_notebook(text, identity, names, path.relative_to(root))
        if right != text:
            yield path, right


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Stamp the book, or with ``--check`` say what is stale.

    Returns
    -------
    int
        Exit status: 1 if something is stale and was not written, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    found = list(stale(root))
    for path, right in found:
        print("stale" if check else "stamped", path.relative_to(root))
        if not check:
            path.write_text(right, "utf-8", newline="\n")
    return int(check and bool(found))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"stamp: {error}")
