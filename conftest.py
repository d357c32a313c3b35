"""What pytest must know about the book's notebooks."""

import pytest
from hypothesis import settings
from nbval.plugin import IPyNbFile

from learning_mechanics.records import MIME

# The same examples in every run: a failure is one of the change at hand.
settings.register_profile("book", derandomize=True, deadline=None)
settings.load_profile("book")


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Leave the ledger's JSON out of nbval's comparison.

    Its digits depend on the processor. The text and the table beside it in
    the same output are compared, with numbers after ≈ masked by
    ``tests/sanitize.cfg``; that all three agree is a rule of the ledger.
    """
    if isinstance(collector, IPyNbFile):
        collector.skip_compare += (MIME,)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict, dict]]:
    """Collect what `figures` displays: data and metadata of each figure."""
    published = []
    figures = "learning_mechanics.figures"
    monkeypatch.setattr(f"{figures}.get_ipython", lambda: object())
    monkeypatch.setattr(
        f"{figures}.publish_display_data",
        lambda data, metadata: published.append((data, metadata)),
    )
    return published
