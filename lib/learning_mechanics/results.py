"""What chapters came to beyond their stored outputs: seeds and full scale.

The files under ``results`` may come from another machine. They are checked
when they are read, and verdicts follow from their numbers.
"""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import Self

import numpy as np

from learning_mechanics.records import ROWS_SHOWN, Record

# A prediction that holds under fewer of the seeds is explained in its chapter.
ENOUGH = 0.95
DIGITS = 6


def _held(kind: str, error: float, tolerance: float) -> bool:
    return (error <= tolerance) == (kind == "test")


@dataclass(frozen=True)
class Spread:
    """One prediction under several seeds.

    Attributes
    ----------
    kind, tolerance, relative
        As in `Record`.
    error : list of float
        The error under each seed.
    predicted, measured : list of float
        Means over the seeds, of at most six entries in even steps; none if
        their number differs between the seeds.
    sd : list of float
        Standard deviations of the measured ones over the seeds.
    """

    kind: str
    tolerance: float
    relative: bool
    error: list[float]
    predicted: list[float]
    measured: list[float]
    sd: list[float]

    def __post_init__(self):
        _check(self, ["kind"], lambda x: x in ("test", "breaks"))
        _check(self, ["tolerance"], _finite)
        _check(self, ["relative"], lambda x: isinstance(x, bool))
        _check(self, ["error", "predicted", "measured", "sd"], _numbers)
        _check(self, ["error", "sd"], lambda x: min(x, default=0) >= 0)
        if not len(self.predicted) == len(self.measured) == len(self.sd):
            raise ValueError("predicted, measured and sd of unequal length")

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Spread":
        """Sum up the records of one prediction, one a seed.

        Parameters
        ----------
        records : sequence of Record
            At least one.

        Raises
        ------
        ValueError
            If they are of several predictions.

        Examples
        --------
        >>> fields = dict(
        ...     id="a/b", statement="", source="", kind="test", fitted="",
        ...     data="real", predicted=[1.0], tolerance=0.3, relative=True,
        ...     holds=True)
        >>> spread = Spread.of([
        ...     Record(**fields, measured=[1 + e], error=e)
        ...     for e in (0.1, 0.2, 0.6)])
        >>> spread.held, spread.worst, spread.measured
        (2, 0.6, [1.3])
        """
        first = records[0]
        same = {(r.id, r.kind, r.tolerance, r.relative) for r in records}
        if len(same) != 1:
            raise ValueError(f"records={sorted(same)}; allowed: all the same")
        entries = {len(r.predicted) for r in records}
        last = min(entries) - 1
        chosen = np.linspace(0, last, min(last + 1, ROWS_SHOWN)).round()
        places = chosen.astype(int) if len(entries) == 1 else []
        predicted, measured = (
            [[rows[i] for rows in table] for i in places]
            for table in (
                [r.predicted for r in records],
                [r.measured for r in records],
            )
        )
        return cls(
            first.kind,
            first.tolerance,
            first.relative,
            [_rounded(r.error) for r in records],
            [_rounded(statistics.fmean(values)) for values in predicted],
            [_rounded(statistics.fmean(values)) for values in measured],
            [
                _rounded(statistics.stdev(values) if values[1:] else 0.0)
                for values in measured
            ],
        )

    @property
    def held(self) -> int:
        """Under how many seeds it came out as declared."""
        return sum(_held(self.kind, e, self.tolerance) for e in self.error)

    @property
    def enough(self) -> bool:
        """Whether that is under 95% of them or more."""
        return self.held >= ENOUGH * len(self.error)

    @property
    def rate(self) -> str:
        """How often it held, in words."""
        return f"{self.held} of {len(self.error)}"

    @property
    def worst(self) -> float:
        """The error nearest to failing: the largest, of `breaks` the least."""
        return max(self.error) if self.kind == "test" else min(self.error)

    @property
    def spread(self) -> str:
        """How far a measured number varies over the seeds, in words.

        The median over the entries of its standard deviation: as a fraction
        of its mean if the error is relative.
        """
        if not self.sd or len(self.error) == 1:
            return "–"
        if not self.relative:
            return f"± {statistics.median(self.sd):.2g}"
        fractions = [
            sd / abs(mean) if mean else math.inf
            for sd, mean in zip(self.sd, self.measured, strict=True)
        ]
        return f"± {100 * statistics.median(fractions):.2g}%"


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


