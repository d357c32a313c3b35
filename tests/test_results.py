"""Files of results: written, read back, refused, shown."""

import json
import re
from dataclasses import asdict

import numpy as np
import pytest

from example import full, replication, under
from learning_mechanics.results import Spread
from learning_mechanics.results import write as store


def test_a_spread_is_that_of_numpy():
    errors = [0.001, 0.02, 0.003, 0.0]
    spread = Spread.of(under(errors))
    column = 4 * (1 + np.array(errors))
    assert spread.held == 3
    assert spread.rate == "3 of 4"
    assert not spread.enough
    assert spread.worst == 0.02
    np.testing.assert_allclose(spread.measured, [2, column.mean()], rtol=1e-5)
    np.testing.assert_allclose(spread.sd, [0, column.std(ddof=1)], rtol=1e-5)
    relative = 100 * column.std(ddof=1) / column.mean() / 2
    assert spread.spread == f"± {relative:.2g}%"
    broken = Spread.of(under([0.1, 0.005, 0.3], kind="breaks"))
    assert (broken.held, broken.worst) == (2, 0.005)
    absolute = Spread.of(under(errors, relative=False))
    assert absolute.spread == f"± {column.std(ddof=1) / 2:.2g}"


def test_long_predictions_are_thinned_and_uneven_ones_left_out():
    many = np.arange(1.0, 102.0).tolist()
    long = {"predicted": many, "measured": many}
    assert Spread.of(under([0, 0], **long)).measured == many[::20]
    short = {"predicted": many[:9], "measured": many[:9]}
    mixed = under([0], **long) + under([0], **short)
    assert Spread.of(mixed).measured == []
    assert Spread.of(mixed).spread == "–"
    with pytest.raises(ValueError, match="allowed: all the same"):
        Spread.of(under([0]) + under([0], tolerance=0.5))


def test_95_percent_is_enough():
    assert Spread.of(under([0.0] * 19 + [1.0])).enough
    assert not Spread.of(under([0.0] * 18 + [1.0])).enough


@pytest.mark.parametrize("found", [replication(0.1, 0.2), full()])
def test_what_is_written_is_read_back(found, tmp_path):
    path = tmp_path / "a/b.json"
    store(path, found)
    assert type(found).read(path) == found
    assert json.loads(path.read_text()) == asdict(found)
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize(
    ("found", "old", "new", "words"),
    [
        (replication(0.1), '"make"', "1", "command is 1"),
        (replication(0.1), "[1]", "[]", "seeds is []"),
        (replication(0.1), "[1]", "[1, 2]", "1 errors of 2 seeds"),
        (replication(0.1), "[1]", "[1, 1]", "seeds is"),
        (replication(0.1), "[1]", "[true]", "seeds is [True]"),
        (replication(0.1), "[0.1]", "[-0.1]", "error is [-0.1]"),
        (replication(0.1), '"sd": [0.0', '"sd": [NaN', "sd is [nan"),
        (replication(0.1), '"sd": [0.0, ', '"sd": [', "unequal length"),
        (replication(0.1), '"test"', '"best"', "kind is 'best'"),
        (replication(0.1), '"sd"', '"se"', "unexpected keyword"),
        (replication(0.1), "0.01", '"0.01"', "tolerance is '0.01'"),
        (replication(0.1), "{", "[", "JSONDecodeError"),
        (full(), '"abc"', "null", "commit is None"),
        (full(), "61.0", "true", "seconds is True"),
        (full(), "true}", "false}", "holds is False"),
        (full(), '"holds"', '"hold"', "unexpected keyword"),
        (full(), "0.0005", "-0.0005", "error is -0.0005"),
        (full(), '"2.0"', "2.0", "versions is"),
    ],
)
def test_files_of_another_form_are_refused(found, old, new, words, tmp_path):
    path = tmp_path / "a.json"
    store(path, found)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    message = f"^{re.escape(str(path))}: .*{re.escape(words)}"
    with pytest.raises(ValueError, match=message):
        type(found).read(path)
