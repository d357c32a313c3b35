"""The rules of the ledger: what is stored is what was declared and tested.

Nothing here trusts a stored record: its error and verdict are computed
again from its numbers, its text is rendered again, and what it says it
tested is compared with the declaration in the notebook's source.
"""

import ast
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from learning_mechanics.predictions import Prediction
from learning_mechanics.records import MIME, Record
from learning_mechanics.results import ENOUGH, Replication, Run, Spread
from pages import cells, is_chapter, outputs, tree, where
from stamp import notebooks

# A record keeps six significant digits: each of its numbers is off by at
# most this fraction of itself.
ROUNDING = 5e-6
UNKNOWN = object()
DEFAULTS = {
    field.name: UNKNOWN if field.default is MISSING else field.default
    for field in fields(Prediction)
}


def _replicated(file: Path) -> dict[str, Spread]:
    return Replication.read(file).predictions


def _run(file: Path) -> dict[str, Record]:
    return {record.id: record for record in Run.read(file).records}


# Folders of ``results``: what makes a file, and reads its predictions by id.
STORED = {
    "replication": ("make replicate", _replicated),
    "full": ("make full", _run),
    "reduced": ("make full", _run),
}


def replication(chapter: Path) -> Path:
    """Return the file of a chapter's runs under fresh seeds."""
    return results_of(chapter, "replication")


def results_of(chapter: Path, kind: str) -> Path:
    """Return the file of a chapter in a folder of ``results``."""
    inner = chapter.relative_to(chapter.parents[1]).with_suffix(".json")
    return chapter.parents[2] / "results" / kind / inner


def records(
    notebook: NotebookNode,
) -> Iterator[tuple[int, dict, NotebookNode]]:
    """Yield each stored record, with its cell's number and its output."""
    for number, output in outputs(notebook):
        if MIME in output.get("data", {}):
            yield number, output.data[MIME], output


def _literal(node: ast.expr):
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN


def _declaration(node: ast.AST) -> dict | None:
    """Return the arguments, if `node` is a call of `Prediction`.

    An argument that is not a literal is `UNKNOWN`.
    """
    if not isinstance(node, ast.Call) or "Prediction" not in (
        getattr(node.func, "id", None),
        getattr(node.func, "attr", None),
    ):
        return None
    declared = DEFAULTS | dict(
        zip(DEFAULTS, map(_literal, node.args), strict=False)
    )
    for keyword in node.keywords:
        if keyword.arg in declared:
            declared[keyword.arg] = _literal(keyword.value)
    return declared


def declarations(notebook: NotebookNode) -> Iterator[tuple[int, dict]]:
    """Yield each declared prediction, with its cell's number."""
    for number, cell in cells(notebook, "code"):
        for node in ast.walk(tree(cell.source)):
            if (declared := _declaration(node)) is not None:
                yield number, declared


def _calls(notebook: NotebookNode) -> Iterator[tuple[int, str, str]]:
    """Yield cell, id and kind of each test of a declared prediction."""
    names = {}
    for number, cell in cells(notebook, "code"):
        for node in ast.walk(tree(cell.source)):
            if isinstance(node, ast.Assign) and (
                declared := _declaration(node.value)
            ):
                names |= {ast.unparse(t): declared for t in node.targets}
        for node in ast.walk(tree(cell.source)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("test", "breaks")
            ):
                owner = node.func.value
                declared = _declaration(owner) or names.get(ast.unparse(owner))
                if declared:
                    yield number, declared["id"], node.func.attr


def _malformed(record: dict) -> str:
    """Return why no error can be computed from a record, or nothing."""
    predicted, measured = record["predicted"], record["measured"]
    if not predicted or len(predicted) != len(measured):
        return (
            f"{len(predicted)} predicted and {len(measured)} measured "
            "numbers; allowed: as many of each, at least one"
        )
    numbers = [*predicted, *measured, record["error"], record["tolerance"]]
    if not all(map(math.isfinite, numbers)):
        return "a number that is not finite"
    if record["relative"] and not all(predicted):
        return "a relative error of a predicted 0"
    if record["kind"] not in ("test", "breaks"):
        return f"kind {record['kind']!r}; allowed: 'test', 'breaks'"
    return ""


def _verdict(record: dict) -> Iterator[str]:
    """Yield where error and verdict disagree with the record's numbers."""
    predicted, measured = record["predicted"], record["measured"]
    scales = [abs(p) if record["relative"] else 1.0 for p in predicted]
    entries = list(zip(predicted, measured, scales, strict=True))
    error = max(abs(m - p) / scale for p, m, scale in entries)
    slack = ROUNDING * max((abs(m) + abs(p)) / s for p, m, s in entries)
    if abs(error - record["error"]) > slack + ROUNDING * error:
        yield (
            f"stored error {record['error']:g}, but its numbers give {error:g}"
        )
    agrees = record["error"] <= record["tolerance"]
    if record["holds"] is not (agrees == (record["kind"] == "test")):
        yield (
            f"stored verdict {record['holds']}, against error "
            f"{record['error']:g} and tolerance {record['tolerance']:g}"
        )
    elif not record["holds"]:
        yield "the prediction does not hold"


