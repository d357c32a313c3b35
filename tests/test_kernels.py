"""Kernels against whole-matrix formulas, wide random nets and refits."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.gaussian_process.kernels import RBF

from learning_mechanics import _tiles, kernels

ACTIVATIONS = ["relu", "erf", torch.tanh]


def inputs(n=40, d=6, seed=0, dtype=torch.float64):
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=stream, dtype=torch.float64).to(dtype)


def plain(x, other, depth, activation, weight, bias, tangent):
    """The recursion on whole matrices, all of [x, other] at once."""
    n = 0 if other is None else len(x)
    x = (x if other is None else torch.cat([x, other])).double()
    kernel = weight * x @ x.T / x.shape[1] + bias
    theta = kernel
    for _ in range(depth):
        q = kernel.diagonal().clone()
        if activation == "erf":
            size = torch.outer(1 + 2 * q, 1 + 2 * q)
            cosine = 2 * kernel / size.sqrt()
            value = 2 / math.pi * torch.asin(cosine)
            slope = 4 / math.pi / (size - 4 * kernel**2).sqrt()
        else:
            size = torch.outer(q, q).sqrt()
            angle = torch.acos((kernel / size).clamp(-1, 1)).fill_diagonal_(0)
            value = torch.sin(angle) + (math.pi - angle) * torch.cos(angle)
            value *= size / (2 * math.pi)
            slope = (math.pi - angle) / (2 * math.pi)
        kernel = weight * value + bias
        theta = kernel + weight * theta * slope
    return (theta if tangent else kernel)[: n or None, n:]


@pytest.mark.parametrize("tangent", [False, True])
@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-6)]
)
def test_tiles_equal_whole_matrices(
    monkeypatch, tangent, activation, dtype, error
):
    monkeypatch.setattr(_tiles, "TILE_BYTES", 1500)  # many ragged tiles
    x, other = inputs(dtype=dtype), inputs(23, seed=1, dtype=dtype)
    function = kernels.ntk if tangent else kernels.nngp
    for second in (None, other):
        ours = function(
            x,
            second,
            depth=3,
            activation=activation,
            weight_variance=1.7,
            bias_variance=0.2,
        )
        assert ours.dtype is dtype
        reference = plain(x, second, 3, activation, 1.7, 0.2, tangent)
        size = reference.abs().max()
        assert (ours.double() - reference).abs().max() < error * size


@pytest.mark.parametrize("function", [kernels.nngp, kernels.ntk])
def test_series_equals_the_closed_form(function):
    x = inputs(20)
    x[3] = 0
    settings_ = {"depth": 2, "weight_variance": 0.8, "bias_variance": 0.05}
    exact = function(x, activation="erf", **settings_)
    series = function(x, activation=torch.erf, **settings_)
    torch.testing.assert_close(series, exact, rtol=0, atol=1e-12)
    both = function(x, x, activation=torch.erf, **settings_)
    torch.testing.assert_close(both, exact, rtol=0, atol=1e-12)


def test_series_against_a_product_rule():
    # E[phi(u) phi(v)] on a grid of two independent Gaussians.
    z, w = np.polynomial.hermite_e.hermegauss(90)
    w /= w.sum()
    x = inputs(2, 4, seed=3)
    k = (x @ x.T / 4).numpy()
    lower = np.linalg.cholesky(k)
    u = torch.from_numpy(lower[0, 0] * z)[:, None]
    v = torch.from_numpy(lower[1, 0] * z[:, None] + lower[1, 1] * z)
    gelu = torch.nn.functional.gelu
    expected = w @ (gelu(u) * gelu(v)).numpy() @ w
    ours = kernels.nngp(x, depth=1, activation=gelu)[0, 1]
    assert ours.item() == pytest.approx(expected, abs=1e-10)


def test_series_says_when_it_is_cut():
    with pytest.warns(UserWarning, match="leaves out"):
        kernels.nngp(inputs(3), depth=1, activation=torch.relu)


@pytest.mark.parametrize(
    ("activation", "function"),
    [("relu", torch.relu), ("erf", torch.erf), (torch.tanh, torch.tanh)],
)
def test_wide_network_has_these_kernels(activation, function):
    x, width, draws = inputs(3, 5, seed=2), 1000, 12
    weight, bias = 1.5, 0.3
    stream = torch.Generator().manual_seed(4)
    nngp, ntk = torch.zeros(3, 3), torch.zeros(3, 3)
    for _ in range(draws):
        sizes = [5, width, width, 1]
        parameters = [
            torch.randn(*shape, generator=stream, requires_grad=True)
            for a, b in itertools.pairwise(sizes)
            for shape in [(b, a), (b,)]
        ]
        h = x.float()
        for i in range(3):
            if i:
                h = function(h)
            features = h.detach()
            h = (weight / sizes[i]) ** 0.5 * h @ parameters[2 * i].T
            h = h + bias**0.5 * parameters[2 * i + 1]
        nngp += (weight * features @ features.T / width + bias) / draws
        rows = [
            torch.cat([g.ravel() for g in torch.autograd.grad(
                out, parameters, retain_graph=True)])
            for out in h[:, 0]
        ]  # fmt: skip
        jacobian = torch.stack(rows)
        ntk += jacobian @ jacobian.T / draws
    arguments = {
        "depth": 2,
        "activation": activation,
        "weight_variance": weight,
        "bias_variance": bias,
    }
    for found, kernel in ((nngp, kernels.nngp), (ntk, kernels.ntk)):
        expected = kernel(x, **arguments).float()
        assert (found - expected).abs().max() < 0.05 * expected.max()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 5),
    st.integers(0, 4),
    st.sampled_from(ACTIVATIONS),
    st.floats(0.2, 1.2),
    st.sampled_from([0.0, 0.1]),
    st.integers(0, 1000),
)
def test_kernels_are_symmetric_and_positive(
    n, d, depth, activation, weight, bias, seed
):
    x = inputs(n, d, seed).clamp(-1.5, 1.5)
    for function in (kernels.nngp, kernels.ntk):
        kernel = function(
            x,
            depth=depth,
            activation=activation,
            weight_variance=weight,
            bias_variance=bias,
        )
        assert torch.equal(kernel, kernel.T)
        lowest = torch.linalg.eigvalsh(kernel)[0]
        assert lowest >= -1e-12 * kernel.abs().max() * n


@pytest.mark.parametrize("order", [0, 1, 2])
def test_arc_cosine_is_its_gaussian_average(order):
    x = inputs(2, 2, seed=5)
    radius = x.norm(dim=1)
    angle = torch.arange(4000) * (2 * math.pi / 4000)
    direction = torch.stack([angle.cos(), angle.sin()]).double()
    active = (x @ direction > 0) * (x @ direction).clamp(min=0) ** order
    # The mean of r^(2q) over a plane Gaussian is 1, 2 and 8.
    expected = 2 * [1, 2, 8][order] * (active @ active.T) / 4000
    ours = kernels.arc_cosine(x, order=order)
    torch.testing.assert_close(ours, expected, rtol=2e-3, atol=1e-3)
    assert torch.equal(ours, ours.T)
    assert ours[0, 0].item() == pytest.approx(
        [1, 1, 3][order] * radius[0].item() ** (2 * order)
    )
    other = kernels.arc_cosine(x, x.flip(0), order=order)
    torch.testing.assert_close(other.flip(1), ours, rtol=0, atol=1e-6)


def test_arc_cosine_is_the_relu_network():
    x = inputs(9, 4)
    network = kernels.nngp(x, depth=1, activation="relu", weight_variance=2.0)
    torch.testing.assert_close(
        network, kernels.arc_cosine(x, order=1) * 2 / 4, rtol=0, atol=1e-12
    )


def test_radial_kernels_against_distances():
    x, other = inputs() + 3, inputs(11, seed=1) + 3
    for second in (None, other):
        y = x if second is None else second
        expected = RBF(0.7)(x.numpy(), y.numpy())
        ours = kernels.rbf(x, second, length=0.7)
        np.testing.assert_allclose(ours, expected, atol=1e-12)
        distance = (x[:, None] - y).norm(dim=-1)
        torch.testing.assert_close(
            kernels.laplace(x, second, length=0.7),
            torch.exp(-distance / 0.7),
            rtol=0,
            atol=1e-12,
        )


@pytest.mark.parametrize(
    ("error", "text", "call"),
    [
        (ValueError, "inputs of shape", lambda: net(torch.ones(3))),
        (ValueError, "inputs of shape", lambda: net(torch.ones(0, 3))),
        (TypeError, "inputs is torch.int64", lambda: net(torch.eye(2).long())),
        (TypeError, "inputs is float64", lambda: net(np.eye(2))),
        (ValueError, "inputs has NaN", lambda: net(torch.eye(2) / 0)),
        (ValueError, "others is torch.float64",
         lambda: net(torch.eye(2), torch.eye(2).double())),
        (ValueError, "others of shape",
         lambda: net(torch.eye(2), torch.eye(3))),
        (ValueError, "depth=-1", lambda: net(torch.eye(2), depth=-1)),
        (ValueError, "activation='elu'",
         lambda: net(torch.eye(2), activation="elu")),
        (ValueError, "activation gives non-finite",
         lambda: net(torch.eye(2), activation=lambda z: z / 0)),
        (ValueError, "weight_variance=0",
         lambda: net(torch.eye(2), weight_variance=0)),
        (ValueError, "bias_variance=-1",
         lambda: net(torch.eye(2), bias_variance=-1)),
        (ValueError, "order=3",
         lambda: kernels.arc_cosine(torch.eye(2), order=3)),
        (ValueError, "length=0", lambda: kernels.rbf(torch.eye(2), length=0)),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(error, text, call):
    with pytest.raises(error, match=text):
        call()


def net(x, other=None, **change):
    arguments = {"depth": 1, "activation": "erf"} | change
    return kernels.ntk(x, other, **arguments)
