"""Every self-check accepts the reference solution, and refuses a wrong one."""

import contextlib
import io
import re
from pathlib import Path

import nbformat
import pytest

CHAPTERS = Path(__file__).parents[1] / "chapters"
FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def exercises():
    """Yield imports, solution and check of every computation exercise."""
    for path in sorted(CHAPTERS.glob("*/*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        imports = next(
            c.source for c in cells if c.source.startswith("import ")
        )
        for i, cell in enumerate(cells):
            if "check" in cell.metadata.get("tags", []):
                (solution,) = FENCE.findall(cells[i - 2].source)
                yield pytest.param(
                    imports,
                    solution,
                    cells[i - 1].source,
                    cell.source,
                    id=f"{path.stem}-{i}",
                )


def run(*sources):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec("\n\n".join(sources), {})
    return printed.getvalue()


@pytest.mark.parametrize(
    ("imports", "solution", "blank", "check"), list(exercises())
)
def test_self_check(imports, solution, blank, check):
    assert "not solved yet" in run(imports, blank, check)
    assert "correct" in run(imports, solution, check)
    # A wrong answer of the right form: half of every returned number.
    name = re.search(r"def (\w+)", solution)[1]
    wrong = (
        f"right = {name}\ndef {name}(*args):\n    return 0.5 * right(*args)"
    )
    with pytest.raises(AssertionError):
        run(imports, solution, wrong, check)
