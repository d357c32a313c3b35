"""What predictions came to, as stored in the outputs of notebooks.

Beside what the program reads, a record holds a text and a table, in which ≈
marks the numbers of a run.
"""

import html
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

MIME = "application/vnd.learning-mechanics.prediction+json"
COLUMNS = ("predicted", "measured", "error")
ROWS_SHOWN = 6


def _short(number: float) -> str:
    return f"{number:.3g}"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return an HTML table; its cells are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


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
    def _state(self) -> str:
        return "holds" if self.holds else "fails"

    @property
    def _marked_verdict(self) -> str:
        return f'<strong class="{self._state}">{self.verdict}</strong>'

    @property
    def errors(self) -> list[float]:
        """The error of each entry."""
        pairs = zip(self.predicted, self.measured, strict=True)
        return [
            abs(m - p) / (abs(p) if self.relative else 1.0) for p, m in pairs
        ]

    def _rows(self) -> list[tuple[str, str, str]]:
        """Return the entries to show: all, or an even choice of them.

        Which entry is worst depends on the processor, so it is not shown as
        a row of its own; `error` has it.
        """
        last = len(self.predicted) - 1
        chosen = np.linspace(0, last, min(last + 1, ROWS_SHOWN)).round()
        return [
            (
                _short(self.predicted[i]),
                f"≈ {_short(self.measured[i])}",
                f"≈ {_short(self.errors[i])}",
            )
            for i in chosen.astype(int)
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
        rows = [
            "  " + "  ".join(f"{cell:>9}" for cell in row)
            for row in (COLUMNS, *self._rows())
        ]
        head = f"{self.verdict} · {self.id}"
        return "\n".join([head, self.statement, *rows, self._foot()])

    def _html(self) -> str:
        return (
            f'<div class="prediction {self._state}"><p>{self._marked_verdict}'
            f" · <code>{html.escape(self.id)}</code><br>"
            f"{html.escape(self.statement)}</p>"
            f"{_table(COLUMNS, self._rows())}"
            f"<p>{html.escape(self._foot())}</p></div>"
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {
            MIME: asdict(self),
            "text/html": self._html(),
            "text/plain": repr(self),
        }


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
        width = max((len(record.id) for record in self.records), default=0)
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
        rows = [
            (
                f"<code>{html.escape(record.id)}</code><br>"
                f"{html.escape(record.statement)}",
                record.data,
                f"≈ {_short(record.error)}",
                _short(record.tolerance),
                record._marked_verdict,
            )
            for record in self.records
        ]
        header = ("prediction", "data", "error", "tolerance", "verdict")
        return f'<div class="prediction">{_table(header, rows)}</div>'


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
        If a record has other fields than `Record`; names the file.
    """
    records = []
    book = json.loads(Path(notebook).read_text(encoding="utf-8"))
    for cell in book["cells"]:
        for output in cell.get("outputs", []):
            stored = output.get("data", {}).get(MIME)
            if stored is None:
                continue
            try:
                records.append(Record(**stored))
            except TypeError as error:
                raise ValueError(
                    f"{notebook} holds a record of another form: {error}"
                ) from error
    return records
