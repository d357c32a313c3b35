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

import html
import json
import math
from dataclasses import KW_ONLY, asdict, dataclass, fields
from numbers import Real
from pathlib import Path

import numpy as np
from IPython import get_ipython
from IPython.display import display

MIME = "application/vnd.learning-mechanics.prediction+json"
ROWS_SHOWN = 6

_declared: dict[str, "Prediction"] = {}
_tested: dict[str, "Record"] = {}


class PredictionError(AssertionError):
    """A prediction came out other than declared, or was never tested."""


def _short(number: float) -> str:
    return f"{number:.3g}"


@dataclass(frozen=True)
class Record:
    """The outcome of one prediction, as stored in a notebook's output.

    Attributes
    ----------
    id, statement, source, data, fitted, tolerance, relative
        As declared; see `Prediction`.
    kind : str
        ``test``, or ``breaks`` where the theory was expected to fail.
    predicted, measured : list of float
        Flattened, ten significant digits.
    error : float
        The largest error over all entries, as a fraction of the predicted
        value if `relative`, else in its unit.
    holds : bool
        Whether the error is at most the tolerance (``test``) or exceeds it
        (``breaks``).
    """

    id: str
    statement: str
    source: str
    kind: str
    data: str
    fitted: str
    predicted: list[float]
    measured: list[float]
    error: float
    tolerance: float
    relative: bool
    holds: bool

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        if self.kind == "test":
            return "holds" if self.holds else "FAILS"
        return "breaks, as declared" if self.holds else "DOES NOT BREAK"

    @property
    def _marked_verdict(self) -> str:
        state = "holds" if self.holds else "fails"
        return f'<strong class="{state}">{self.verdict}</strong>'

    @property
    def errors(self) -> list[float]:
        """The error of each entry."""
        scale = [abs(p) if self.relative else 1.0 for p in self.predicted]
        return [
            abs(m - p) / s
            for p, m, s in zip(
                self.predicted, self.measured, scale, strict=True
            )
        ]

    def _rows(self) -> list[tuple[str, str, str]]:
        """Return the entries to show: all, or an even choice and the worst.

        Which entry is worst depends on the processor, so it is not shown as
        a row of its own; `error` has it.
        """
        count = len(self.predicted)
        shown = range(count)
        if count > ROWS_SHOWN:
            shown = np.linspace(0, count - 1, ROWS_SHOWN).round().astype(int)
        return [
            (
                _short(self.predicted[i]),
                f"≈ {_short(self.measured[i])}",
                f"≈ {_short(self.errors[i])}",
            )
            for i in shown
        ]

    def _foot(self) -> str:
        kind = "relative" if self.relative else "absolute"
        foot = (
            f"error ≈ {_short(self.error)} of {_short(self.tolerance)} "
            f"allowed ({kind}) · {self.data} data"
        )
        if len(self.predicted) > ROWS_SHOWN:
            foot = f"{ROWS_SHOWN} of {len(self.predicted)} shown · {foot}"
        return foot + (f" · fitted: {self.fitted}" if self.fitted else "")

    def __repr__(self) -> str:
        header = ("predicted", "measured", "error")
        rows = [
            "  ".join(f"{cell:>9}" for cell in row)
            for row in (header, *self._rows())
        ]
        return "\n".join(
            [
                f"{self.verdict} · {self.id}",
                self.statement,
                *(f"  {row}" for row in rows),
                self._foot(),
            ]
        )

    def _html(self) -> str:
        rows = "".join(
            "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        state = "holds" if self.holds else "fails"
        return (
            f'<div class="prediction {state}"><p>{self._marked_verdict} · '
            f"<code>{html.escape(self.id)}</code><br>"
            f"{html.escape(self.statement)}</p>"
            "<table><thead><tr><th>predicted</th><th>measured</th>"
            f"<th>error</th></tr></thead><tbody>{rows}</tbody></table>"
            f"<p>{html.escape(self._foot())}</p></div>"
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {
            MIME: asdict(self),
            "text/html": self._html(),
            "text/plain": repr(self),
        }


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
        If the id is empty or taken, a text is empty, the tolerance is not a
        positive finite number, or `data` is neither of the two.

    Examples
    --------
    >>> Prediction("", "Nothing.", tolerance=0.1, source="nobody")
    Traceback (most recent call last):
    ...
    ValueError: id=''; allowed: a text that is not empty
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
        for name in ("id", "statement", "source"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip():
                raise ValueError(
                    f"{name}={text!r}; allowed: a text that is not empty"
                )
        if not (
            isinstance(self.tolerance, Real) and 0 < self.tolerance < math.inf
        ):
            raise ValueError(
                f"tolerance={self.tolerance!r} of {self.id!r}; allowed: "
                "a positive finite number"
            )
        if self.data not in ("synthetic", "real"):
            raise ValueError(
                f"data={self.data!r} of {self.id!r}; allowed: 'synthetic', "
                "'real'"
            )
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
            If the shapes differ, nothing is given, a value is NaN or
            infinite, or a relative error would divide by zero.
        PredictionError
            If the error exceeds the tolerance.
        """
        self._settle("test", predicted, measured)

    def breaks(self, *, predicted, measured) -> None:
        """Check that the theory fails here: the opposite of `test`.

        Parameters
        ----------
        predicted, measured : array_like
            Numbers, arrays or tensors of one and the same shape.

        Raises
        ------
        ValueError
            As `test` does.
        PredictionError
            If the error does not exceed the tolerance.
        """
        self._settle("breaks", predicted, measured)

    def _settle(self, kind: str, predicted, measured) -> None:
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
        agrees = error <= self.tolerance
        record = Record(
            **asdict(self),
            kind=kind,
            predicted=predicted.ravel().tolist(),
            measured=measured.ravel().tolist(),
            error=error,
            holds=agrees if kind == "test" else not agrees,
        )
        _tested[self.id] = record
        display(record)
        if not record.holds:
            raise PredictionError(
                f"{self.id} {record.verdict}: error {_short(error)}, "
                f"tolerance {_short(self.tolerance)}"
            )

    def _checked(self, name: str, values) -> np.ndarray:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
        if np.iscomplexobj(values):
            raise ValueError(
                f"{name} of {self.id!r} is complex; allowed: real values"
            )
        array = np.asarray(values, dtype=float)
        if array.size == 0:
            raise ValueError(
                f"{name} of {self.id!r} is empty; allowed: at least one value"
            )
        if not np.isfinite(array).all():
            raise ValueError(
                f"{name} of {self.id!r} contains NaN or infinite values; "
                "allowed: finite values"
            )
        # Ten digits are stored, so only these ten are judged.
        digits = [float(f"{value:.10g}") for value in array.ravel()]
        return np.reshape(digits, array.shape)


@dataclass(frozen=True)
class Ledger:
    """Several records, shown as one table.

    Parameters
    ----------
    records : tuple of Record
        In the order in which they are shown.
    """

    records: tuple[Record, ...]

    def __repr__(self) -> str:
        width = max(len(record.id) for record in self.records)
        kept = sum(record.holds for record in self.records)
        rows = [
            f"{record.id:<{width}}  {record.verdict:<18}  "
            f"error ≈ {_short(record.error)} of {_short(record.tolerance)}"
            for record in self.records
        ]
        return "\n".join(
            [f"{kept} of {len(self.records)} predictions as declared", *rows]
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td><code>{html.escape(record.id)}</code><br>"
            f"{html.escape(record.statement)}</td>"
            f"<td>{record.data}</td><td>≈ {_short(record.error)}</td>"
            f"<td>{_short(record.tolerance)}</td>"
            f"<td>{record._marked_verdict}</td></tr>"
            for record in self.records
        )
        return (
            '<div class="prediction"><table><thead><tr><th>prediction</th>'
            "<th>data</th><th>error</th><th>tolerance</th>"
            f"<th>verdict</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )


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


def collect(notebook: str | Path) -> list[Record]:
    """Read the records that are stored in a notebook's outputs.

    Parameters
    ----------
    notebook : str or Path
        An executed ``.ipynb`` file.

    Returns
    -------
    list of Record
        In the order of the cells.

    Raises
    ------
    ValueError
        If a record lacks a field or has one too many; names the file.
    """
    records = []
    book = json.loads(Path(notebook).read_text(encoding="utf-8"))
    for cell in book["cells"]:
        for output in cell.get("outputs", []):
            stored = output.get("data", {}).get(MIME)
            if stored is None:
                continue
            expected = {field.name for field in fields(Record)}
            if set(stored) != expected:
                raise ValueError(
                    f"{notebook} holds a record with the fields "
                    f"{sorted(stored)}; allowed: {sorted(expected)}"
                )
            records.append(Record(**stored))
    return records
