"""What the benchmark compares computes the same, and peers may be absent."""

import sys

import numpy as np
import pytest
import torch

import bench
from learning_mechanics import kernels
from peers import Peers


@pytest.fixture
def here(tmp_path):
    """Return an environment for the peers that has none of them."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return tmp_path


def test_an_absent_environment_has_no_peers(tmp_path):
    peers = Peers(tmp_path / "nowhere")
    assert not peers.prepare("kernel", np.eye(2))
    peers.close()


def test_an_absent_library_is_no_peer(here):
    peers = Peers(here)
    settings = {"k": 1, "tolerance": 1e-2}
    assert not peers.prepare("eigenvalues", np.eye(2), np.eye(2), **settings)
    peers.close()


def test_a_peer_that_fails_says_so(here):
    peers = Peers(here)
    with pytest.raises(RuntimeError, match="'nobody'.*log"):
        peers.prepare("nobody")
    peers.close()
    assert "KeyError" in (here / "log").read_text()


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_the_plain_kernel_is_ours(activation):
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).double()
    plain = bench.whole_kernel(x, 3, activation, 1.7, 0.2)
    ours = kernels.ntk(
        x,
        depth=3,
        activation=activation,
        weight_variance=1.7,
        bias_variance=0.2,
    )
    # On its diagonal the plain way loses half of the digits.
    torch.testing.assert_close(plain, ours, rtol=0, atol=1e-7)
    plain.fill_diagonal_(0)
    torch.testing.assert_close(plain, ours.fill_diagonal_(0))


def test_the_plain_hessian_is_ours():
    x, y = torch.randn(2, 20, 64, generator=torch.Generator().manual_seed(0))
    (network,) = bench.mlps(1, 5)
    plain = bench.plain_hessian(network, x, y[:, :10])
    ours = bench.hessian(network, x, y[:, :10])
    vector = np.random.default_rng(0).normal(size=ours.shape[0]).astype("f4")
    np.testing.assert_allclose(
        plain @ vector, ours @ torch.from_numpy(vector), atol=1e-5
    )


def test_a_row_without_peer_has_a_dash():
    row = {
        "row": "something",
        "unit": "s",
        "ours": 0.5,
        "plain": 1.0,
        "limit": 0.1,
        "over_plain": 2.0,
        "over_peer": None,
        "note": "a note",
    }
    cells = " ".join(bench.show(row).split())
    assert cells == "something 0.500 1.000 - 0.100 2.00 - a note"
