"""Turn the exercises of chapters into assignments, graded by otter-grader.

``python tools/assignments.py`` makes one of every chapter, or of those that
are named, in ``_build/assignments/<chapter>``: ``student/`` holds the notebook
to hand out, ``autograder/`` the solved one and otter's zip for Gradescope.
Otter runs its tests on the solved notebook, and stops if one fails.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

import nbformat
from nbformat import NotebookNode, v4

from pages import headings, imports, is_chapter, tagged, where
from prose import solution
from stamp import ROOT, Identity, notebooks

CHAPTERS = [
    path
    for path in filter(is_chapter, notebooks(ROOT))
    if path.parent.name != "_template"
]
POINTS = {"derivation": 2, "computation": 2, "open-ended": 4}
CONFIG = """\
# ASSIGNMENT CONFIG
init_cell: false
export_cell: false
python_version: 3.11
requirements:
  - --extra-index-url https://download.pytorch.org/whl/cpu
  - torch
  - learning-mechanics @ {repository}/archive/refs/tags/v{version}.zip
"""
# What otter runs, and compares with the line that a check ends in, whatever
# the student's function prints or does to the notebook's imports.
GRADED = """\
def graded():
    import contextlib, io, signal
{imports}

    def late(*_):
        raise TimeoutError("{limit} seconds of computing")

    signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, {limit})
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
{check}
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    print(printed.getvalue().splitlines()[-1])
graded()"""
LIMIT = 60  # of one check, in seconds of computing
PREAMBLE = """\
# {title}: exercises

From the chapter [{title}]({page}) of *Learning Mechanics*, which numbers the
equations and names the sections. Write derivations and essays into the cell
below each; add cells where you need them. A computation is a function to fill
in and a cell that checks it: run it as often as you like. The one who grades
has a copy of that cell, so changing it changes nothing. On Colab, run the next
cell first; elsewhere, it does nothing where the book's package is installed.
"""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a chapter.

    Attributes
    ----------
    number : str
        Its number in the chapter.
    kind : str
        ``derivation``, ``computation`` or ``open-ended``.
    statement, answer : str
        Markdown of what is asked, and of the solution or the hints.
    code : tuple of str
        Reference solution, blank function and self-check of a computation,
        else nothing.
    """

    number: str
    kind: str
    statement: str
    answer: str
    code: tuple[str, str, str] | tuple[()]


def exercises(chapter: NotebookNode) -> Iterator[Exercise]:
    """Yield the exercises of a chapter, in their order."""
    for index, cell in enumerate(chapter.cells):
        found = re.findall(
            r"(?s)(\*\*Exercise (\d+) \((.+?)\)\.\*\*.*?)"
            r"<details><summary>.*?</summary>(.*?)</details>",
            cell.source if cell.cell_type == "markdown" else "",
        )
        for place, (statement, number, kind, answer) in enumerate(found, 1):
            after = chapter.cells[index + 1 : index + 3]
            code = ()
            if place == len(found) and tagged(after[-1], "check"):
                right = solution(chapter, index + 3)
                code = (right.strip(), *(cell.source for cell in after))
                answer = answer.replace(f"```python\n{right}```", "")
            yield Exercise(
                number, kind, statement.strip(), answer.strip(), code
            )


def outside(text: str, path: Path, identity: Identity) -> str:
    """Return a chapter's Markdown with its relative links led to the site."""

    def absolute(found: re.Match) -> str:
        name, anchor = found[1], found[2] or ""
        file = (path.parent / name).resolve() if name else path
        if not file.is_file():
            return found[0]  # mathematics, such as $B[X](t)$
        page = file.relative_to(ROOT).with_suffix(".html").as_posix()
        return f"]({identity.site}/{page}{anchor})"

    return re.sub(r"\]\(([\w./-]*)(#[\w-]+)?\)", absolute, text)


