"""Run every chapter under fresh seeds and record how often predictions hold.

``python tools/replicate.py 10`` runs the chapters with the environment
variable ``LEARNING_MECHANICS_SEED`` set to 1, 2, ..., 10 and writes
``results/replication.json``. The stored notebooks are not touched.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np
import torch
from joblib import Parallel, delayed
from nbclient import NotebookClient
from tqdm import tqdm

from learning_mechanics import predictions, runtime

ROOT = Path(__file__).parents[1]


def run(chapter: Path, seed: int) -> dict[str, predictions.Record]:
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
    dict
        Prediction id to its stored record.

    Raises
    ------
    RuntimeError
        If a cell fails for another reason than a failed prediction.
    """
    book = nbformat.read(chapter, as_version=4)
    environment = os.environ | {
        "LEARNING_MECHANICS_SEED": str(seed),
        "CI": "true",
        "OMP_NUM_THREADS": "1",
    }
    NotebookClient(
        book,
        allow_errors=True,
        resources={"metadata": {"path": chapter.parent}},
    ).execute(env=environment)
    for cell in book.cells:
        for output in cell.get("outputs", []):
            name = output.get("ename")
            if name not in (None, "PredictionError"):
                raise RuntimeError(
                    f"{chapter.name} under seed {seed}: {name}: "
                    f"{output['evalue']}"
                )
    with tempfile.NamedTemporaryFile("w", suffix=".ipynb") as file:
        nbformat.write(book, file)
        file.flush()
        records = predictions.collect(file.name)
    return {record.id: record for record in records}


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seeds", type=int, help="how many, at least 1")
    seeds = range(1, parser.parse_args().seeds + 1)
    chapters = sorted((ROOT / "chapters").glob("[!_.]*/*.ipynb"))
    jobs = [(chapter, seed) for chapter in chapters for seed in seeds]
    if not jobs:
        parser.error("seeds; allowed: at least 1")
    outcomes = Parallel(n_jobs=-1, return_as="generator")(
        delayed(run)(*job) for job in jobs
    )
    table: dict[str, dict] = {}
    for outcome in tqdm(outcomes, total=len(jobs), desc="replicating"):
        for name, record in outcome.items():
            row = table.setdefault(
                name,
                {
                    "kind": record.kind,
                    "tolerance": record.tolerance,
                    "holds": [],
                    "error": [],
                },
            )
            row["holds"].append(record.holds)
            row["error"].append(float(f"{record.error:.3g}"))
    report = {
        "command": f"make replicate SEEDS={len(seeds)}",
        "seeds": list(seeds),
        "scale": runtime.scale(quick="quick", full="full"),
        "device": str(runtime.device()),
        "machine": platform.machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
        "predictions": dict(sorted(table.items())),
    }
    target = ROOT / "results" / "replication.json"
    partial = target.with_suffix(".part")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.replace(target)
    for name, row in report["predictions"].items():
        print(
            f"{sum(row['holds']):3d} of {len(row['holds'])}  {name}: error "
            f"{min(row['error']):.3g} to {max(row['error']):.3g}, "
            f"tolerance {row['tolerance']:.3g} ({row['kind']})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
