"""What pytest must know about the book's notebooks."""

import pytest
from nbval.plugin import IPyNbFile

from learning_mechanics.predictions import MIME


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Leave the ledger's JSON out of nbval's comparison.

    Its digits depend on the processor. The text and the table beside it in
    the same output are compared, with numbers after ≈ masked by
    ``tests/sanitize.cfg``; that all three agree is a rule of the ledger.
    """
    if isinstance(collector, IPyNbFile):
        collector.skip_compare += (MIME,)
