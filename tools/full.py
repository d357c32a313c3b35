"""Run chapters at full scale, and store what they came to.

``python tools/full.py`` runs every chapter on whatever accelerator there is;
notebooks that are named after it restrict it to these. Its records and the
data of its figures are written to ``results/full``. Without an accelerator
the scale is ``reduced``: the same code, one step above the quick scale, kept
apart in ``results/reduced``.

A chapter that was run before is read back from ``.runs`` instead, as long as
its code, the modules it imports, the versions below them and the device are
the same.
"""

import json
import os
import platform
import subprocess
import sys
import time

import torch

import ledger
from learning_mechanics import results, runtime, sweeps
from learning_mechanics.records import MIME
from pages import where
from replicate import RUNS, code, execute, foundation, parser, versions
from stamp import ROOT

FIGURE = "application/vnd.learning-mechanics.figure+json"
# Appended to a chapter's first cell: each figure's data beside its image.
HOOK = f"""
from IPython.display import publish_display_data as _publish
from learning_mechanics import figures as _figures
def _show(figure, alt, show=_figures.show):
    panels = _figures.curves(figure)
    _publish({{{FIGURE!r}: {{"alt": alt, "panels": panels}}}})
    show(figure, alt)
_figures.show = _show
"""


def device_name() -> str:
    """Return what the chapters run on, in words."""
    device = runtime.device()
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type


def commit() -> str:
    """Return the book's commit, with ``-dirty`` if more than results differ.

    It is ``unknown`` where there is no git, or no clone.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", ":!results")
        return git("rev-parse", "HEAD") + "-dirty" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def full(chapter: str, sources: list[str], below: str, device: str) -> dict:
    """Run one chapter; return the fields of `results.Run`, but its commit.

    Parameters
    ----------
    chapter, sources, below
        As for `replicate.replicate`.
    device : str
        What it runs on; part of the name under which the run is kept.
    """
    start = time.perf_counter()
    notebook = execute(chapter, sources, seed=0, below=below)
    seconds = time.perf_counter() - start
    shown = {MIME: [], FIGURE: []}
    for cell in notebook.cells:
        for output in cell.outputs:
            for mime in shown.keys() & output.get("data", {}).keys():
                shown[mime].append(json.loads(json.dumps(output.data[mime])))
    return {
        "command": f'make full CHAPTERS="{chapter}"',
        "scale": os.environ["LEARNING_MECHANICS_SCALE"],
        "device": device,
        "machine": platform.machine(),
        "versions": versions() | {"cuda": str(torch.version.cuda)},
        "seconds": round(seconds, 1),
        "figures": shown[FIGURE],
        "records": shown[MIME],
    }


def main() -> str:
    """Run the command line; return which chapters failed."""
    chapters = parser(__doc__.splitlines()[0]).parse_args().chapters
    # Beyond quick where the user did not say otherwise.
    accelerated = runtime.device().type != "cpu"
    scale = os.environ.setdefault(
        "LEARNING_MECHANICS_SCALE", "full" if accelerated else "reduced"
    )
    if scale not in ("full", "reduced"):
        sys.exit(f"LEARNING_MECHANICS_SCALE={scale}; allowed: full, reduced")
    device, at = device_name(), commit()
    failures = []
    for chapter in chapters:
        sources = code(chapter)
        sources[next(i for i, text in enumerate(sources) if text)] += HOOK
        point = {
            "chapter": where(chapter),
            "sources": sources,
            "below": foundation(sources),
            "device": device,
        }
        print(f"{where(chapter)}: {scale} scale on {device}", flush=True)
        try:
            (fields,) = sweeps.run(
                full, [point], folder=RUNS, backend="sequential"
            )
            run = results.Run(**fields, commit=at)
        except (RuntimeError, ValueError) as error:
            # At once: the other chapters may take hours.
            print(f"{where(chapter)}: {error}", file=sys.stderr, flush=True)
            failures.append(where(chapter))
            continue
        target = ledger.results_of(chapter, scale)
        results.write(target, run)
        for record in run.records:
            print(f"  {record.verdict:<19}  {record.id}: {record.error:.3g}")
        print(f"written: {where(target)}, {run.seconds:.0f} s", flush=True)
    return " ".join(failures)


if __name__ == "__main__":
    if failed := main():
        sys.exit(f"full: failed: {failed}")
