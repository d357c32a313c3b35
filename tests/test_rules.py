"""Show that each rule of the book can fail: a small bad notebook for each.

`good` is a chapter that keeps every rule. Each case spoils one thing in it
and names the rule that must notice, with words from what it must say.
"""

import base64
import io
import shutil

import nbformat
import pytest
from nbformat import v4
from PIL import Image

import ledger
import prose
import rules
from example import RECORD
from learning_mechanics.records import MIME, Record
from learning_mechanics.results import Replication, Run, Spread
from learning_mechanics.results import write as store
from stamp import ROOT, Identity

PAGE = "chapters/solvable/example.ipynb"
RESULTS = "results/replication/solvable/example.json"
LARGER = "results/reduced/solvable/example.json"
EXPLORABLE = (
    '<div class="explorable" id="explorable-1"><img src="data:image/png;'
    'base64,AA" alt="A white square."></div>'
)
BREAKS = RECORD | {
    "id": "example/edge",
    "statement": "Not when one is large.",
    "kind": "breaks",
    "data": "real",
    "measured": [2.0, 5.0],
    "error": 0.25,
}


def replication(errors):
    """Return what seeds came to, given the errors of the test."""
    spreads = {
        record["id"]: Spread.of([Record(**record | {"error": e}) for e in row])
        for record, row in ((RECORD, errors), (BREAKS, [0.25] * len(errors)))
    }
    return Replication(
        **dict.fromkeys(("command", "scale", "device", "machine"), ""),
        versions={},
        seeds=list(range(1, len(errors) + 1)),
        predictions=spreads,
    )


def larger():
    """Return what the reduced scale came to."""
    return Run(
        **dict.fromkeys(("command", "scale", "device", "machine"), ""),
        versions={},
        commit="",
        seconds=1.0,
        figures=[],
        records=[Record(**RECORD), Record(**BREAKS)],
    )


def png(mode="RGB", size=(8, 8), color="white"):
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def stored(record):
    bundle = Record(**record)._repr_mimebundle_()
    return v4.new_output("display_data", bundle)


def good():
    """Return a chapter that keeps every rule; its cells in the order named."""
    identity = Identity.of(ROOT)
    install = v4.new_code_cell(
        identity.install_cell, metadata={"tags": ["install"]}
    )
    image = v4.new_output(
        "display_data",
        {
            "image/png": png(),
            "text/html": EXPLORABLE,
            "text/plain": "A white square.",
        },
        metadata={"image/png": {"alt": "A white square."}},
    )
    declare = """\
total = predictions.Prediction(
    "example/sum", "One and one is two.", tolerance=TOLERANCE,
    source="euclid")
total.test(predicted=[2, 4], measured=[2.001, 4])"""
    edge = """\
Prediction(
    "example/edge", "Not when one is large.", tolerance=0.01,
    source="euclid", data="real").breaks(predicted=[2, 4], measured=[2, 5])"""
    cells = [
        v4.new_markdown_cell(
            "# Example\n\nOne and one is two.\n\n" + identity.badge(PAGE_PATH)
        ),
        v4.new_markdown_cell(
            "## The question\n\n$1 + 1$, as in [Euclid]"
            "(https://arxiv.org/abs/0001.00001v2) or "
            "https://doi.org/10.1000/a(b)1; see "
            "[there](../index.md#two-words), [here](#exercises).\n\n"
            "$$ 1 + 1 = 2 \\tag{1} $$"
        ),
        install,
        v4.new_code_cell("from learning_mechanics import predictions"),
        v4.new_code_cell("show()", outputs=[image]),
        v4.new_code_cell(declare, outputs=[stored(RECORD)]),
        v4.new_markdown_cell("## Where it breaks"),
        v4.new_code_cell(edge, outputs=[stored(BREAKS)]),
        v4.new_markdown_cell("## Back to the question"),
        v4.new_code_cell("predictions.summary()"),
        v4.new_markdown_cell(
            "## Exercises\n\n**Exercise 1.** Add.\n\n<details>\n\nDone.\n\n"
            "</details>"
        ),
        v4.new_markdown_cell("### Exercise 2 (computation)\n\nSubtract."),
        v4.new_markdown_cell(
            "<details>\n\n```python\ndef difference(a, b):\n"
            "    return a - b\n```\n\n</details>"
        ),
        v4.new_code_cell("def difference(a, b):\n    pass"),
        v4.new_code_cell("assert True", metadata={"tags": ["check"]}),
        v4.new_markdown_cell("## Further reading"),
    ]
    code = [cell for cell in cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, 1):
        cell.execution_count = count
    return v4.new_notebook(cells=cells)


