"""Chapters beyond the quick scale: records, data of figures, resumption."""

import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat import v4

import full
from learning_mechanics.results import Run
from stamp import ROOT

CELLS = [
    "import os\nfrom learning_mechanics import figures, predictions, runtime",
    "from learning_mechanics.predictions import Prediction\n"
    "size = runtime.scale(quick=4, full=100)",
    """\
fig, (ax,) = figures.panels()
ax.plot(range(size), range(size), label="line")
ax.set_xlabel("steps")
figures.show(fig, alt="A line.")
log = open(os.environ["TINY"], "a").write("x")""",
    'Prediction("tiny/size", "It is 8.", tolerance=0.1, source="x").test('
    "predicted=8, measured=size)",
]


@pytest.fixture
def book(tmp_path, monkeypatch):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    (tmp_path / "chapters/solvable").mkdir(parents=True)
    for name, cells in (("tiny", CELLS), ("bad", ["", "1 / 0"])):
        nbformat.write(
            v4.new_notebook(cells=[*map(v4.new_code_cell, cells)]),
            tmp_path / f"chapters/solvable/{name}.ipynb",
        )
    monkeypatch.setenv("TINY", str(tmp_path / "log"))
    monkeypatch.setenv("LEARNING_MECHANICS_DEVICE", "cpu")
    return tmp_path


def run(book):
    return subprocess.run(
        [sys.executable, book / "tools/full.py"],
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.parametrize(("scale", "size"), [("reduced", 8), ("full", 100)])
def test_a_chapter_is_run_once_and_stored(book, scale, size, monkeypatch):
    if scale == "full":
        monkeypatch.setenv("LEARNING_MECHANICS_SCALE", scale)
    else:  # what a CPU gets
        monkeypatch.delenv("LEARNING_MECHANICS_SCALE", raising=False)
    for _ in range(2):
        found = run(book)
        assert found.returncode == 1
        assert (
            "chapters/solvable/bad.ipynb, cell 2, under seed 0: "
            "ZeroDivisionError" in found.stderr
        )
        stored = Run.read(book / f"results/{scale}/solvable/tiny.json")
        assert (book / "log").read_text() == "x"
    assert [*(book / "results").rglob("*.json")] == [
        book / f"results/{scale}/solvable/tiny.json"
    ]
    assert stored.scale == scale
    assert stored.device == "cpu"
    assert (
        stored.command == 'make full CHAPTERS="chapters/solvable/tiny.ipynb"'
    )
    assert {"torch", "python", "cuda"} <= {*stored.versions}
    (record,) = stored.records
    assert record.measured == [size]
    assert record.holds is (size == 8)
    (figure,) = stored.figures
    assert figure["alt"] == "A line."
    (panel,) = figure["panels"]
    assert panel["x"] == "steps"
    steps = [float(i) for i in range(size)]
    assert panel["lines"] == [{"label": "line", "x": steps, "y": steps}]


def test_the_quick_scale_is_refused(book, monkeypatch):
    monkeypatch.setenv("LEARNING_MECHANICS_SCALE", "quick")
    assert "allowed: full, reduced" in run(book).stderr


def test_the_commit_is_dirty_if_more_than_results_differ(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(full, "ROOT", tmp_path)
    assert full.commit() == "unknown"
    write = (tmp_path / "page.md").write_text
    write("One.")
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "One."],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/a.json").touch()
    clean = full.commit()
    assert len(clean) == 40
    write("Two.")
    assert full.commit() == f"{clean}-dirty"
