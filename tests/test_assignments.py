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
    assign(path, tmp_path)  # fails if otter finds the solved one wanting
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
            assert json.dumps(line, ensure_ascii=False)[1:-1] not in text
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assignments.LIMIT", 5)
        assign(CHAPTER, folder, run_tests=False)
    return folder


def scores(folder, notebook, tmp_path):
    """Return what a submission gets, and could get, in each question."""
    submission = tmp_path / "submission.ipynb"
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


def marks(*shares):
    points = POINTS["computation"]
    return {
        f"exercise_{number}": (share * points, points)
        for number, share in zip((3, 4, 5), shares, strict=True)
    }


def test_solved_gets_full_marks(assignment, tmp_path):
    solved = read(made(assignment, "autograder"))
    assert scores(assignment, solved, tmp_path) == marks(1, 1, 1)


def test_blank_gets_none_and_a_changed_check_no_help(assignment, tmp_path):
    student = read(made(assignment, "student"))
    for cell in student.cells:
        if "def tree_strengths" in cell.source:
            cell.source += "\n    return np.ones(2**levels)"
        if "if tree_strengths" in cell.source:
            cell.source = 'print("exercise 5: correct")'
    # Some editors keep no metadata: grading must not need it.
    for cell in student.cells:
        cell.metadata = {}
    student.metadata = {"kernelspec": student.metadata.kernelspec}
    assert scores(assignment, student, tmp_path) == marks(0, 0, 0)


def test_one_failure_costs_one_exercise(assignment, tmp_path):
    solved = read(made(assignment, "autograder"))
    # What is right counts without the imports, and whatever it prints.
    solved.cells = [c for c in solved.cells if "import numpy" not in c.source]
    for cell in solved.cells:
        if "def half_rise_of_map" in cell.source:
            cell.source = cell.source.replace("return", "print(s); return")
        if "def decayed_strengths" in cell.source:
            cell.source = "1 / 0"
        if "def tree_strengths" in cell.source:
            cell.source = "def tree_strengths(*_):\n    while True: pass"
    assert scores(assignment, solved, tmp_path) == marks(1, 0, 0)


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