TITLE, QUESTION, INSTALL, IMPORT, FIGURE, DECLARE, _, EDGE = range(8)
SUMMARY, EXERCISE, SOLUTION, CHECK = 9, 10, 12, 14
PAGE_PATH = type(ROOT)(PAGE)


def library(root):
    """Write a small book with the good chapter in it; return its root."""
    shutil.copy(ROOT / "pyproject.toml", root)
    files = {
        "_toc.yml": "root: chapters/index\nparts:\n- chapters:\n"
        "  - file: chapters/solvable/example\n  - file: reference/data\n",
        "references.bib": "@book{euclid, title = {Elements}, "
        "eprint = {0001.00001}, doi = {10.1000/A(b)1}}\n",
        "README.md": "[the book](chapters/index.md)\n",
        "chapters/index.md": "# Book\n\n## Two words\n",
        ".gitignore": "built/\n",
        "lib/learning_mechanics/__init__.py": "\n``data``  real data\n",
        "lib/learning_mechanics/data.py": "",
        "reference/data.md": "# data\n",
        "tests/test_data.py": "",
        "built/a.txt": "/" + "root",
    }
    store(root / RESULTS, replication([0.0] * 20))
    store(root / LARGER, larger())
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / PAGE).parent.mkdir()
    nbformat.write(good(), root / PAGE)
    return root


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    return library(tmp_path_factory.mktemp("book"))


def source(cell, text):
    def spoil(notebook):
        notebook.cells[cell].source = text

    return spoil


def add(cell, text):
    def spoil(notebook):
        notebook.cells[cell].source += text

    return spoil


def drop(cell):
    def spoil(notebook):
        del notebook.cells[cell]

    return spoil


def output(cell, **fields):
    """Replace a cell's first output."""

    def spoil(notebook):
        notebook.cells[cell].outputs[:1] = [v4.new_output(**fields)]

    return spoil


def picture(mime="image/png", alt="A square.", **image):
    return output(
        FIGURE,
        output_type="display_data",
        data={mime: png(**image)},
        metadata={mime: {"alt": alt}},
    )


def noise(notebook):
    """Store an image that does not compress."""
    pixels = Image.effect_noise((300, 300), 100)
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    notebook.cells[FIGURE].outputs[0].data["image/png"] = data


def html(text):
    return output(FIGURE, output_type="display_data", data={"text/html": text})


def same_id(notebook):
    notebook.cells[FIGURE].outputs *= 2


def metadata(cell, **fields):
    def spoil(notebook):
        notebook.cells[cell].metadata.update(fields)

    return spoil


def long_cells(notebook):
    for cell in (IMPORT, FIGURE, DECLARE, EDGE):
        notebook.cells[cell].source = "x\n" * 13


def widgets(notebook):
    notebook.metadata["widgets"] = {}


def not_run(notebook):
    notebook.cells[IMPORT].execution_count = None


def out_of_order(notebook):
    notebook.cells[IMPORT].execution_count = 9


def late_install(notebook):
    cells = notebook.cells
    cells[INSTALL], cells[IMPORT] = cells[IMPORT], cells[INSTALL]


def record(cell=DECLARE, consistent=True, **changes):
    """Alter the stored record; if `consistent`, its text and table too."""

    def spoil(notebook):
        data = notebook.cells[cell].outputs[0].data
        changed = {**data[MIME], **changes}
        if consistent:
            data.update(Record(**changed)._repr_mimebundle_())
        data[MIME] = changed

    return spoil


def swapped_records(notebook):
    """Put each record into the output of the other."""
    first, second = (notebook.cells[c].outputs[0].data for c in (5, 7))
    first[MIME], second[MIME] = second[MIME], first[MIME]


