"""Run chapters under fresh seeds and record how often predictions hold.

``python tools/replicate.py --seeds 20`` runs every chapter with the
environment variable ``LEARNING_MECHANICS_SEED`` set to 1, 2, ..., 20;
notebooks that are named after it restrict it to these. What they came to is
written to ``results/replication``. With a range such as ``21:30``, or beyond
the quick scale, it is shown only: it checks the book's results, and does not
replace them.

Every finished run is kept in ``.runs`` and read back instead of computed
again, as long as the chapter's code, the modules it imports and the versions
below them are the same. ``--dask`` sends the runs to a cluster.
"""

import argparse
import ast
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbformat import v4
from traitlets.config import Config

import learning_mechanics
import ledger
from learning_mechanics import results, sweeps
from learning_mechanics.records import MIME, Record
from pages import where
from stamp import ROOT

RUNS = ROOT / ".runs"


# What a worker runs, from here to `_modules`, comes from the command: of the
# book, a worker has the package alone.
def execute(
    chapter: str, sources: list[str], seed: int, below: str
) -> nbformat.NotebookNode:
    """Run a notebook's code, in a kernel and a folder of its own.

    Cells go on after a failed prediction, so that one failure does not
    hide the others.

    Parameters
    ----------
    chapter : str
        What errors call it.
    sources : list of str
        The source of each cell, empty where there is no code.
    seed : int
        Value of ``LEARNING_MECHANICS_SEED``.
    below : str
        What the code stood on when the command began; see `foundation`.

    Returns
    -------
    NotebookNode
        The executed notebook.

    Raises
    ------
    RuntimeError
        If a cell fails for another reason than a failed prediction, or the
        code stands on something else here.
    """
    if foundation(sources) != below:
        raise RuntimeError(
            f"{chapter}, under seed {seed}: the package or what it requires "
            f"differs from what the command began with, or was changed since; "
            f"here: {learning_mechanics.__file__}, {versions()}"
        )
    notebook = v4.new_notebook(cells=[*map(v4.new_code_cell, sources)])
    environment = os.environ | {
        "LEARNING_MECHANICS_SEED": str(seed),
        "CI": "true",
        "OMP_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook,
            allow_errors=True,
            kernel_name="python3",
            # Else each kernel would warn that nothing is encrypted.
            config=Config(KernelManager={"transport_encryption": "auto"}),
            resources={"metadata": {"path": folder}},
        ).execute(env=environment)
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.outputs:
            if output.get("ename") not in (None, "PredictionError"):
                raise RuntimeError(
                    f"{chapter}, cell {number}, under seed {seed}: "
                    f"{output.ename}: {output.evalue}"
                )
    return notebook


def replicate(
    chapter: str, seed: int, sources: list[str], below: str
) -> list[dict]:
    """Return the records of one chapter under one seed.

    Parameters
    ----------
    chapter, seed, sources
        As for `execute`.
    below : str
        As for `execute`, and part of the name under which the run is kept.
    """
    return [
        json.loads(json.dumps(output.data[MIME]))  # plain dicts
        for cell in execute(chapter, sources, seed, below).cells
        for output in cell.outputs
        if MIME in output.get("data", {})
    ]


def versions() -> dict[str, str]:
    """Return the versions of Python and of what the package requires."""
    required = importlib.metadata.requires("learning-mechanics")
    names = sorted(
        re.match(r"[\w.-]+", line)[0]
        for line in required
        if "extra ==" not in line
    )
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version()} | found


