"""Each notebook starts as it does on Colab, and installs nothing else."""

import nbformat
import pytest
from nbformat import v4

from assignments import CHAPTERS, assign
from colab import COLAB, PAGES, installed, run
from stamp import ROOT, Identity

pytestmark = pytest.mark.skipif(
    not (COLAB / "ready").is_file(), reason="make _build/colab/ready"
)
# Of a cold start to the first figure, beyond downloads, in seconds.
FIRST = 60


@pytest.fixture(scope="module")
def book():
    with installed() as found:
        yield found


def test_only_the_book_is_installed(book):
    name = f"learning_mechanics-{Identity.of(ROOT).version}.dist-info"
    assert book.added == {name}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_first_figure(book, path):
    notebook = nbformat.read(path, as_version=4)
    assert run(notebook, book.environment, to_the_end=False).total < FIRST


def test_student_notebook(book, tmp_path):
    assign(CHAPTERS[0], tmp_path, run_tests=False)
    student = tmp_path / "student" / CHAPTERS[0].name
    run(nbformat.read(student, as_version=4), book.environment)


def test_widget_that_fails_is_noticed(book):
    code = "from ipywidgets import interact\ninteract(lambda x: 1 / 0, x=2);"
    notebook = v4.new_notebook(cells=[v4.new_code_cell(code)])
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        run(notebook, book.environment)
