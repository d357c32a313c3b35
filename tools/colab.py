"""Run notebooks as Colab does: its versions, and no repository around them.

``python tools/colab.py`` runs every notebook to its end on top of the
environment ``_build/colab``, which ``make colab`` makes from
``tools/colab.txt``, prints how long that took, and writes it to
``results/colab.csv``; notebooks that are named restrict it to these. Nothing
is downloaded from the book's address: a copy of the working tree takes its
place.
"""

import argparse
import csv
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbformat import NotebookNode

from pages import where
from stamp import ROOT, Identity, notebooks

COLAB = ROOT / "_build/colab"
PAGES = [path for path in notebooks(ROOT) if path.parent.name != "_template"]
REPORT = ROOT / "results/colab.csv"
HEADER = ("notebook", "first figure (s)", "to the end (s)")


class _Kernels(KernelSpecManager):
    """The one kernel of an environment."""

    def __init__(self, python: Path):
        super().__init__()
        self.python = python

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [str(self.python), "-m", "ipykernel_launcher"]
        return KernelSpec(argv=[*command, "-f", "{connection_file}"])


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Leave requests out of the log."""


@dataclass(frozen=True)
class Book:
    """The working tree, published on this machine.

    Attributes
    ----------
    address : str
        What stands for the repository's address.
    environment : dict
        Environment in which git, too, finds the repository there.
    """

    address: str
    environment: dict[str, str]


@contextmanager
def published() -> Iterator[Book]:
    """Publish the working tree as the book's repository."""
    identity = Identity.of(ROOT)
    with TemporaryDirectory() as folder:
        bare = f"{folder}/book.git"
        git = ["git", f"--git-dir={bare}", f"--work-tree={ROOT}"]
        name = ["-c", "user.name=book", "-c", "user.email=book@localhost"]
        tag = Path(folder, "archive/refs/tags", f"v{identity.version}.zip")
        tag.parent.mkdir(parents=True)
        for command in (
            ["git", "init", "--quiet", "--bare", bare],
            [*git, "add", "."],
            [*git, *name, "commit", "--quiet", "--message=book"],
            [*git, "archive", "--prefix=book/", f"--output={tag}", "HEAD"],
        ):
            subprocess.run(command, check=True, cwd=ROOT)
        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(_Quiet, directory=folder)
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Book(
                f"http://127.0.0.1:{server.server_port}",
                {
                    "GIT_CONFIG_COUNT": "1",
                    "GIT_CONFIG_KEY_0": f"url.file://{bare}.insteadOf",
                    "GIT_CONFIG_VALUE_0": identity.repository,
                },
            )
        finally:
            server.shutdown()
            server.server_close()


@dataclass(frozen=True)
class Run:
    """One notebook's run.

    Attributes
    ----------
    first_figure, end : float
        Seconds from the start of the kernel, installation included, to the
        first image, if there is one, and to the end.
    added : set of str
        Distributions that it added to Colab's, or replaced there, such as
        ``learning_mechanics-0.1.0``.
    """

    first_figure: float
    end: float
    added: set[str]


def run(notebook: NotebookNode, book: Book) -> Run:
    """Run a notebook in an empty folder and a fresh copy of Colab.

    Parameters
    ----------
    notebook : NotebookNode
        What to run; it is told the book's address, and receives the outputs.
    book : Book
        Where its install cell finds the book.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    RuntimeError
        If a widget does.
    """
    repository = Identity.of(ROOT).repository
    for cell in notebook.cells:
        cell.source = cell.source.replace(repository, book.address)
    first = None
    with TemporaryDirectory() as folder, TemporaryDirectory() as layer:
        # On top of Colab's packages, which stay as they are.
        python = Path(layer, "bin/python")
        command = [COLAB / "bin/python", "-m", "venv", "--without-pip", layer]
        subprocess.run(command, check=True)
        (below,) = COLAB.glob("lib/python*/site-packages")
        site = Path(layer, below.relative_to(COLAB))
        (site / "colab.pth").write_text(f"{below}\n", "utf-8")
        hidden = re.compile("CI$|PYTHON|VIRTUAL_ENV$")
        environment = book.environment | {
            name: value
            for name, value in os.environ.items()
            if not hidden.match(name)
        }
        environment |= {
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "PIP_PYTHON": str(python),  # whichever pip a cell calls
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # a debugger's warning
        }
        manager = AsyncKernelManager(kernel_spec_manager=_Kernels(python))
        client = NotebookClient(notebook, km=manager, timeout=600)
        # What is printed in a widget stays in its cell: to send it back, in
        # the middle of a run, can make the client miss the cell's end.
        client.widget_registry = {}
        start = time.perf_counter()
        with client.setup_kernel(env=environment, cwd=folder, cleanup_kc=True):
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
                if first is None and any(
                    "image/png" in output.get("data", {})
                    for output in cell.get("outputs", ())
                ):
                    first = time.perf_counter() - start
            end = time.perf_counter() - start
        added = {path.stem for path in site.glob("*.dist-info")}
    # What fails in a widget is shown, and its cell goes on.
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                raise RuntimeError(f"{output['ename']}: {output['evalue']}")
    return Run(end if first is None else first, end, added)


def main() -> None:
    """Run the notebooks, and write how long each took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    chosen = [path.resolve() for path in parser.parse_args().notebooks]
    rows = {}
    if REPORT.is_file():
        with REPORT.open(newline="", encoding="utf-8") as file:
            rows = {name: row for name, *row in csv.reader(file)}
    with published() as book:
        for path in chosen or PAGES:
            done = run(nbformat.read(path, as_version=4), book)
            row = [f"{done.first_figure:.0f}", f"{done.end:.0f}"]
            rows[where(path)] = row
            print(where(path), *row, flush=True)
    part = REPORT.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(HEADER)
        for name in map(where, PAGES):
            table.writerow([name, *rows.get(name, ("", ""))])
    part.replace(REPORT)


if __name__ == "__main__":
    main()