@dataclass(frozen=True)
class _File:
    """What every file says of its run."""

    command: str
    scale: str
    device: str
    machine: str
    versions: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a file.

        Raises
        ------
        ValueError
            If it holds anything but this; names the file.
        """
        try:
            return cls(**json.loads(path.read_text("utf-8")))
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path}: {type(error).__name__}: {error}; allowed: what "
                f"{cls.__name__} holds"
            ) from error

    def __post_init__(self):
        _check(self, ["command", "scale", "device", "machine"], _text)
        _check(self, ["versions"], lambda x: all(map(_text, x.values())))


@dataclass(frozen=True)
class Replication(_File):
    """A chapter under several seeds: the file ``results/replication/...``.

    Attributes
    ----------
    command, scale, device, machine : str
        What was run, how large, and where.
    versions : dict of str
        Of Python and of what the package requires.
    seeds : list of int
        Values of ``LEARNING_MECHANICS_SEED``.
    predictions : dict of Spread
        By id, in the order of the chapter.
    """

    seeds: list[int]
    predictions: dict[str, Spread]

    def __post_init__(self):
        super().__post_init__()
        _check(self, ["seeds"], lambda x: x and x == sorted({*x}))
        _check(self, ["seeds"], lambda x: {*map(type, x)} == {int})
        spreads = _made(Spread, self.predictions.values())
        for spread in spreads:
            if len(spread.error) != len(self.seeds):
                raise ValueError(
                    f"{len(spread.error)} errors of {len(self.seeds)} seeds"
                )
        named = dict(zip(self.predictions, spreads, strict=True))
        object.__setattr__(self, "predictions", named)


@dataclass(frozen=True)
class Run(_File):
    """A chapter at a larger scale: the file ``results/full/...``.

    Attributes
    ----------
    command, scale, device, machine, versions
        As in `Replication`.
    commit : str
        Of the repository; ends in ``-dirty`` if files had changed since.
    seconds : float
        How long the run took.
    figures : list
        For each figure its panels; see `learning_mechanics.figures.curves`.
    records : list of Record
        In the order of the chapter.
    """

    commit: str
    seconds: float
    figures: list
    records: list[Record]

    def __post_init__(self):
        super().__post_init__()
        _check(self, ["commit"], _text)
        _check(self, ["seconds"], _finite)
        _check(self, ["figures"], lambda x: isinstance(x, list))
        object.__setattr__(self, "records", _made(Record, self.records))
        for record in self.records:
            _check(record, ["id", "statement", "source", "data"], _text)
            _check(record, ["kind"], lambda x: x in ("test", "breaks"))
            _check(record, ["tolerance", "error"], _finite)
            _check(record, ["error"], lambda x: x >= 0)
            _check(record, ["predicted", "measured"], _numbers)
            right = _held(record.kind, record.error, record.tolerance)
            if record.holds is not right:
                raise ValueError(f"{record.id}: holds is {record.holds}")


def _made(cls, found: Iterable) -> list:
    return [x if isinstance(x, cls) else cls(**x) for x in found]


def _check(read, names: Sequence[str], right) -> None:
    for name in names:
        if not right(getattr(read, name)):
            raise ValueError(f"{name} is {getattr(read, name)!r:.60}")


def _finite(value) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _numbers(value) -> bool:
    return isinstance(value, list) and all(map(_finite, value))


def _text(value) -> bool:
    return isinstance(value, str)


def write(path: Path, found: Replication | Run) -> None:
    """Write a file of `results` whole, or not at all.

    Parameters
    ----------
    path : Path
        The file; its folder is made if need be.
    found : Replication or Run
        What it shall hold.
    """
    fields = asdict(found)
    last = fields.popitem()
    # One line a prediction: short, and a difference is legible.
    lines = _lines(fields)
    ends = "{}" if isinstance(last[1], dict) else "[]"
    body = ",\n  ".join(_lines(last[1]))
    lines.append(f'"{last[0]}": {ends[0]}\n  {body}\n {ends[1]}')
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text("{\n " + ",\n ".join(lines) + "\n}\n", "utf-8")
    part.replace(path)


def _lines(found: dict | list) -> list[str]:
    if isinstance(found, dict):
        return [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in found.items()]
    return [json.dumps(value) for value in found]
