"""Otter passes what is solved, fails what is not, and hides the solutions."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from assignments import (
    CHAPTERS,
    POINTS,
    assign,
    exercises,
    outside,
)
from pages import headings, targets
from stamp import ROOT, Identity

CHAPTER = ROOT / "chapters/solvable/deep_linear_networks.ipynb"


def read(path):
    return nbformat.read(path, as_version=4)


def made(folder: Path, part: str) -> Path:
    (notebook,) = (folder / part).glob("*.ipynb")
    return notebook


def secrets(exercise) -> Iterator[str]:
    """Yield the longer lines of a solution that are not in the question."""
    right, *shown = exercise.code or ("",)
    question = "\n".join([exercise.statement, *shown])
    for line in (exercise.answer + "\n" + right).splitlines():
        if len(line) > 20 and line not in question:
            yield line.strip()


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_student_version(path, tmp_path):
    assign(path, tmp_path, run_tests=False)
    chapter = read(path)
    titles = re.findall(
        r"\*\*Exercise (\d+) \(",
        "\n".join(cell.source for cell in chapter.cells),
    )
    asked = list(exercises(chapter))
    assert [exercise.number for exercise in asked] == titles
    student = read(made(tmp_path, "student"))
    text = nbformat.writes(student)
    shown = "\n".join(cell.source for cell in student.cells)
    solved = "\n".join(
        cell.source for cell in read(made(tmp_path, "autograder")).cells
    )
    for exercise in asked:
        assert exercise.kind in POINTS
        assert (exercise.kind == "computation") == bool(exercise.code)
        for line in secrets(exercise):
            assert line not in shown
            assert line not in text
        for part in exercise.code[1:]:
            assert part in shown
        for part in exercise.code[:2]:
            assert part in solved
    for cell in student.cells:
        if cell.cell_type == "markdown":
            for target in targets(cell.source):
                assert target.startswith("https://"), target


@pytest.fixture(scope="module")
def assignment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assignment")
    assign(CHAPTER, folder, run_tests=False)
    return folder


def scores(folder, notebook, tmp_path):
    """Return what a submission gets, and could get, in each question."""
    submission = tmp_path / "submission.ipynb"
    # Some editors keep no metadata: grading must not need it.
    for cell in notebook.cells:
        cell.metadata = {}
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec}
    nbformat.write(notebook, submission)
    (autograder,) = (folder / "autograder").glob("*.zip")
    grade = [sys.executable, "-m", "otter", "run", "--no-logo", submission]
    subprocess.run([*grade, "-a", autograder, "-o", tmp_path], check=True)
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    return {
        test["name"]: (test["score"], test["max_score"])
        for test in results["tests"]
        if "max_score" in test
    }


def marks(share):
    points = POINTS["computation"]
    return {
        f"exercise_{exercise.number}": (share * points, points)
        for exercise in exercises(read(CHAPTER))
        if exercise.code
    }


def test_solved_gets_full_marks(assignment, tmp_path):
    solved = read(made(assignment, "autograder"))
    assert scores(assignment, solved, tmp_path) == marks(1)


def test_blank_gets_none_and_a_changed_check_no_help(assignment, tmp_path):
    student = read(made(assignment, "student"))
    for cell in student.cells:
        if "def tree_strengths" in cell.source:
            cell.source += "\n    return np.ones(2**levels)"
        if "if tree_strengths" in cell.source:
            cell.source = 'print("exercise 5: correct")'
    assert scores(assignment, student, tmp_path) == marks(0)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_instructors_find_every_exercise(path):
    chapter = read(path)
    title = next(headings(chapter.cells[0].source))
    link = f"[{title}]({path.relative_to(ROOT / 'chapters').as_posix()})"
    numbers = [
        ", ".join(e.number for e in exercises(chapter) if e.kind == kind)
        for kind in POINTS
    ]
    text = (ROOT / "chapters/teaching.md").read_text("utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if link in line]
    assert [row[3:] for row in rows] == [[*numbers[:2], f"{numbers[2]} |"]]


def test_outside():
    identity = Identity("1.0", "https://github.com/a/b", "main")
    page = "https://a.github.io/b/chapters"
    here = f"{page}/solvable/deep_linear_networks.html"
    for text, right in (
        ("[n](../notation.md)", f"[n]({page}/notation.html)"),
        ("[n](../notation.md#data)", f"[n]({page}/notation.html#data)"),
        ("[q](#the-question)", f"[q]({here}#the-question)"),
        ("$B[X](t)$", "$B[X](t)$"),
        ("[p](https://arxiv.org/abs/1)", "[p](https://arxiv.org/abs/1)"),
    ):
        assert outside(text, CHAPTER, identity) == right
