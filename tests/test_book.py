"""Apply every rule of the book to every notebook, and to the repository.

That each rule can fail is shown in ``test_rules.py``.
"""

import re

import nbformat
import pytest

import rules
from pages import is_chapter
from stamp import ROOT, notebooks

PAGES = [
    pytest.param(rule, path, id=f"{path.relative_to(ROOT)}-{rule.__name__}")
    for path in notebooks(ROOT)
    for rule in rules.PAGE
    + (rules.CHAPTER if is_chapter(path) else rules.APPENDIX)
]


def refuse(problems):
    if found := list(problems):
        pytest.fail("\n".join(found), pytrace=False)


@pytest.mark.parametrize(("rule", "path"), PAGES)
def test_page(rule, path):
    refuse(rule(nbformat.read(path, as_version=4), path))


@pytest.mark.parametrize("rule", rules.BOOK, ids=lambda rule: rule.__name__)
def test_book(rule):
    refuse(rule(ROOT))


def test_there_is_a_chapter():
    assert any(map(is_chapter, notebooks(ROOT)))


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
    commands = [c.partition("  #")[0] for c in commands]
    commands = [c for c in commands if c and not c.startswith("#")]
    assert len(commands) >= 8
    for command in commands:
        bare = re.sub(r"^(?:[A-Z_]+=\S+ )+", "", command)
        assert bare.replace(".venv/bin/", "") in recipes
