"""The ledger: a prediction is declared first and tested afterwards.

>>> square = Prediction(
...     "example/square", "The square of x is x times x.",
...     tolerance=1e-6, source="euclid")
>>> square.test(predicted=[1.0, 4.0], measured=[1.0, 4.0000001])
holds · example/square
The square of x is x times x.
  predicted   measured      error
          1        ≈ 1        ≈ 0
          4        ≈ 4  ≈ 2.5e-08
error ≈ 2.5e-08 of 1e-06 allowed (relative) · synthetic data

Numbers marked ≈ come from a run and may differ in their last digits on
another processor; all others do not.
"""

import math
from dataclasses import KW_ONLY, asdict, dataclass
from numbers import Real

import numpy as np
from IPython import get_ipython
from IPython.display import display

from learning_mechanics.records import Ledger, Record

DATA = ("synthetic", "real")

_declared: dict[str, "Prediction"] = {}
_tested: dict[str, Record] = {}


class PredictionError(AssertionError):
    """A prediction came out other than declared, or was never tested."""


def _is_text(value) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_tolerance(value) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and 0 < value < math.inf


@dataclass(frozen=True)
class Prediction:
    """A number that a theory commits to before it is measured.

    Parameters
    ----------
    id : str
        Unique over the book, ``chapter/what``.
    statement : str
        One sentence that a reader can check.
    tolerance : float
        The largest error that counts as agreement; from the theory's own
        error term or the spread over seeds, and stated in the chapter.
    source : str
        Key of the work in ``references.bib`` that the prediction is from.
    relative : bool
        Whether the error is measured as a fraction of the predicted value
        (default) or in its own unit.
    data : str
        ``synthetic`` or ``real``: what the measured network was trained on.
    fitted : str
        Names the constants that were fitted, if there are any.

    Raises
    ------
    ValueError
        If an argument is none of these, or the id is taken.

    Examples
    --------
    >>> Prediction("a/b", "Nothing.", tolerance=0.0, source="nobody")
    Traceback (most recent call last):
    ...
    ValueError: tolerance=0.0 of 'a/b'; allowed: positive, finite
    """

    id: str
    statement: str
    _: KW_ONLY
    tolerance: float
    source: str
    relative: bool = True
    data: str = "synthetic"
    fitted: str = ""

    def __post_init__(self):
        text = "a text that is not empty"
        for name, right, allowed in (
            ("id", _is_text(self.id), text),
            ("statement", _is_text(self.statement), text),
            ("source", _is_text(self.source), text),
            ("tolerance", _is_tolerance(self.tolerance), "positive, finite"),
            ("relative", isinstance(self.relative, bool), "True, False"),
            ("data", self.data in DATA, " or ".join(DATA)),
            ("fitted", isinstance(self.fitted, str), "a text"),
        ):
            if not right:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} of {self.id!r}; "
                    f"allowed: {allowed}"
                )
        # A NumPy number would not survive JSON.
        object.__setattr__(self, "tolerance", float(self.tolerance))
        # A reader may run a notebook's cell again: there, and only there,
        # the same declaration may be repeated.
        if self.id in _declared and not (
            get_ipython() and _declared[self.id] == self
        ):
            raise ValueError(
                f"id={self.id!r} is already declared; allowed: a new id (to "
                "change a declaration in a notebook, restart its kernel)"
            )
        _declared[self.id] = self
        _tested.pop(self.id, None)

    def test(self, *, predicted, measured) -> None:
        """Show the prediction beside the measurement, and check it.

        The outcome, a `Record`, is displayed and thereby stored in the
        notebook; `summary` returns it.

        Parameters
        ----------
        predicted, measured : array_like
            Numbers, arrays or tensors of one and the same shape.

        Raises
        ------
        ValueError
            If the shapes differ, nothing is given, a value is not a finite
            real number, the error cannot be computed, or the prediction was
            tested before (in a notebook, a cell may be run again).
        PredictionError
            If the error exceeds the tolerance.
        """
        self._settle("test", predicted, measured)

    def breaks(self, *, predicted, measured) -> None:
        """Check that the theory fails here: the opposite of `test`.

        Arguments and errors are those of `test`, but a `PredictionError`
        means that the error does not exceed the tolerance.
        """
        self._settle("breaks", predicted, measured)

    def _settle(self, kind: str, predicted, measured) -> None:
        if self.id in _tested and not get_ipython():
            raise ValueError(
                f"{self.id!r} is already tested; allowed: one test"
            )
        _tested.pop(self.id, None)
        predicted = self._checked("predicted", predicted)
        measured = self._checked("measured", measured)
        if predicted.shape != measured.shape:
            raise ValueError(
                f"predicted has shape {predicted.shape} but measured has "
                f"{measured.shape}, in {self.id!r}; allowed: one shape"
            )
        if self.relative and not predicted.all():
            raise ValueError(
                f"predicted of {self.id!r} contains 0, of which no error can "
                "be a fraction; allowed: nonzero values, or relative=False"
            )
        scale = np.abs(predicted) if self.relative else 1.0
        with np.errstate(over="ignore"):
            error = float(np.max(np.abs(measured - predicted) / scale))
        if not math.isfinite(error):
            raise ValueError(
                f"the error of {self.id!r} overflows; allowed: predicted "
                "values further from 0, or relative=False"
            )
        record = Record(
            **asdict(self),
            kind=kind,
            predicted=predicted.ravel().tolist(),
            measured=measured.ravel().tolist(),
            error=error,
            holds=(error <= self.tolerance) == (kind == "test"),
        )
        _tested[self.id] = record
        display(record)
        if not record.holds:
            raise PredictionError(
                f"{self.id} {record.verdict}: error {error:.3g}, "
                f"tolerance {self.tolerance:.3g}"
            )

    def _checked(self, name: str, values) -> np.ndarray:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            problem = f"of type {array.dtype}"
        elif not array.size:
            problem = "empty"
        elif not np.isfinite(array).all():
            problem = "NaN or infinite"
        else:
            problem = ""
        if problem:
            raise ValueError(
                f"{name} of {self.id!r} is {problem}; allowed: finite real "
                "numbers, at least one"
            )
        # Ten digits are stored, so only these ten are judged.
        digits = [float(f"{x:.10g}") for x in array.astype(float).ravel()]
        return np.reshape(digits, array.shape)


def summary() -> Ledger:
    """Return the ledger of the running notebook, for its last section.

    Returns
    -------
    Ledger
        One row a prediction, in the order of declaration.

    Raises
    ------
    PredictionError
        If a declared prediction was never tested, or none was declared.
    """
    missing = [name for name in _declared if name not in _tested]
    if missing or not _declared:
        raise PredictionError(
            f"declared but never tested: {', '.join(missing)}"
            if missing
            else "no prediction was declared"
        )
    return Ledger(tuple(_tested[name] for name in _declared))
