"""What several test files start from."""

from learning_mechanics.records import Record
from learning_mechanics.results import Replication, Run, Spread

# The fields of the record of a prediction that holds.
RECORD = {
    "id": "example/sum",
    "statement": "One and one is two.",
    "source": "euclid",
    "kind": "test",
    "data": "synthetic",
    "fitted": "",
    "predicted": [2.0, 4.0],
    "measured": [2.001, 4.0],
    "error": 0.0005,
    "tolerance": 0.01,
    "relative": True,
    "holds": True,
}
COMMON = {
    "command": "make",
    "scale": "quick",
    "device": "cpu",
    "machine": "x86_64",
    "versions": {"torch": "2.0"},
}


def under(errors, **fields):
    """Return records whose second entry is off by the error."""
    return [
        Record(
            **RECORD | {"measured": [2.0, 4 * (1 + e)], "error": e} | fields
        )
        for e in errors
    ]


def replication(*errors):
    spread = Spread.of(under(errors))
    seeds = list(range(1, len(errors) + 1))
    return Replication(
        **COMMON, seeds=seeds, predictions={RECORD["id"]: spread}
    )


def full(**fields):
    return Run(
        **COMMON | {"scale": "full", "device": "GPU"},
        commit="abc",
        seconds=61.0,
        figures=[{"alt": "None.", "panels": []}],
        records=[RECORD | fields],
    )