def swapped_outputs(notebook):
    """Put each record, with its text and table, into the other's cell."""
    first, second = notebook.cells[DECLARE], notebook.cells[EDGE]
    first.outputs, second.outputs = second.outputs, first.outputs


def flipped_text(notebook):
    """Change the verdict that is read, not the record."""
    data = notebook.cells[DECLARE].outputs[0].data
    data["text/plain"] = data["text/plain"].replace("holds", "FAILS")


def missing_field(notebook):
    del notebook.cells[DECLARE].outputs[0].data[MIME]["error"]


def twice(notebook):
    notebook.cells[DECLARE].outputs *= 2


def no_record(notebook):
    notebook.cells[DECLARE].outputs = []


def no_breaks(notebook):
    del notebook.cells[EDGE]


def early_summary(notebook):
    notebook.cells.insert(EDGE, notebook.cells.pop(SUMMARY))


CASES = [
    (prose.markdown, add(QUESTION, " {cite}`saxe`"), "a MyST role"),
    (prose.markdown, add(QUESTION, "\n\n```{note}\nx\n```"), "directive"),
    (prose.markdown, add(QUESTION, "\n\n:::{note}\nx\n:::"), "colon fence"),
    (prose.markdown, add(QUESTION, "\n\n$$x$$ (eq)"), "label after $$"),
    (prose.markdown, source(8, "(back)=\n# Back"), "a MyST target"),
    (prose.markdown, add(QUESTION, "\n\n% x"), "a MyST comment"),
    (prose.markdown, add(QUESTION, "\n\n+++\n"), "block break"),
    (prose.markdown, add(QUESTION, " [](../index.md)"), "without text"),
    (rules.code_size, source(EDGE, "x\n" * 31), "31 lines"),
    (rules.code_size, source(EDGE, "x" * 80), "80 characters"),
    (rules.code_size, long_cells, "median"),
    (rules.images, picture(alt=" "), "without alt text"),
    (rules.images, picture(mode="RGBA", color=(0, 0, 0, 0)), "transparent"),
    (rules.images, picture(mime="image/jpeg"), "allowed: image/png"),
    (rules.images, noise, "allowed: 61440"),
    (rules.images, html('<img src="a.png">'), "without alt text"),
    (rules.images, add(QUESTION, "![](../index.md)"), "without alt text"),
    (rules.html_size, html("x" * 61_441), "61441 bytes of HTML; allowed: 614"),
    (rules.html_size, html(EXPLORABLE + "x" * 200_000), "allowed: 200000"),
    (rules.html_size, html('<img src="data:image/png;base64,AA" alt="A.">'),
     "an image in HTML"),
    (rules.stills, html(EXPLORABLE), "an explorable without a still"),
    (rules.stills, same_id, "a second explorable 'explorable-1'"),
    (rules.explorable, picture(), "no explorable"),
    (rules.install_cell, drop(INSTALL), "0 code cells"),
    (rules.install_cell, add(INSTALL, " -U"), "stale"),
    (rules.install_cell, late_install, "before the install cell"),
    (rules.badge, source(TITLE, "# Example"), "has no line"),
    (rules.badge, drop(TITLE), "has no line"),
    (rules.badge, lambda notebook: notebook.cells.clear(), "has no line"),
    (rules.badge, add(TITLE, " x"), "has no line"),
    (rules.executed, not_run, "execution count None; allowed: 2"),
    (rules.executed, out_of_order, "execution count 9; allowed: 2"),
    (rules.executed, output(FIGURE, output_type="error", ename="ValueError"),
     "stored error ValueError"),
    (rules.executed, output(FIGURE, output_type="stream", name="stderr",
                            text="Warning"), "stderr 'Warning'"),
    (rules.stored_state, widgets, "widget state"),
    (rules.stored_state, metadata(FIGURE, execution={}), "timing"),
    (rules.stored_state, output(
        FIGURE, output_type="display_data",
        data={"application/vnd.jupyter.widget-view+json": {}}), "widget"),
    (prose.links, add(QUESTION, " [a](other.ipynb)"), "does not exist"),
    (prose.links, add(QUESTION, ' <a href="x.md">a</a>'), "not exist"),
    (prose.links, add(QUESTION, " [a](../index.md#one)"), "has that anchor"),
    (prose.links, add(QUESTION, " [a](#nowhere)"), "has that anchor"),
    (prose.citations, add(QUESTION, " [a](https://arxiv.org/pdf/1312.6120)"),
     "1312.6120 is not in references.bib"),
    (prose.citations, add(QUESTION, " <https://doi.org/10.1000/x(y)>"),
     "10.1000/x(y) is not in references.bib"),
    (prose.citations, record(source="newton"), "'newton' is not a key"),
    (prose.sections, source(6, "## A limit"), "'Where it breaks'"),
    (prose.exercises, drop(SOLUTION), "'Exercise 2 (computation)' has no sol"),
    (prose.exercises, source(EXERCISE, "## Exercises\n\n**Exercise 1.** Add."),
     "'Exercise 1.' has no solution"),
    (prose.exercises, metadata(CHECK, tags=[]), "no cell tagged check"),
    (prose.exercises, source(SOLUTION, "<details>\n\nDone.\n\n</details>"),
     "a self-check without reference solution"),
    (prose.exercises, drop(CHECK - 1), "a self-check without reference"),
    (prose.exercises, add(SOLUTION, "<details>"), "do not match"),
    (prose.exercises, source(EXERCISE, "## Problems"), "no 'Exercise 1'"),
    (ledger.stored, record(measured=[2.002, 4.0]), "its numbers give 0.001"),
    (ledger.stored, record(consistent=False, measured=[2.0, 4.0]),
     "text/plain is not what it renders to"),
    (ledger.stored, record(error=0.0001), "its numbers give 0.0005"),
    (ledger.stored, record(holds=False), "stored verdict False"),
    (ledger.stored, record(EDGE, holds=False), "stored verdict False"),
    (ledger.stored, record(kind="breaks"), "stored verdict True"),
    (ledger.stored, record(kind="guess"), "kind 'guess'"),
    (ledger.stored, record(measured=[3.0, 4.0], error=0.5, holds=False),
     "does not hold"),
    (ledger.stored, record(consistent=False, measured=[2.001]),
     "as many of each"),
    (ledger.stored, record(consistent=False, error=float("nan")), "finite"),
    (ledger.stored, record(consistent=False, predicted=[0.0, 4.0]),
     "relative error of a predicted 0"),
    (ledger.stored, record(tolerance=0.02, relative=False), "relative False"),
    (ledger.stored, record(EDGE, tolerance=0.02), "declared 0.01"),
    (ledger.stored, record(data="real"), "declared 'synthetic'"),
    (ledger.stored, record(id="example/other"), "no Prediction"),
    (ledger.stored, missing_field, "missing 1 required"),
    (ledger.stored, swapped_records, "text/html is not what it renders to"),
    (ledger.stored, flipped_text, "text/plain is not what it renders to"),
    (ledger.complete, swapped_outputs, "calls ['example/sum.test'] but"),
    (ledger.complete, no_record, "has 0 stored records"),
    (ledger.complete, twice, "has 2 stored records"),
    (ledger.complete, no_breaks, "no prediction `breaks`"),
    (ledger.complete, drop(SUMMARY), "does not end the ledger"),
    (ledger.complete, early_summary, "does not end the ledger"),
    (ledger.complete, source(EDGE, 'Prediction(f"a/{b}", "c", tolerance=1, '
                             'source="d")'), "is not a literal"),
    (ledger.complete, source(EDGE, "Prediction('Edge')"), "not a literal"),
    (ledger.complete, source(EDGE, "Prediction('a/b', **rest)"),
     "Prediction('a/b') has 0 stored records"),
    (ledger.no_predictions, add(TITLE, ""), "cell 8: declares a prediction"),
]  # fmt: skip


