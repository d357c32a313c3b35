"""Each notebook runs as on Colab, and adds nothing to it but the book."""

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import v4

from assignments import CHAPTERS, assign
from colab import COLAB, PAGES, published, run
from stamp import ROOT, Identity

pytestmark = pytest.mark.skipif(
    not (COLAB / "ready").is_file(), reason="make _build/colab/ready"
)
# Of a cold start to the first figure, in seconds.
FIRST = 60
PACKAGE = f"learning_mechanics-{Identity.of(ROOT).version}"


@pytest.fixture(scope="session")
def book():
    with published() as found:
        yield found


def of(*sources):
    return v4.new_notebook(cells=list(map(v4.new_code_cell, sources)))


# What `--dist loadscope` keeps together ends at the last "::": here, one run.
@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.stem}::")
def test_notebook(book, path):
    done = run(nbformat.read(path, as_version=4), book)
    assert done.first_figure < FIRST
    assert done.added == {PACKAGE}


def test_student_notebook(book, tmp_path):
    assign(CHAPTERS[0], tmp_path, run_tests=False)
    student = tmp_path / "student" / CHAPTERS[0].name
    assert run(nbformat.read(student, as_version=4), book).added == {PACKAGE}


def test_what_is_installed_is_noticed(book):
    # Colab has them all: only what is forced is installed again.
    install = "pip install -q --no-deps"
    again = f"{install} --force-reinstall"
    notebook = of(f"%{install} idna", f"%{again} tqdm", f"!{again} six")
    added = run(notebook, book).added
    assert {name.partition("-")[0] for name in added} == {"tqdm", "six"}


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("1 / 0", CellExecutionError),
        (
            "import ipywidgets as w\nw.interact(lambda x: 1 / x, x=0);",
            RuntimeError,
        ),
    ],
    ids=["cell", "widget"],
)
def test_what_fails_is_noticed(book, code, error):
    with pytest.raises(error, match="ZeroDivisionError"):
        run(of(code), book)
