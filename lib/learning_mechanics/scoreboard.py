"""Chapters on the scoreboard: quick scale, full scale and fresh seeds."""

import html
import statistics
from dataclasses import dataclass
from pathlib import Path

from learning_mechanics.records import Record, collect
from learning_mechanics.results import ENOUGH, Replication, Run

COLUMNS = ("prediction", "allowed", "quick", "full", "seeds", "spread")


def _short(number: float) -> str:
    return f"{number:.3g}"


@dataclass(frozen=True)
class Chapter:
    """All that is stored of a chapter.

    Attributes
    ----------
    name : str
        ``pillar/subject``.
    records : list of Record
        Those of its outputs.
    replication : Replication, optional
        Under fresh seeds, if it was run under any.
    larger : Run, optional
        At full scale, else at the reduced one, if it was run at either.
    """

    name: str
    records: list[Record]
    replication: Replication | None
    larger: Run | None

    @classmethod
    def read(cls, book: Path, name: str) -> "Chapter":
        """Gather what a book holds on one of its chapters.

        Parameters
        ----------
        book : Path
            Its root; see `learning_mechanics.runtime.book`.
        name : str
            ``pillar/subject``.
        """
        seeds, full, reduced = (
            book / "results" / folder / f"{name}.json"
            for folder in ("replication", "full", "reduced")
        )
        larger = full if full.is_file() else reduced
        return cls(
            name,
            collect(book / "chapters" / f"{name}.ipynb"),
            Replication.read(seeds) if seeds.is_file() else None,
            Run.read(larger) if larger.is_file() else None,
        )

    def __repr__(self) -> str:
        parts = ["not yet under fresh seeds"]
        if self.replication:
            spreads = self.replication.predictions.values()
            torch = self.replication.versions.get("torch", "?")
            parts = [
                f"{len(self.replication.seeds)} fresh seeds, "
                f"{sum(s.enough for s in spreads)} of {len(spreads)} "
                f"predictions held under {ENOUGH:.0%} or more "
                f"({self.replication.device}, torch {torch})"
            ]
        if self.larger is None or self.larger.scale != "full":
            parts.append("no full run recorded yet")
        if self.larger:
            held = sum(r.holds for r in self.larger.records)
            parts.append(
                f"{self.larger.scale} scale on {self.larger.device}: {held} "
                f"of {len(self.larger.records)} as declared, in "
                f"{self.larger.seconds:.0f} s"
            )
        return f"{self.name}: " + "; ".join(parts)


@dataclass(frozen=True)
class Board:
    """What is stored of some chapters, as one table.

    The columns: what error is allowed; the error at the quick scale, that
    of the stored outputs; the error at full scale, or as long as it is not
    recorded at the reduced one; under how many fresh seeds it held, with
    the median and the worst error; how far the measured numbers spread.

    Parameters
    ----------
    chapters : tuple of Chapter
        In the order in which they are shown.
    """

    chapters: tuple[Chapter, ...]

    def _rows(self):
        """Yield each record, its cells after the first, and its classes."""
        for chapter in self.chapters:
            larger = chapter.larger.records if chapter.larger else []
            larger = {record.id: record for record in larger}
            spreads = (
                chapter.replication.predictions if chapter.replication else {}
            )
            for record in chapter.records:
                big, spread = larger.get(record.id), spreads.get(record.id)
                sign = "≤" if record.kind == "test" else ">"
                yield (
                    record,
                    [
                        f"{sign} {_short(record.tolerance)}",
                        f"≈ {_short(record.error)}",
                        _short(big.error)
                        + (" reduced" * (chapter.larger.scale != "full"))
                        if big
                        else "–",
                        f"{spread.rate}: "
                        f"{statistics.median(spread.error):.2g}, "
                        f"worst {spread.worst:.2g}"
                        if spread
                        else "–",
                        spread.spread if spread else "–",
                    ],
                    [
                        "",
                        _state(record.holds),
                        _state(big.holds) if big else "",
                        _state(spread.enough) if spread else "",
                        "",
                    ],
                )

    def __repr__(self) -> str:
        rows = [(r.id, *shown) for r, shown, _ in self._rows()]
        table = [COLUMNS, *rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                f"{cell:<{width}}"
                for cell, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in table
        ]
        return "\n".join([*lines, *map(repr, self.chapters)])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        body = "".join(
            f"<tr><td><code>{html.escape(record.id)}</code><br>"
            f"{html.escape(record.statement)}</td>"
            + "".join(
                f'<td data-name="{name}" class="{state}">'
                f"{html.escape(cell)}</td>"
                for name, cell, state in zip(
                    COLUMNS[1:], shown, states, strict=True
                )
            )
            + "</tr>"
            for record, shown, states in self._rows()
        )
        foot = "".join(f"<p>{html.escape(repr(c))}</p>" for c in self.chapters)
        return (
            '<div class="prediction board"><table><thead><tr>'
            f"{head}</tr></thead><tbody>{body}</tbody></table>{foot}</div>"
        )


def _state(holds: bool) -> str:
    return "" if holds else "fails"