def write(name, text):
    def spoil(root):
        (root / name).write_text(text)

    return spoil


def duplicate(root):
    shutil.copy(root / PAGE, root / "chapters/copy.ipynb")


def other_tolerance(name):
    def spoil(root):
        text = (root / name).read_text()
        (root / name).write_text(text.replace("0.01", "0.02", 1))

    return spoil


def failing_seeds(root):
    store(root / RESULTS, replication([0.0] * 18 + [0.02] * 2))


def test_a_prediction_that_fails_for_some_seeds_is_explained(tmp_path):
    root = library(tmp_path)
    failing_seeds(root)
    notebook = good()
    for cell, explained in ((TITLE, False), (EXERCISE, True)):
        notebook.cells[cell].source += "\n\n`example/sum`: 18 of 20 seeds."
        nbformat.write(notebook, root / PAGE)
        assert bool(list(ledger.current(root))) is not explained
    store(root / RESULTS, replication([0.0] * 19 + [0.02]))
    nbformat.write(good(), root / PAGE)
    assert not list(ledger.current(root))


BOOK_CASES = [
    (rules.toc, duplicate, "chapters/copy.ipynb: not in _toc.yml"),
    (rules.toc, write("chapters/more.md", ""), "chapters/more.md: not in"),
    (rules.toc, write("_toc.yml", "root: chapters/other"),
     "chapters/other does not exist"),
    (rules.modules, write("lib/learning_mechanics/more.py", ""),
     "reference/more.md: missing, for more.py"),
    (rules.modules, write("lib/learning_mechanics/more.py", ""),
     "tests/test_more.py: missing, for more.py"),
    (rules.modules, write("lib/learning_mechanics/more.py", ""),
     "_toc.yml: - file: reference/more, for more.py"),
    (rules.modules, write("lib/learning_mechanics/more.py", ""),
     "__init__.py: ``more``, for more.py"),
    (rules.machine_paths, write("a.txt", "\ncd /" + "work/main"),
     "a.txt, line 2"),
    (rules.machine_paths, write("a.yml", "home: /" + "root"), "a.yml"),
    (rules.repository_links, write("README.md", "[a](gone.md)"),
     "README.md: link to gone.md"),
    (ledger.unique, duplicate, "already declared in chapters/copy.ipynb"),
    (ledger.current, other_tolerance(RESULTS), f"{RESULTS}: older"),
    (ledger.current, other_tolerance(LARGER), f"{LARGER}: older"),
    (ledger.current, write(LARGER, "[]"), f"{LARGER}: TypeError"),
    (ledger.current, write(RESULTS, "{}"), f"{RESULTS}: TypeError"),
    (ledger.current, failing_seeds,
     "example/sum held under 18 of 20 seeds; allowed: 95%"),
]  # fmt: skip


