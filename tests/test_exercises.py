"""Every self-check accepts the reference solution, and refuses a wrong one."""

import contextlib
import io
import re

import nbformat
import pytest

from pages import cells, imports, is_chapter, tagged, where
from prose import solution
from stamp import ROOT, notebooks

CHAPTERS = [path for path in notebooks(ROOT) if is_chapter(path)]
# A wrong answer of the right form: half of every returned number.
WRONG = """
def half(value):
    if isinstance(value, (list, tuple)):
        return type(value)(map(half, value))
    return 0.5 * value


def {name}(*args, right={name}, **kwargs):
    return half(right(*args, **kwargs))
"""


def run(place, *sources):
    """Return what is printed, or which assertion fails."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec("\n\n".join(sources), {})
    except AssertionError as error:
        return f"refused: {error}"
    except NameError as error:
        pytest.fail(
            f"{place}: {error}; allowed: the function itself, and what the "
            "chapter imports",
            pytrace=False,
        )
    return printed.getvalue()


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_self_checks(path):
    notebook = nbformat.read(path, as_version=4)
    for number, check in cells(notebook, "code"):
        right = solution(notebook, number)
        if not tagged(check, "check") or right is None:
            continue  # `prose.exercises` refuses a check without solution
        place = where(path, number)
        blank = notebook.cells[number - 2].source
        wrong = WRONG.format(name=re.search(r"def (\w+)", blank)[1])
        for answer, verdict in (
            (blank, "not solved yet"),
            (right, "correct"),
            (right + wrong, "refused"),
        ):
            found = run(place, imports(notebook), answer, check.source)
            assert verdict in found, f"{place}, given\n{answer}"