def stored(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check each record against its numbers, text and declaration."""
    declared = {d["id"]: d for _, d in declarations(notebook)}
    for number, found, output in records(notebook):
        place = f"{where(path, number)}: record {found.get('id')!r}"
        try:
            record = Record(**found)
        except TypeError as error:
            yield f"{place}: {error}"
            continue
        if problem := _malformed(found):
            yield f"{place}: {problem}"
            continue
        for problem in _verdict(found):
            yield f"{place}: {problem}"
        for mime, text in record._repr_mimebundle_().items():
            if output.data.get(mime) != text:
                yield f"{place}: stored {mime} is not what it renders to"
        if record.id not in declared:
            yield f"{place}: no Prediction({record.id!r}) in the notebook"
        for name, value in declared.get(record.id, {}).items():
            if value is not UNKNOWN and value != found[name]:
                yield f"{place}: {name} {found[name]!r}, declared {value!r}"


def complete(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that each prediction is tested once and counted at the end."""
    found = Counter(record.get("id") for _, record, _ in records(notebook))
    last = 0
    for number, declared in declarations(notebook):
        last = number
        if not re.fullmatch(r"[a-z\d-]+/[a-z\d-]+", str(declared["id"])):
            yield (
                f"{where(path, number)}: Prediction's id is not a literal "
                "such as 'chapter/what', in small letters, digits and hyphens"
            )
        elif found[declared["id"]] != 1:
            yield (
                f"{where(path, number)}: Prediction({declared['id']!r}) has "
                f"{found[declared['id']]} stored records; allowed: one"
            )
    called, shown = {}, {}
    for number, name, kind in _calls(notebook):
        called.setdefault(number, []).append(f"{name}.{kind}")
    for number, record, _ in records(notebook):
        shown.setdefault(number, []).append(
            f"{record.get('id')}.{record.get('kind')}"
        )
    for number in sorted({*called, *shown}):
        last = max(last, number)
        tests, results = called.get(number, []), shown.get(number, [])
        if sorted(map(str, tests)) != sorted(results):
            yield (
                f"{where(path, number)}: calls {tests} but stores {results}; "
                "allowed: the records of the predictions tested here, each "
                "called under the name that it was declared with"
            )
    if not any(
        record.get("kind") == "breaks" for _, record, _ in records(notebook)
    ):
        yield f"{where(path)}: no prediction `breaks`; allowed: at least one"
    summaries = [
        number
        for number, cell in cells(notebook, "code")
        if re.search(r"(?m)^predictions\.summary\(\)", cell.source)
    ]
    if not summaries or summaries[-1] <= last:
        yield f"{where(path)}: predictions.summary() does not end the ledger"


def unique(root: Path) -> Iterator[str]:
    """Check that no two predictions of the book have the same id."""
    first = {}
    for path in notebooks(root):
        notebook = nbformat.read(path, as_version=4)
        for number, declared in declarations(notebook):
            place = where(path, number)
            if declared["id"] is UNKNOWN:
                continue  # `complete` refuses it
            if declared["id"] in first:
                yield (
                    f"{place}: id {declared['id']!r} is already declared in "
                    f"{first[declared['id']]}"
                )
            first.setdefault(declared["id"], place)


def no_predictions(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Check that a page that is no chapter declares no prediction."""
    for number, _ in declarations(notebook):
        yield (
            f"{where(path, number)}: declares a prediction, which neither "
            "scoreboard nor replications would see; allowed: in a chapter, "
            "chapters/<pillar>/<subject>.ipynb"
        )


def current(root: Path) -> Iterator[str]:
    """Check that stored results are of a chapter's predictions.

    A chapter without any is new; the scoreboard says so. A prediction that
    did not hold under enough seeds is explained where it stands.
    """
    for path in notebooks(root):
        if not is_chapter(path) or path.parent.name.startswith("_"):
            continue
        notebook = nbformat.read(path, as_version=4)
        now = {
            record.get("id"): [record.get("kind"), record.get("tolerance")]
            for _, record, _ in records(notebook)
        }
        found = {}
        for kind, (command, read) in STORED.items():
            file = results_of(path, kind)
            if not file.is_file():
                continue
            try:
                rows = found[kind] = read(file)
            except ValueError as error:
                yield str(error).replace(f"{root}/", "")
                continue
            if now != {n: [r.kind, r.tolerance] for n, r in rows.items()}:
                yield (
                    f"{file.relative_to(root)}: older than the "
                    f"predictions of {where(path)}; run: {command} "
                    f'CHAPTERS="{where(path)}"'
                )
        tested = {r.get("id"): number for number, r, _ in records(notebook)}
        for name, row in found.get("replication", {}).items():
            words = [f"`{name}`", f"{row.rate} seeds"]
            if not row.enough and not any(
                number > tested.get(name, 0)
                and all(word in cell.source for word in words)
                for number, cell in cells(notebook, "markdown")
            ):
                yield (
                    f"{where(path)}: {name} held under {row.rate} seeds; "
                    f"allowed: {ENOUGH:.0%} of them, or a text after its "
                    f"test that says why, with {words[0]} and {words[1]!r}"
                )
