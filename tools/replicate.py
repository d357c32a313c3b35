"""Run chapters under fresh seeds and record how often predictions hold.

``python tools/replicate.py 20`` runs every chapter with the environment
variable ``LEARNING_MECHANICS_SEED`` set to 1, 2, ..., 20; notebooks that are
named after it restrict it to these. What they came to is written to
``results/replication``. With a range such as ``21:30`` it is shown only: other
seeds than the book's check its results, and do not replace them.

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
from contextlib import ExitStack
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import v4

import learning_mechanics
import ledger
from learning_mechanics import results, runtime, sweeps
from learning_mechanics.records import MIME, Record
from pages import tree, where
from stamp import ROOT

PACKAGE = Path(learning_mechanics.__file__).parent
RUNS = ROOT / ".runs"


def execute(
    chapter: str, sources: list[str], seed: int
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

    Returns
    -------
    NotebookNode
        The executed notebook.

    Raises
    ------
    RuntimeError
        If a cell fails for another reason than a failed prediction.
    """
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
        What the code stands on; see `foundation`. It is part of the name
        under which the run is kept.
    """
    return [
        json.loads(json.dumps(output.data[MIME]))  # plain dicts
        for cell in execute(chapter, sources, seed).cells
        for output in cell.outputs
        if MIME in output.get("data", {})
    ]


def code(chapter: Path) -> list[str]:
    """Return the source of each cell, empty where it is no code."""
    notebook = nbformat.read(chapter, as_version=4)
    return [
        cell.source if cell.cell_type == "code" else ""
        for cell in notebook.cells
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
    modules, unread = {}, [*sources]
    while unread:
        for name in sorted(_modules(unread.pop()) - {*modules}):
            modules[name] = _bare((PACKAGE / f"{name}.py").read_text("utf-8"))
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
    """Return the modules of the package that some code imports."""
    names = set()
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names]
    return {
        part[1]
        for part in parts
        if part[0] == PACKAGE.name and (PACKAGE / f"{part[1]}.py").is_file()
    }


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
        scale=runtime.scale(quick="quick", full="full"),
        device=str(runtime.device()),
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


def main() -> None:
    """Run the command line; see the text at the top."""
    line = parser(__doc__.splitlines()[0])
    line.add_argument(
        "--seeds", type=seeds, default="20", help="20, or a range as 21:30"
    )
    line.add_argument("--dask", help="the address of a scheduler")
    arguments = line.parse_args()
    chapters = list(dict.fromkeys(arguments.chapters))
    texts = {chapter: code(chapter) for chapter in chapters}
    below = {chapter: foundation(text) for chapter, text in texts.items()}
    # Seeds outermost: a sweep that is stopped has few seeds of every chapter.
    grid = [
        {
            "chapter": where(chapter),
            "seed": seed,
            "sources": texts[chapter],
            "below": below[chapter],
        }
        for seed in arguments.seeds
        for chapter in chapters
    ]
    with ExitStack() as stack:
        if arguments.dask:
            from distributed import Client

            stack.enter_context(Client(arguments.dask))
        runs = sweeps.run(
            replicate,
            grid,
            folder=RUNS,
            backend="dask" if arguments.dask else "loky",
        )
    for i, chapter in enumerate(chapters):
        found = report(
            chapter,
            dict(zip(arguments.seeds, runs[i :: len(chapters)], strict=True)),
        )
        for name, spread in found.predictions.items():
            print(
                f"{spread.rate}  {name}: error {min(spread.error):.3g} to "
                f"{max(spread.error):.3g}, tolerance {spread.tolerance:.3g} "
                f"({spread.kind}), measured {spread.spread}"
            )
        target = ledger.replication(chapter)
        if found.seeds[0] > 1 or part_of(target, found):
            print(f"left as it is: {where(target)}")
        else:
            results.write(target, found)
            print(f"written: {where(target)}")


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(f"replicate: {error}\nWhat finished is kept in {RUNS}.")
