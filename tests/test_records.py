import json

import nbformat
import numpy as np
import pytest

from example import RECORD
from learning_mechanics import records
from learning_mechanics.predictions import Prediction
from learning_mechanics.records import MIME, Ledger, Record


def render(**changes):
    """Return text and table of a record."""
    bundle = Record(**RECORD | changes)._repr_mimebundle_()
    return bundle["text/plain"], bundle["text/html"]


def test_a_record_survives_json():
    record = Record(**RECORD)
    stored = json.loads(json.dumps(record._repr_mimebundle_()[MIME]))
    assert stored == RECORD
    assert Record(**stored) == record


def test_a_prediction_in_numpy_numbers_survives_json(capsys):
    prediction = Prediction(
        "test/numpy", "One.", tolerance=np.float32(0.5), source="someone2026"
    )
    assert json.dumps(prediction.tolerance) == "0.5"


def test_only_measured_numbers_carry_the_mark():
    text, table = render()
    assert "          2        ≈ 2   ≈ 0.0005" in text
    assert "<tr><td>2</td><td>≈ 2</td><td>≈ 0.0005</td></tr>" in table


def test_the_error_of_each_entry():
    assert Record(**RECORD).errors == pytest.approx([0.0005, 0.0])
    absolute = Record(**RECORD | {"relative": False, "predicted": [0.0, 5.0]})
    assert absolute.errors == pytest.approx([2.001, 1.0])


@pytest.mark.parametrize(
    ("kind", "holds", "words", "state"),
    [
        ("test", True, "holds", "holds"),
        ("test", False, "FAILS", "fails"),
        ("breaks", True, "breaks, as declared", "holds"),
        ("breaks", False, "DOES NOT BREAK", "fails"),
    ],
)
def test_text_and_table_say_the_verdict(kind, holds, words, state):
    text, table = render(kind=kind, holds=holds)
    assert text.startswith(f"{words} · example/sum")
    assert f'<strong class="{state}">{words}</strong>' in table


def test_what_was_fitted_is_said():
    assert all("fitted: the rate" in t for t in render(fitted="the rate"))


def test_html_is_escaped():
    text, table = render(statement="a < b & c", fitted="<i>")
    assert "a < b & c" in text
    assert "a &lt; b &amp; c" in table
    assert "&lt;i&gt;" in table


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (6, 6), (7, 6), (99, 6)])
def test_long_records_are_shown_in_part(count, rows):
    numbers = [float(i + 1) for i in range(count)]
    text, table = render(predicted=numbers, measured=numbers)
    assert (f"6 of {count} shown" in text) == (count > 6)
    assert len(text.splitlines()) == 4 + rows
    assert table.count("<tr>") == 1 + rows
    assert f"<td>≈ {count}</td>" in table


def test_a_ledger_is_a_table():
    edge = RECORD | {"id": "example/edge", "kind": "breaks", "holds": False}
    ledger = Ledger((Record(**RECORD), Record(**edge)))
    lines = repr(ledger).splitlines()
    assert lines == [
        "1 of 2 predictions as declared",
        "example/sum   holds               error ≈ 0.0005 of 0.01",
        "example/edge  DOES NOT BREAK      error ≈ 0.0005 of 0.01",
    ]
    assert ledger._repr_html_().count("<tr>") == 3
    assert repr(Ledger(())) == "0 of 0 predictions as declared"


def notebook(path, *bundles):
    outputs = [
        nbformat.v4.new_output("display_data", data=bundle)
        for bundle in bundles
    ]
    cell = nbformat.v4.new_code_cell("x", outputs=outputs)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return path


def test_collect_reads_what_was_stored(tmp_path):
    record = Record(**RECORD)
    path = notebook(
        tmp_path / "book.ipynb",
        {"text/plain": "other"},
        record._repr_mimebundle_(),
    )
    assert records.collect(path) == [record]


@pytest.mark.parametrize("fields", [{"id": "a/b"}, RECORD | {"more": 1}])
def test_collect_refuses_a_record_of_another_form(tmp_path, fields):
    path = notebook(tmp_path / "book.ipynb", {MIME: fields})
    with pytest.raises(ValueError, match=r"book\.ipynb holds a record"):
        records.collect(path)
