"""Apply every rule of the book to every notebook, and to the repository.

That each rule can fail is shown in ``test_rules.py``.
"""

import re

import nbformat
import pytest

import rules
import stamp

ROOT = stamp.ROOT
NOTEBOOKS = [path.relative_to(ROOT) for path in stamp.notebooks(ROOT)]
CHAPTERS = [path for path in NOTEBOOKS if path.stem != "scoreboard"]


def _name(value):
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=_name)
@pytest.mark.parametrize("rule", rules.PAGE, ids=_name)
def test_page(rule, path):
    notebook = nbformat.read(ROOT / path, as_version=4)
    found = list(rule(notebook, ROOT / path))
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize("path", CHAPTERS, ids=_name)
@pytest.mark.parametrize("rule", rules.CHAPTER, ids=_name)
def test_chapter(rule, path):
    notebook = nbformat.read(ROOT / path, as_version=4)
    found = list(rule(notebook, ROOT / path))
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize("rule", rules.BOOK, ids=_name)
def test_book(rule):
    found = list(rule(ROOT))
    assert not found, "\n".join(["", *found])


def test_there_is_a_chapter():
    assert CHAPTERS


def test_the_readme_gives_the_commands_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for name, value in {
        "$(BIN)/": "",
        "$(INDEX) ": "",
        "$(PYTHON)": "python3.11",
    }.items():
        makefile = makefile.replace(name, value)
    recipes = re.sub(r"\s*\\\n\s*", " ", makefile)
    readme = (ROOT / "README.md").read_text("utf-8")
    block = re.search(r"Without make:\n\n```sh\n(.*?)```", readme, re.DOTALL)
    commands = re.sub(r"\s*\\\n\s*", " ", block[1]).splitlines()
    commands = [c for c in commands if c and not c.startswith("#")]
    assert len(commands) == 8
    for command in commands:
        bare = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", command)
        assert bare.replace(".venv/bin/", "") in recipes
