"""Run chapters under fresh seeds and record how often predictions hold.

``python tools/replicate.py 10`` runs every chapter with the environment
variable ``LEARNING_MECHANICS_SEED`` set to 1, 2, ..., 10; notebooks that are
named after the number restrict it to these. Each chapter's outcome is written
to ``results/replication``. The stored notebooks are not touched.
"""

import argparse
import json
import os
import platform
import sys
from itertools import islice
from pathlib import Path

import nbformat
import numpy as np
import torch
from joblib import Parallel, delayed
from nbclient import NotebookClient
from tqdm import tqdm

import ledger
from learning_mechanics import runtime
from learning_mechanics.records import Record
from pages import outputs, where
from stamp import ROOT


def run(chapter: Path, seed: int) -> list[Record]:
    """Run one chapter under one seed.

    Cells go on after a failed prediction, so that one failure does not
    hide the others.

    Parameters
    ----------
    chapter : Path
        The notebook.
    seed : int
        Value of ``LEARNING_MECHANICS_SEED``.

    Returns
    -------
    list of Record
        One a prediction, in the order of the cells.

    Raises
    ------
    RuntimeError
        If a cell fails for another reason than a failed prediction.
    """
    notebook = nbformat.read(chapter, as_version=4)
    environment = os.environ | {
        "LEARNING_MECHANICS_SEED": str(seed),
        "CI": "true",
        "OMP_NUM_THREADS": "1",
    }
    NotebookClient(
        notebook,
        allow_errors=True,
        resources={"metadata": {"path": chapter.parent}},
    ).execute(env=environment)
    for number, output in outputs(notebook):
        if output.get("ename") not in (None, "PredictionError"):
            raise RuntimeError(
                f"{where(chapter, number)}, under seed {seed}: "
                f"{output.ename}: {output.evalue}"
            )
    return [Record(**fields) for _, fields, _ in ledger.records(notebook)]


def report(chapter: Path, runs: list[list[Record]]) -> dict:
    """Return what is written about a chapter's runs under seeds 1, 2, ..."""
    return {
        "command": f"make replicate SEEDS={len(runs)} "
        f'CHAPTERS="{where(chapter)}"',
        "seeds": list(range(1, len(runs) + 1)),
        "scale": runtime.scale(quick="quick", full="full"),
        "device": str(runtime.device()),
        "machine": platform.machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "predictions": {
            same[0].id: {
                "kind": same[0].kind,
                "tolerance": same[0].tolerance,
                "holds": [record.holds for record in same],
                "error": [float(f"{record.error:.3g}") for record in same],
            }
            for same in zip(*runs, strict=True)
        },
    }


def main() -> int:
    """Run the command line; return the exit status."""
    allowed = sorted((ROOT / "chapters").glob("[!_.]*/*.ipynb"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seeds", type=int, help="how many, at least 1")
    parser.add_argument("chapters", type=Path, nargs="*", help="default: all")
    arguments = parser.parse_args()
    count = arguments.seeds
    chapters = [p.resolve() for p in arguments.chapters] or allowed
    if count < 1:
        parser.error(f"seeds={count}; allowed: at least 1")
    if other := set(chapters) - set(allowed):
        parser.error(
            f"chapters={[*map(str, other)]}; allowed: {[*map(where, allowed)]}"
        )
    outcomes = tqdm(
        Parallel(n_jobs=-1, return_as="generator")(
            delayed(run)(chapter, seed)
            for chapter in chapters
            for seed in range(1, count + 1)
        ),
        total=len(chapters) * count,
        desc="replicating",
    )
    for chapter in chapters:
        found = report(chapter, list(islice(outcomes, count)))
        target = ledger.replication(chapter)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".part")
        partial.write_text(json.dumps(found, indent=1) + "\n")
        partial.replace(target)
        for name, row in found["predictions"].items():
            tqdm.write(
                f"{sum(row['holds']):3d} of {count}  {name}: error "
                f"{min(row['error']):.3g} to {max(row['error']):.3g}, "
                f"tolerance {row['tolerance']:.3g} ({row['kind']})"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