def test_ids_that_cannot_be_read_are_not_compared(tmp_path):
    root = library(tmp_path)
    notebook = good()
    notebook.cells[DECLARE].source = "for i in 'ab': Prediction(i, i)"
    notebook.cells[EDGE].source = "Prediction(f'{i}')"
    nbformat.write(notebook, root / PAGE)
    assert not list(ledger.unique(root))


def problems(rule, notebook, book):
    return list(rule(notebook, book / PAGE))


def test_the_good_chapter_keeps_every_rule(book):
    for rule in rules.PAGE + rules.CHAPTER:
        assert problems(rule, good(), book) == []
    for rule in rules.BOOK:
        assert list(rule(book)) == []


@pytest.mark.parametrize(("rule", "spoil", "words"), CASES)
def test_a_bad_notebook_breaks_the_rule(rule, spoil, words, book):
    notebook = good()
    spoil(notebook)
    found = problems(rule, notebook, book)
    assert any(words in problem for problem in found), found
    assert all(problem.startswith(PAGE) for problem in found)


@pytest.mark.parametrize(("rule", "spoil", "words"), BOOK_CASES)
def test_a_bad_repository_breaks_the_rule(rule, spoil, words, tmp_path):
    root = library(tmp_path)
    spoil(root)
    found = list(rule(root))
    assert any(words in problem for problem in found), found


def test_every_rule_is_seen_to_fail():
    shown = {rule for rule, *_ in CASES + BOOK_CASES}
    assert shown == {
        *rules.PAGE, *rules.CHAPTER, *rules.APPENDIX, *rules.BOOK
    }  # fmt: skip
