"""Each check lets through what it allows, and names what it does not."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

from learning_mechanics import _checks


def test_what_is_allowed_passes():
    _checks.positive("x", [1e-300, np.float32(2)])
    _checks.non_negative("x", 0)
    _checks.integer("x", np.int64(3), 3, 3)
    _checks.tensor("x", torch.ones(2, 3), 2)
    _checks.alike("x", torch.ones(2), "y", torch.zeros(3, 4))


@pytest.mark.parametrize(
    ("error", "text", "check", "arguments"),
    [
        (ValueError, r"x=\[1.0, 0.0\]; allowed: pos", "positive", [[1, 0]]),
        (ValueError, r"x=\[\]; allowed", "positive", [[]]),
        (ValueError, "x=nan; allowed", "positive", [float("nan")]),
        (ValueError, "x=inf; allowed", "positive", [float("inf")]),
        (ValueError, "x=-1; allowed: finite, at", "non_negative", [-1]),
        (ValueError, "x=nan; allowed", "non_negative", [float("nan")]),
        (ValueError, "x=inf; allowed", "non_negative", [float("inf")]),
        (ValueError, "x=1; allowed: integers from 2", "integer", [1, 2]),
        (ValueError, "x=5; allowed: .* 2 to 4", "integer", [5, 2, 4]),
        (ValueError, "x=2.0; allowed", "integer", [2.0, 0]),
        (ValueError, "x=True; allowed", "integer", [True, 0]),
        (TypeError, "x=None; allowed: a torch.Gen", "generator", [None]),
        (TypeError, "x=tensor.*allowed", "generator", [torch.ones(1)]),
        (TypeError, "x is list; allowed", "tensor", [[1.0], 1]),
        (TypeError, "x is float64; allowed", "tensor", [np.ones(1), 1]),
        (TypeError, "x is torch.int64", "tensor", [torch.arange(2), 1]),
        (ValueError, r"x of shape \[2\]", "tensor", [torch.ones(2), 2]),
        (ValueError, r"x of shape \[0, 2\]", "tensor", [torch.ones(0, 2), 2]),
        (ValueError, "x has NaN", "tensor", [torch.ones(1) / 0, 1]),
        (
            ValueError,
            "x is torch.float32 on meta; allowed: as y, torch.float32 on cpu",
            "alike",
            [torch.ones(1, device="meta"), "y", torch.ones(1)],
        ),
        (
            ValueError,
            "x is torch.float64 on cpu; allowed: as y, torch.float32 on cpu",
            "alike",
            [torch.ones(1).double(), "y", torch.ones(1)],
        ),
    ],
)
def test_what_is_not_allowed_is_named(error, text, check, arguments):
    with pytest.raises(error, match=text):
        getattr(_checks, check)("x", *arguments)


def test_a_warning_reads_the_same_everywhere():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        _checks.warn("module", "beware")
    shown = warnings.formatwarning(
        caught[0].message,
        caught[0].category,
        caught[0].filename,
        caught[0].lineno,
    )
    assert shown == "learning_mechanics.module:0: UserWarning: beware\n"


def test_checks_do_not_load_torch():
    code = (
        "import sys; from learning_mechanics import _checks; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
