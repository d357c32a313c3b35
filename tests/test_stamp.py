import json
import re
import shutil

import nbformat
import pytest
import yaml
from nbformat import v4

import stamp
from stamp import ROOT, Identity

PAGE = "chapters/solvable/example.ipynb"
OLD = Identity("0.1.0", "https://github.com/old/book", "main")
NEW = Identity("2.0.1", "https://github.com/new-owner/new.name", "release")
TEXT = """\
[![check](https://github.com/old/book/actions/check/badge.svg?branch=main)]
(https://github.com/old/book), <https://old.github.io/book/index.html>.
git clone https://github.com/old/book.git
Not ours: https://github.com/old/bookshelf, https://old.github.io/other,
https://colab.research.google.com/github/else/where/blob/main/a.ipynb.
"""
CONFIG = """\
title: Book  # a comment
repository:
  url: https://github.com/old/book  # another
  path_to_book: ""
  branch: main
"""
CITATION = """\
cff-version: 1.2.0
version: 0.1.0
repository-code: https://github.com/old/book
url: https://old.github.io/book
"""


def notebook():
    return v4.new_notebook(
        cells=[
            v4.new_markdown_cell(
                "# Title\n\n" + OLD.badge(stamp.Path("elsewhere.ipynb"))
            ),
            v4.new_code_cell("old", metadata={"tags": ["install"]}),
            v4.new_markdown_cell("η; https://github.com/old/book/issues"),
            v4.new_code_cell("β = 1", execution_count=2),
        ]
    )


def pyproject(root, identity):
    (root / "pyproject.toml").write_text(
        f'[project]\nversion = "{identity.version}"\n[project.urls]\n'
        f'Repository = "{identity.repository}"\n'
        f'[tool.learning-mechanics]\nbranch = "{identity.branch}"\n'
    )


@pytest.fixture
def book(tmp_path):
    """Return the root of a small book that was stamped as `OLD`."""
    pyproject(tmp_path, OLD)
    (tmp_path / "_config.yml").write_text(CONFIG)
    (tmp_path / "CITATION.cff").write_text(CITATION)
    (tmp_path / "README.md").write_text(TEXT)
    (tmp_path / PAGE).parent.mkdir(parents=True)
    nbformat.write(notebook(), tmp_path / PAGE)
    assert stamp.main([], tmp_path) == 0
    return tmp_path


def contents(root):
    return {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_book_is_stamped(capsys):
    assert stamp.main(["--check"]) == 0, capsys.readouterr().out


def test_the_derived_files_of_the_book_agree():
    identity = Identity.of(ROOT)
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    assert config["repository"]["url"] == identity.repository
    assert config["repository"]["branch"] == identity.branch
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == identity.version
    assert citation["repository-code"] == identity.repository
    assert citation["url"] == identity.site
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"git clone {identity.repository}\n" in readme
    assert f"({identity.site})" in readme
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"(?m)^## \[?{re.escape(identity.version)}\b", changes)


def test_a_new_identity_is_written_everywhere(book, capsys):
    pyproject(book, NEW)
    assert stamp.main(["--check"], book) == 1
    named = capsys.readouterr().out.split("\n")
    assert named[:-1] == [
        f"stale {name}"
        for name in ("CITATION.cff", "README.md", "_config.yml", PAGE)
    ]
    assert stamp.main([], book) == 0
    assert stamp.main(["--check"], book) == 0
    text = (book / "README.md").read_text()
    assert text.count("https://github.com/new-owner/new.name") == 3
    assert "badge.svg?branch=release" in text
    assert "<https://new-owner.github.io/new.name/index.html>" in text
    assert text.split("Not ours")[1] == TEXT.split("Not ours")[1]
    config = (book / "_config.yml").read_text()
    assert config == CONFIG.replace("old/book", "new-owner/new.name").replace(
        "branch: main", "branch: release"
    )
    assert "version: 2.0.1" in (book / "CITATION.cff").read_text()


def test_check_writes_nothing_and_stamp_writes_once(book):
    pyproject(book, NEW)
    before = contents(book)
    stamp.main(["--check"], book)
    assert contents(book) == before
    stamp.main([], book)
    after = contents(book)
    stamp.main([], book)
    assert contents(book) == after


def test_a_notebook_changes_only_in_stamped_lines(book):
    text = (book / PAGE).read_text("utf-8")
    assert text.endswith("}\n")
    assert '\n "cells"' in text
    assert "η" in text
    pyproject(book, NEW)
    stamp.main([], book)
    old, new = json.loads(text), json.loads((book / PAGE).read_text("utf-8"))
    for cell in old["cells"][:2]:
        cell["source"] = None
    title, install = (new["cells"][i]["source"] for i in (0, 1))
    new["cells"][0]["source"] = new["cells"][1]["source"] = None
    old["cells"][2]["source"] = [
        "η; https://github.com/new-owner/new.name/issues"
    ]
    assert new == old
    assert title[-1] == NEW.badge(stamp.Path(PAGE))
    assert title[-1].endswith(f"/new-owner/new.name/blob/release/{PAGE})")
    assert install[-1].endswith("new.name/archive/refs/tags/v2.0.1.zip")


@pytest.mark.parametrize("cell", [0, 1])
def test_a_notebook_without_badge_or_install_cell_is_refused(book, cell):
    bad = notebook()
    bad.cells[cell].source = "# Title"
    bad.cells[cell].metadata.clear()
    nbformat.write(bad, book / PAGE)
    with pytest.raises(ValueError, match=r"example\.ipynb: .*one of each"):
        stamp.main([], book)


@pytest.mark.parametrize("text", ["", "<<<<<<< HEAD\n{}", '{"cells": []}'])
def test_what_is_no_notebook_is_named(book, text):
    (book / PAGE).write_text(text)
    with pytest.raises(ValueError, match=r"example\.ipynb: .*allowed"):
        stamp.main([], book)


def test_a_config_without_address_is_refused(book):
    (book / "_config.yml").write_text("title: Book\n")
    with pytest.raises(ValueError, match="has no line"):
        stamp.main([], book)


def test_an_address_that_is_not_on_github_is_refused(book):
    pyproject(book, Identity("1", "https://example.org/book", "main"))
    with pytest.raises(ValueError, match="allowed: https://github"):
        stamp.main([], book)


def test_checkpoints_are_not_pages(book):
    folder = book / "chapters/.ipynb_checkpoints"
    folder.mkdir()
    shutil.copy(book / PAGE, folder)
    assert stamp.notebooks(book) == [book / PAGE]
