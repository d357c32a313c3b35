import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter

from learning_mechanics import predictions
from learning_mechanics.predictions import Prediction, PredictionError
from learning_mechanics.records import MIME


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
    "tolerance", [0, -1.0, float("nan"), float("inf"), "0.1", None, True]
)
def test_tolerance_must_be_positive(tolerance):
    with pytest.raises(ValueError, match="tolerance="):
        declare(tolerance=tolerance)


@pytest.mark.parametrize(
    ("field", "value"),
    [("data", "toy"), ("relative", 1), ("relative", None), ("fitted", ["a"])],
)
def test_other_arguments_must_be_known(field, value):
    with pytest.raises(ValueError, match=rf"{field}=.*'a/b'; allowed"):
        declare(**{field: value})


def test_a_refused_declaration_leaves_no_trace():
    with pytest.raises(ValueError, match="data='toy'"):
        declare(data="toy")
    declare()


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
        ("1", 1.0, "predicted.*type <U1"),
        ([None], [1.0], "predicted.*type object"),
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


def test_summary_keeps_the_order_of_declaration():
    first, second = declare(id="z"), declare(id="y")
    second.breaks(predicted=1.0, measured=2.0)
    first.test(predicted=1.0, measured=1.0)
    records = predictions.summary().records
    assert [record.id for record in records] == ["z", "y"]


def test_a_test_that_cannot_be_judged_leaves_no_record(monkeypatch):
    monkeypatch.setattr(predictions, "get_ipython", lambda: object())
    prediction = declare()
    prediction.test(predicted=1.0, measured=1.0)
    with pytest.raises(ValueError, match="NaN"):
        prediction.test(predicted=1.0, measured=np.nan)
    with pytest.raises(PredictionError, match="never tested: a/b"):
        predictions.summary()


def test_a_prediction_is_tested_once():
    prediction = declare()
    with pytest.raises(PredictionError, match="FAILS"):
        prediction.test(predicted=1.0, measured=2.0)
    for again in (prediction.test, prediction.breaks):
        with pytest.raises(ValueError, match="'a/b' is already tested"):
            again(predicted=1.0, measured=1.0)
    assert not predictions.summary().records[0].holds


def test_display_carries_the_record_in_ipython():
    bundle, _ = DisplayFormatter().format(settle())
    assert bundle[MIME]["id"] == "a/b"
    assert set(bundle) == {MIME, "text/html", "text/plain"}
