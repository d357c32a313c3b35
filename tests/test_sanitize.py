"""nbval forgives digits after ≈ in a notebook's outputs, and nothing else."""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat import v4

from example import RECORD
from learning_mechanics.records import Record
from stamp import ROOT

PLAIN = "holds · a/sum\n    ≈ 1.5  ≈ -2e-05  3 seeds, ≈ 97%"
TABLE = "<td>≈ 1.5</td><td>3</td>"
MOVED = '<img src="data:image/png;base64,AB+/=" alt="a"> ["1", "2"]'
ELSEWHERE = {"measured": [2.00104, 4.012], "error": 0.003}
# What is stored, what of it a run shows otherwise, and nbval's verdict.
CASES = [
    (PLAIN, {}, "PASSED"),
    (PLAIN, {"    ≈ 1.5": "≈ 1.50003"}, "PASSED"),
    (PLAIN, {"-2e-05": "0.0000193"}, "PASSED"),
    (PLAIN, {"97%": "98.2%"}, "PASSED"),
    (PLAIN, {"holds": "FAILS"}, "FAILED"),
    (PLAIN, {"3 seeds": "4 seeds"}, "FAILED"),
    (PLAIN, {"97%": "97"}, "FAILED"),
    (PLAIN, {"1.5": "nan"}, "FAILED"),
    (TABLE, {"1.5": "0.7"}, "PASSED"),
    (TABLE, {"3": "4"}, "FAILED"),
    (MOVED, {"AB+/=": "AC"}, "PASSED"),
    (MOVED, {'alt="a"': 'alt="b"'}, "FAILED"),
    (MOVED, {'"2"': '"3"'}, "FAILED"),
    (RECORD, {}, "PASSED"),
    (RECORD, ELSEWHERE, "PASSED"),
    (RECORD, {"predicted": [2.1, 4.0]}, "FAILED"),
    (RECORD, {"tolerance": 0.02}, "FAILED"),
    (RECORD, {"holds": False}, "FAILED"),
]


def cell(stored, changes):
    """Return a code cell that shows something else than it has stored."""
    if stored is RECORD:
        data = Record(**stored)._repr_mimebundle_()
        code = f"display(Record(**{stored | changes}))"
    else:
        mime = "text/html" if stored in (TABLE, MOVED) else "text/plain"
        data = {mime: stored}
        for old, new in changes.items():
            assert old in stored
            stored = stored.replace(old, new)
        code = f"display({{{mime!r}: {stored!r}}}, raw=True)"
    return v4.new_code_cell(
        code,
        execution_count=1,
        outputs=[v4.new_output("display_data", data)],
    )


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    """Run nbval once over a notebook of all cases."""
    folder = tmp_path_factory.mktemp("nbval")
    imports = "from learning_mechanics.records import Record"
    cells = [v4.new_code_cell(imports, execution_count=1)]
    cells += [cell(stored, changes) for stored, changes, _ in CASES]
    nbformat.write(v4.new_notebook(cells=cells), folder / "page.ipynb")
    shutil.copy(ROOT / "conftest.py", folder)
    options = "--nbval --nbval-current-env -p no:cacheprovider -rA --color=no"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *options.split()),
            *("--nbval-sanitize-with", ROOT / "tests/sanitize.cfg"),
            *("-c", ROOT / "pyproject.toml", "--rootdir", folder, folder),
        ],
        env={k: v for k, v in os.environ.items() if "PYTEST" not in k},
        capture_output=True,
        text=True,
    )
    found = re.findall(r"(?m)^([A-Z]+) .*::Cell (\d+)", run.stdout)
    assert len(found) == len(cells), run.stdout
    return {int(number): verdict for verdict, number in found}


@pytest.mark.parametrize("number", range(len(CASES)))
def test_only_digits_after_the_sign_may_change(number, verdicts):
    stored, changes, verdict = CASES[number]
    assert verdicts[number + 1] == verdict, f"{stored!r} with {changes}"
