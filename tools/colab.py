"""Run notebooks as Colab does: its versions, and no repository around them.

``python tools/colab.py`` runs every notebook to its end in the environment
``_build/colab``, which ``make colab`` makes from ``tools/colab.txt``, prints
how long that took, and writes it to ``results/colab.csv``; notebooks that are
named restrict it to these. Nothing is downloaded from the book's address: a
copy of the working tree takes its place.
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
from nbformat import NotebookNode, v4

from pages import where
from stamp import ROOT, Identity, notebooks

COLAB = ROOT / "_build/colab"
PAGES = [path for path in notebooks(ROOT) if path.parent.name != "_template"]
REPORT = ROOT / "results/colab.csv"
HEADER = ("notebook", "first figure (s)", "to the end (s)")


class _Kernels(KernelSpecManager):
    """The one kernel of Colab's environment."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        python = str(COLAB / "bin/python")
        command = [python, "-m", "ipykernel_launcher"]
        return KernelSpec(argv=[*command, "-f", "{connection_file}"])


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Leave requests out of the log."""


@contextmanager
def published() -> Iterator[tuple[str, dict[str, str]]]:
    """Publish the working tree as the book's repository, on this machine.

    Yields
    ------
    str
        The address that stands for the repository's.
    dict
        Environment in which git finds the repository there.
    """
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
            yield (
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


def packages() -> dict[str, int]:
    """Return what is installed, and when it was, in nanoseconds."""
    return {
        record.parent.name: record.stat().st_mtime_ns
        for record in COLAB.glob("lib/python*/site-packages/*/RECORD")
    }


@dataclass(frozen=True)
class Book:
    """The book, installed as the notebooks' own cell does it.

    Attributes
    ----------
    added : set of str
        What installing it added to the environment, or replaced there.
    installation : float
        How long that took, in seconds, downloads included.
    environment : dict
        Environment variables that a notebook runs under.
    """

    added: set[str]
    installation: float
    environment: dict[str, str]


@dataclass(frozen=True)
class Run:
    """One notebook's run, as far as it went, in seconds.

    Attributes
    ----------
    first_figure : float or None
        From the start of the kernel to the first image, if there is one.
    total : float
        From the start of the kernel to the end.
    """

    first_figure: float | None
    total: float


@contextmanager
def installed() -> Iterator[Book]:
    """Install the package by the notebooks' own cell; remove it at the end."""
    steers = re.compile("CI$|LEARNING_MECHANICS_|PYTHON|VIRTUAL_ENV")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not steers.match(name)
    } | {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # a warning about debuggers
    identity = Identity.of(ROOT)
    uninstall = [COLAB / "bin/python", "-m", "pip", "uninstall", "-qqy"]
    uninstall.append("learning-mechanics")
    subprocess.run(uninstall, check=True)  # what a killed run has left
    with published() as (address, config):
        book = v4.new_code_cell(
            identity.install_cell.replace(identity.repository, address)
        )
        before = packages()
        try:
            spent = run(v4.new_notebook(cells=[book]), environment)
            yield Book(
                {name for name, _ in packages().items() - before.items()},
                spent.total,
                environment | config,
            )
        finally:
            subprocess.run(uninstall, check=True)


def run(
    notebook: NotebookNode,
    environment: dict[str, str],
    *,
    to_the_end: bool = True,
) -> Run:
    """Run a notebook in an empty folder.

    Parameters
    ----------
    notebook : NotebookNode
        What to run; it receives the outputs.
    environment : dict
        Its environment variables.
    to_the_end : bool
        Whether to go on after the first image.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    RuntimeError
        If a widget does.
    """
    first = None
    manager = AsyncKernelManager(kernel_spec_manager=_Kernels())
    client = NotebookClient(notebook, km=manager, timeout=600)
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        with client.setup_kernel(env=environment, cwd=folder, cleanup_kc=True):
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
                if first is None and any(
                    "image/png" in output.get("data", {})
                    for output in cell.get("outputs", ())
                ):
                    first = time.perf_counter() - start
                    if not to_the_end:
                        break
            spent = time.perf_counter() - start
    # What fails in a widget is shown in it, and its cell goes on.
    for state in client.widget_state.values():
        for output in state.get("outputs", ()):
            if output["output_type"] == "error":
                raise RuntimeError(f"{output['ename']}: {output['evalue']}")
    return Run(first, spent)


def seconds(spent: float | None) -> str:
    """Return a duration as it is written."""
    return "none" if spent is None else f"{spent:.0f}"


def main() -> None:
    """Run the notebooks, and write how long each took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    chosen = [path.resolve() for path in parser.parse_args().notebooks]
    rows = {}
    if REPORT.is_file():
        with REPORT.open(newline="", encoding="utf-8") as file:
            rows = {name: row for name, *row in csv.reader(file)}
    with installed() as book:
        for path in chosen or PAGES:
            spent = run(nbformat.read(path, as_version=4), book.environment)
            row = [seconds(spent.first_figure), seconds(spent.total)]
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