def question(exercise: Exercise, needed: str) -> list[NotebookNode]:
    """Return an exercise as the cells of a question for otter-assign.

    Parameters
    ----------
    exercise : Exercise
        What is asked.
    needed : str
        The imports that its check needs.
    """
    raw, text, code = v4.new_raw_cell, v4.new_markdown_cell, v4.new_code_cell
    config = (
        f"# BEGIN QUESTION\nname: exercise_{exercise.number}\n"
        f"points: {POINTS[exercise.kind]}\ncheck_cell: false\n"
        f"manual: {str(not exercise.code).lower()}"
    )
    written = [text(exercise.answer)] if exercise.answer else []
    if not exercise.code:
        solved, tests, shown = written, [], []
    else:
        right, blank, check = exercise.code
        solved = [
            *written,
            code(
                f"{blank}\n# BEGIN SOLUTION NO PROMPT\n{right}\n# END SOLUTION"
            ),
        ]
        printed = re.search(r'print\("(.*correct)"\)', check)[1]
        output = v4.new_output("stream", text=f"{printed}\n")
        graded = GRADED.format(
            imports=indent(needed, " " * 4),
            check=indent(check, " " * 12),
            limit=LIMIT,
        )
        tests = [
            raw("# BEGIN TESTS"),
            code(graded, outputs=[output]),
            raw("# END TESTS"),
        ]
        # The student's own copy: shown, locked, and not run when grading.
        locked = {"tags": ["otter_ignore"], "editable": False}
        shown = [code(check, metadata=locked)]
    return [
        raw(config),
        text(exercise.statement),
        raw("# BEGIN SOLUTION"),
        *solved,
        raw("# END SOLUTION"),
        *tests,
        raw("# END QUESTION"),
        *shown,
    ]


def source(chapter: NotebookNode, path: Path) -> NotebookNode:
    """Return what otter-assign makes an assignment from.

    Parameters
    ----------
    chapter : NotebookNode
        The chapter.
    path : Path
        Where it is.

    Raises
    ------
    ValueError
        If it has no exercises.
    """
    identity = Identity.of(ROOT)
    title = next(headings(chapter.cells[0].source))
    page = path.relative_to(ROOT).with_suffix(".html").as_posix()
    asked = list(exercises(chapter))
    if not asked:
        raise ValueError(f"{where(path)} has no exercises; allowed: a chapter")
    config = CONFIG.format(
        repository=identity.repository, version=identity.version
    )
    needed = imports(chapter)
    preamble = PREAMBLE.format(title=title, page=f"{identity.site}/{page}")
    cells = [
        v4.new_raw_cell(config),
        v4.new_markdown_cell(preamble),
        v4.new_code_cell(identity.install_cell),
        v4.new_code_cell(needed),
        *(cell for exercise in asked for cell in question(exercise, needed)),
    ]
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = outside(cell.source, path, identity)
    return v4.new_notebook(cells=cells, metadata=chapter.metadata)


def assign(path: Path, folder: Path, *, run_tests: bool = True) -> None:
    """Make the assignment of one chapter.

    Parameters
    ----------
    path : Path
        The chapter.
    folder : Path
        Where ``student/`` and ``autograder/`` go, replacing older ones.
    run_tests : bool
        Whether otter must find that the solved notebook passes.

    Raises
    ------
    subprocess.CalledProcessError
        If it does not; otter has printed why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    master = folder / path.name
    nbformat.write(source(nbformat.read(path, as_version=4), path), master)
    command = [sys.executable, "-m", "otter", "assign", master, folder]
    untested = [] if run_tests else ["--no-run-tests"]
    subprocess.run([*command, *untested], check=True)
    master.unlink()


def main() -> None:
    """Make the assignments of the named chapters, or of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", type=Path)
    chosen = [path.resolve() for path in parser.parse_args().chapters]
    for path in chosen or CHAPTERS:
        folder = ROOT / "_build/assignments" / path.stem
        assign(path, folder)
        print(f"{where(path)}: {folder}")


if __name__ == "__main__":
    main()