def foundation(sources: list[str]) -> str:
    """Return a digest of what code stands on.

    That is the modules of the package that it imports, with those that they
    import in turn, and the versions of what the package requires. Comments
    and docstrings do not count.
    """
    package = Path(learning_mechanics.__file__).parent
    modules, unread = {}, [*sources]
    while unread:
        for name in sorted(_modules(unread.pop()) - {*modules}):
            if (path := package / f"{name}.py").is_file():
                modules[name] = _bare(path.read_text("utf-8"))
                unread.append(modules[name])
    text = json.dumps([modules, versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _bare(source: str) -> str:
    """Return a module's code without comments and docstrings."""
    module = ast.parse(source)
    for node in ast.walk(module):
        if isinstance(getattr(node, "body", None), list):
            node.body = [
                line
                for line in node.body
                if not isinstance(line, ast.Expr)
                or not isinstance(line.value, ast.Constant)
            ] or [ast.Pass()]
    return ast.unparse(module)


def _modules(source: str) -> set[str]:
    """Return what some code imports from the package, magics included."""
    names = set()
    for node in ast.walk(
        ast.parse(TransformerManager().transform_cell(source))
    ):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names if "." in name]
    return {part[1] for part in parts if part[0] == "learning_mechanics"}


def code(chapter: Path) -> list[str]:
    """Return the source of each cell, empty where it is no code."""
    notebook = nbformat.read(chapter, as_version=4)
    return [
        cell.source if cell.cell_type == "code" else ""
        for cell in notebook.cells
    ]


def report(chapter: Path, runs: dict[int, list[dict]]) -> results.Replication:
    """Sum up a chapter's runs, given by their seeds."""
    records = [[Record(**fields) for fields in run] for run in runs.values()]
    ids = {tuple(record.id for record in run) for run in records}
    if len(ids) != 1:
        raise RuntimeError(
            f"{where(chapter)} tests other predictions under other seeds: "
            f"{sorted(ids)}; allowed: the same under all"
        )
    return results.Replication(
        command=f"make replicate SEEDS={len(runs)} "
        f'CHAPTERS="{where(chapter)}"',
        scale=os.environ["LEARNING_MECHANICS_SCALE"],
        device=os.environ["LEARNING_MECHANICS_DEVICE"],
        machine=platform.machine(),
        versions=versions(),
        seeds=[*runs],
        predictions={
            same[0].id: results.Spread.of(same)
            for same in zip(*records, strict=True)
        },
    )


def seeds(text: str) -> range:
    """Read ``20`` as the seeds 1 to 20, and ``21:30`` as 21 to 30."""
    if numbers := re.fullmatch(r"(?:(\d+):)?(\d+)", text):
        first, last = map(int, numbers.groups("1"))
        if 1 <= first <= last <= 99_999:
            return range(first, last + 1)
    raise argparse.ArgumentTypeError(
        f"{text!r}; allowed: how many, such as 20, or which, such as 21:30"
    )


def part_of(path: Path, found: results.Replication) -> bool:
    """Return whether a file has the same runs already, and more."""
    try:
        stored = results.Replication.read(path)
    except (FileNotFoundError, ValueError):  # none yet, or of an older form
        return False
    count = len(found.seeds)
    return stored.seeds[:count] == found.seeds != stored.seeds and all(
        name in stored.predictions
        and stored.predictions[name].error[:count] == spread.error
        for name, spread in found.predictions.items()
    )


def parser(description: str) -> argparse.ArgumentParser:
    """Return a command line that takes chapters, the default being all."""
    allowed = sorted((ROOT / "chapters").glob("[!_.]*/*.ipynb"))

    def chapter(text: str) -> Path:
        if (path := Path(text).resolve()) not in allowed:
            raise argparse.ArgumentTypeError(
                f"{text}; allowed: {' '.join(map(where, allowed))}"
            )
        return path

    found = argparse.ArgumentParser(description=description)
    found.add_argument("chapters", type=chapter, nargs="*", default=allowed)
    return found


@contextmanager
def cluster(address: str | None) -> Iterator[str]:
    """Join a Dask cluster, if there is an address; yield joblib's backend."""
    if address is None:
        yield "loky"
        return
    from distributed import Client

    try:
        client = Client(address, timeout="60s")
    except (OSError, ValueError) as error:
        sys.exit(
            f"replicate: no Dask scheduler at {address}: {error}; allowed: "
            "the address that dask scheduler prints, as tcp://127.0.0.1:8786"
        )
    with client:
        print(f"{address}: waiting for a worker", flush=True)
        client.wait_for_workers(1)
        yield "dask"


def main() -> str:
    """Run the command line; return what failed."""
    line = parser(__doc__.splitlines()[0])
    line.add_argument(
        "--seeds", type=seeds, default="20", help="20, or a range as 21:30"
    )
    line.add_argument("--dask", help="the address of a scheduler")
    arguments = line.parse_args()
    os.environ.setdefault("LEARNING_MECHANICS_SCALE", "quick")
    os.environ.setdefault("LEARNING_MECHANICS_DEVICE", "cpu")
    grid = {}
    for chapter in arguments.chapters:
        sources = code(chapter)
        point = {"sources": sources, "below": foundation(sources)}
        grid[chapter] = [
            {"chapter": where(chapter), "seed": seed, **point}
            for seed in arguments.seeds
        ]
    failures = []
    with cluster(arguments.dask) as backend:
        run = partial(sweeps.run, replicate, folder=RUNS, backend=backend)
        # Seeds outermost: a sweep that is stopped has few of every chapter.
        with suppress(RuntimeError):  # tried again, and named, below
            run([p for ps in zip(*grid.values(), strict=True) for p in ps])
        for chapter, points in grid.items():
            try:
                runs = dict(zip(arguments.seeds, run(points), strict=True))
                store(chapter, report(chapter, runs))
            except (RuntimeError, ValueError) as error:
                failures.append(f"{where(chapter)}: {error}")
    return "\n".join(failures)


def store(chapter: Path, found: results.Replication) -> None:
    """Print what a chapter came to, and write it unless that loses runs."""
    for name, spread in found.predictions.items():
        print(
            f"{spread.rate}  {name}: error {min(spread.error):.3g} to "
            f"{max(spread.error):.3g}, tolerance {spread.tolerance:.3g} "
            f"({spread.kind}), measured {spread.spread}"
        )
    target = ledger.replication(chapter)
    others = found.seeds[0] > 1 or found.scale != "quick"
    if others or part_of(target, found):
        print(f"left as it is: {where(target)}")
    else:
        results.write(target, found)
        print(f"written: {where(target)}")


if __name__ == "__main__":
    try:
        failed = main()
    except KeyboardInterrupt:
        failed = "stopped"
    if failed:
        sys.exit(f"replicate: {failed}\nWhat finished is kept in {RUNS}.")
