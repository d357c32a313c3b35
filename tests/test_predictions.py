import json

import nbformat
import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from learning_mechanics import predictions
from learning_mechanics.predictions import MIME, Prediction, PredictionError


@pytest.fixture(autouse=True)
def _empty_ledger(monkeypatch):
    monkeypatch.setattr(predictions, "_declared", {})
    monkeypatch.setattr(predictions, "_tested", {})


def declare(**changes):
    fields = {
        "id": "a/b",
        "statement": "One.",
        "tolerance": 0.1,
        "source": "someone2026",
    } | changes
    return Prediction(fields.pop("id"), fields.pop("statement"), **fields)


def settle(**changes):
    declare(**changes).test(predicted=[1.0, 2.0], measured=[1.05, 2.0])
    return predictions.summary().records[0]


@pytest.mark.parametrize("field", ["id", "statement", "source"])
@pytest.mark.parametrize("value", ["", "  ", None])
def test_empty_texts_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}="):
        declare(**{field: value})


def test_a_taken_id_is_refused():
    declare()
    with pytest.raises(ValueError, match="already declared"):
        declare()
    with pytest.raises(ValueError, match="already declared"):
        declare(tolerance=0.5)


def test_a_notebook_cell_may_run_again(monkeypatch):
    monkeypatch.setattr(predictions, "get_ipython", lambda: object())
    declare().test(predicted=1.0, measured=1.0)
    declare()
    with pytest.raises(PredictionError, match="never tested: a/b"):
        predictions.summary()
    with pytest.raises(ValueError, match="already declared"):
        declare(tolerance=0.5)


@pytest.mark.parametrize(
    "tolerance", [0, -1.0, float("nan"), float("inf"), "0.1", None]
)
def test_tolerance_must_be_positive(tolerance):
    with pytest.raises(ValueError, match="tolerance="):
        declare(tolerance=tolerance)


def test_data_must_be_known():
    with pytest.raises(ValueError, match="data='toy'"):
        declare(data="toy")


def test_relative_and_absolute_errors():
    assert settle().error == pytest.approx(0.05)
    declare(id="abs", relative=False).test(
        predicted=[0.0, 100.0], measured=[0.05, 100.09]
    )
    assert predictions.summary().records[1].error == pytest.approx(0.09)


def test_the_largest_error_decides():
    with pytest.raises(PredictionError, match=r"a/b FAILS: error 0\.5"):
        declare().test(predicted=[1.0, 1.0, 2.0], measured=[1.0, 1.0, 3.0])


def test_the_tolerance_itself_still_holds():
    declare(tolerance=0.5).test(predicted=2.0, measured=3.0)


def test_breaks_is_the_opposite():
    declare().breaks(predicted=1.0, measured=2.0)
    assert predictions.summary().records[0].kind == "breaks"
    with pytest.raises(PredictionError, match="DOES NOT BREAK"):
        declare(id="c").breaks(predicted=1.0, measured=1.01)


@pytest.mark.parametrize(
    "numbers",
    [
        2.0,
        np.float32(2.0),
        np.ones((2, 3)),
        torch.ones(2, 3),
        torch.ones(3, requires_grad=True),
        [[1, 2], [3, 4]],
    ],
)
def test_scalars_arrays_and_tensors(numbers):
    declare().test(predicted=numbers, measured=numbers)


@pytest.mark.parametrize("kind", ["test", "breaks"])
@pytest.mark.parametrize(
    ("predicted", "measured", "message"),
    [
        ([1.0, 2.0], [1.0], r"shape \(2,\).*\(1,\)"),
        (np.ones((2, 1)), np.ones(2), "shape"),
        ([np.nan], [1.0], "predicted.*NaN"),
        ([1.0], [np.inf], "measured.*NaN or infinite"),
        ([], [], "empty"),
        ([0.0, 1.0], [0.0, 1.0], "contains 0"),
        ([1.0], [1.0 + 1.0j], "measured.*complex"),
        ([1e-300], [1e300], "overflows"),
    ],
)
def test_bad_numbers_are_refused(kind, predicted, measured, message):
    prediction = declare()
    with pytest.raises(ValueError, match=message):
        getattr(prediction, kind)(predicted=predicted, measured=measured)
    with pytest.raises(PredictionError, match="never tested"):
        predictions.summary()


def test_summary_refuses_an_empty_ledger():
    with pytest.raises(PredictionError, match="no prediction"):
        predictions.summary()


def test_a_failure_is_recorded_before_it_is_raised(capsys):
    with pytest.raises(PredictionError):
        declare().test(predicted=1.0, measured=2.0)
    assert "FAILS · a/b" in capsys.readouterr().out
    assert not predictions.summary().records[0].holds


def test_record_has_every_field_and_survives_json():
    record = settle(data="real", fitted="the exponent")
    bundle = record._repr_mimebundle_()
    stored = json.loads(json.dumps(bundle[MIME]))
    assert stored == {
        "id": "a/b",
        "statement": "One.",
        "source": "someone2026",
        "kind": "test",
        "data": "real",
        "fitted": "the exponent",
        "predicted": [1.0, 2.0],
        "measured": [1.05, 2.0],
        "error": pytest.approx(0.05),
        "tolerance": 0.1,
        "relative": True,
        "holds": True,
    }
    assert predictions.Record(**stored) == record
    assert "fitted: the exponent" in bundle["text/plain"]


def test_html_is_escaped_and_says_the_verdict():
    markup = settle(statement="a < b & c")._repr_mimebundle_()["text/html"]
    assert "a &lt; b &amp; c" in markup
    assert '<strong class="holds">holds</strong>' in markup


def test_long_arrays_are_shown_in_part():
    declare().test(predicted=np.arange(1, 101), measured=np.arange(1, 101))
    text = repr(predictions.summary().records[0])
    assert "6 of 100 shown" in text
    assert len(text.splitlines()) == 10


def test_only_measured_numbers_carry_the_mark():
    text = repr(settle())
    assert "          1     ≈ 1.05     ≈ 0.05" in text


def test_summary_is_a_table_in_order(capsys):
    declare(id="z").test(predicted=1.0, measured=1.0)
    declare(id="y").breaks(predicted=1.0, measured=2.0)
    ledger = predictions.summary()
    lines = repr(ledger).splitlines()
    assert lines[0] == "2 of 2 predictions as declared"
    assert [line[0] for line in lines[1:]] == ["z", "y"]
    assert ledger._repr_html_().count("<tr>") == 3


def notebook(path, *bundles):
    outputs = [
        nbformat.v4.new_output("display_data", data=bundle)
        for bundle in bundles
    ]
    cell = nbformat.v4.new_code_cell("x", outputs=outputs)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    return path


def test_collect_reads_what_was_stored(tmp_path):
    record = settle()
    path = notebook(
        tmp_path / "book.ipynb",
        {"text/plain": "other"},
        record._repr_mimebundle_(),
    )
    assert predictions.collect(path) == [record]


def test_collect_refuses_a_record_of_another_form(tmp_path):
    path = notebook(tmp_path / "book.ipynb", {MIME: {"id": "a/b"}})
    with pytest.raises(ValueError, match=r"book\.ipynb holds a record"):
        predictions.collect(path)


def test_display_carries_the_record_in_ipython():
    bundle, _ = DisplayFormatter().format(settle())
    assert bundle[MIME]["id"] == "a/b"
    assert set(bundle) == {MIME, "text/html", "text/plain"}
