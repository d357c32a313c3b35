"""Tangent kernels and linear models, against Jacobians taken one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learning_mechanics import (
    architectures,
    ensembles,
    kernels,
    lanczos,
    linearization,
    networks,
    training,
)

ACTIVATIONS = [None, torch.relu, torch.tanh, torch.nn.functional.gelu]


def stream(seed):
    return torch.Generator().manual_seed(seed)


def mlp(seed, widths, activation, biased=False, scaled=False):
    weights = networks.gaussian_weights(
        widths, scale=1.0, generator=stream(seed)
    )
    return networks.MLP(
        weights,
        activation,
        biases=[0.3 * w[:, 0] for w in weights] if biased else None,
        multipliers=[0.5 + 0.4 * i for i in range(len(weights))]
        if scaled
        else None,
    )


def cnn(seed=0):
    return architectures.CNN(
        1,
        3,
        2,
        4,
        n_pools=1,
        activation=torch.tanh,
        parametrization="standard",
        base=3,
        generator=stream(seed),
    )


def jacobian(network, inputs):
    """One backward pass for each sample and output, [n, c, p]."""
    trained = [p for p in network.parameters() if p.requires_grad]
    return torch.stack(
        [
            torch.stack(
                [
                    torch.cat(
                        [
                            g.flatten()
                            for g in torch.autograd.grad(
                                output, trained, retain_graph=True
                            )
                        ]
                    )
                    for output in network(x[None])[0]
                ]
            )
            for x in inputs
        ]
    )


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    activation=st.sampled_from(ACTIVATIONS),
    biased=st.booleans(),
    scaled=st.booleans(),
    count=st.integers(1, 7),
    other_count=st.integers(1, 5),
)
def test_layer_products_equal_the_jacobian(
    seed, widths, activation, biased, scaled, count, other_count
):
    network = mlp(seed, widths, activation, biased, scaled)
    x, y = (
        torch.randn(n, widths[0], generator=stream(seed + n)).double()
        for n in (count, 10 + other_count)
    )
    jx, jy = jacobian(network, x), jacobian(network, y)
    traced = linearization.ntk(network, x)
    full = linearization.ntk(network, x, traced=False)
    between = linearization.ntk(network, x, y)
    full_between = linearization.ntk(network, x, y, traced=False)
    close = {"rtol": 1e-10, "atol": 1e-10}
    every = torch.einsum("ncp,mdp->nmcd", jx, jx)
    other = torch.einsum("ncp,mdp->nmcd", jx, jy)
    torch.testing.assert_close(full, every, **close)
    torch.testing.assert_close(full_between, other, **close)
    torch.testing.assert_close(
        traced, torch.einsum("nmcc->nm", every), **close
    )
    torch.testing.assert_close(
        between, torch.einsum("nmcc->nm", other), **close
    )
    low = torch.linalg.eigvalsh(traced).min()
    assert low > -1e-10 * traced.diagonal().max()


@pytest.mark.parametrize("blocks", [1, 3, 100])
@pytest.mark.parametrize("traced", [True, False])
def test_any_network_goes_by_blocks_of_its_jacobian(
    blocks, traced, monkeypatch
):
    network = cnn()
    x = torch.randn(5, 1, 4, 4, generator=stream(1)).double()
    y = torch.randn(3, 1, 4, 4, generator=stream(2)).double()
    jx, jy = jacobian(network, x), jacobian(network, y)
    monkeypatch.setattr(
        linearization, "JACOBIAN_BYTES", blocks * jx[0].numel() * 8
    )
    trace = "ncp,mcp->nm" if traced else "ncp,mdp->nmcd"
    for other, j_other in ((None, jx), (y, jy)):
        torch.testing.assert_close(
            linearization.ntk(network, x, other, traced=traced),
            torch.einsum(trace, jx, j_other),
        )


class Leaky(torch.nn.Module):
    """A ReLU with a slope that is trained, below zero."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(0.3).double())

    def forward(self, hidden):
        return torch.where(hidden > 0, hidden, self.slope * hidden)


def tied():
    """Return a network that has one matrix in two layers."""
    network = mlp(0, [4, 4, 4, 3], torch.tanh)
    network.weights[1] = network.weights[0]
    return network


@pytest.mark.parametrize(
    "network",
    [
        tied(),
        mlp(0, [4, 6, 5, 3], Leaky()),
        mlp(0, [4, 6, 5, 3], lambda h: torch.softmax(h, 1)),
        mlp(0, [4, 6, 5, 3], lambda h: torch.layer_norm(h, h.shape[1:])),
    ],
    ids=["tied weights", "trained activation", "softmax", "layer norm"],
)
def test_what_layer_products_would_miss_counts(network):
    x = torch.randn(5, 4, generator=stream(1)).double()
    j = jacobian(network, x)
    torch.testing.assert_close(
        linearization.ntk(network, x), torch.einsum("ncp,mcp->nm", j, j)
    )


def test_frozen_parameters_do_not_count():
    network = mlp(0, [3, 4, 2], torch.tanh)
    network.weights[0].requires_grad_(False)
    x = torch.randn(4, 3, generator=stream(1)).double()
    j = jacobian(network, x)
    assert j.shape[-1] == 8
    torch.testing.assert_close(
        linearization.ntk(network, x), torch.einsum("ncp,mcp->nm", j, j)
    )
    kernel = linearization.TangentKernel(network, x)
    j = j.flatten(0, 1)
    vector = torch.randn(8, generator=stream(2)).double()
    torch.testing.assert_close(kernel @ vector, j @ (j.T @ vector))


def test_wide_networks_have_the_analytic_kernel():
    """Entries of the traced kernel scatter by about n^-1/2."""
    x = torch.randn(6, 10, generator=stream(0)).double()
    c, width = 3, 2048
    network = networks.mlp(
        [10, width, width, c],
        torch.relu,
        parametrization="ntk",
        base=width,
        scale=2**0.5,
        generator=stream(1),
    )
    found = linearization.ntk(network, x) / c
    theory = kernels.ntk(x, depth=2, activation="relu", weight_variance=2.0)
    assert (found - theory).norm() / theory.norm() < 5 / width**0.5


@pytest.mark.parametrize("network", [mlp(0, [16, 9, 4], torch.relu), cnn()])
def test_eigenpairs_without_the_kernel(network):
    x = torch.randn(6, 16, generator=stream(1)).double()
    if isinstance(network, architectures.CNN):
        x = x.view(6, 1, 4, 4)
    j = jacobian(network, x).flatten(0, 1)
    values, vectors = torch.linalg.eigh(j @ j.T)
    found = lanczos.top_eigenpairs(
        linearization.TangentKernel(network, x),
        3,
        generator=stream(2),
        tolerance=1e-8,
    )
    np.testing.assert_allclose(found.values, values.flip(0)[:3], rtol=1e-7)
    overlap = (found.vectors * vectors.flip(1)[:, :3]).sum(0).abs()
    torch.testing.assert_close(
        overlap, torch.ones(3).double(), rtol=1e-6, atol=0
    )


def partly_frozen():
    network = mlp(0, [4, 8, 3], torch.tanh, biased=True, scaled=True)
    network.weights[0].requires_grad_(False)
    return network


@pytest.mark.parametrize("make", [partly_frozen, tied, cnn])
def test_linearized_network_is_the_first_order(make):
    network = make()
    shape = (5, 4) if isinstance(network, networks.MLP) else (5, 1, 4, 4)
    x = torch.randn(shape, generator=stream(1)).double()
    linear = linearization.Linearized(network)
    kernel = linearization.ntk(linear, x)
    torch.testing.assert_close(kernel, linearization.ntk(network, x))
    start, j = network(x).detach(), jacobian(network, x)
    torch.testing.assert_close(linear(x).detach(), start)
    steps = []
    with torch.no_grad():
        for weight in linear.parameters():
            steps.append(torch.randn(weight.shape, generator=stream(2)))
            weight.add_(steps[-1])
    step = torch.cat([s.flatten() for s in steps]).double()
    torch.testing.assert_close(linear(x).detach(), start + j @ step)
    torch.testing.assert_close(network(x).detach(), start)
    torch.testing.assert_close(linearization.ntk(linear, x), kernel)
    rounded = linear.float()(x.float())
    torch.testing.assert_close(rounded, (start + j @ step).float())


def test_linearized_network_is_stored_with_its_start():
    first, second = (
        linearization.Linearized(mlp(seed, [4, 8, 3], torch.tanh))
        for seed in range(2)
    )
    second.load_state_dict(first.state_dict())
    x = torch.randn(5, 4, generator=stream(2)).double()
    assert torch.equal(first(x), second(x))


def test_linearized_networks_do_not_share_a_start_in_an_ensemble():
    x = torch.ones(2, 4).double()
    members = [
        linearization.Linearized(mlp(seed, [4, 8, 3], torch.tanh))
        for seed in range(2)
    ]
    with pytest.raises(ValueError, match="buffers.*start"):
        ensembles.train(members, x, members[0](x), learning_rate=0.1, steps=1)


def test_training_it_is_descent_in_function_space():
    """f - y is multiplied by (1 - eta K / n) in every step."""
    network = mlp(3, [4, 8, 3], torch.tanh)
    x = torch.randn(7, 4, generator=stream(1)).double()
    y = torch.randn(7, 3, generator=stream(2)).double()
    test = torch.randn(2, 4, generator=stream(3)).double()
    k, k_test = (
        linearization.ntk(network, at, x, traced=False)
        .transpose(1, 2)
        .reshape(len(at) * 3, 21)
        for at in (x, test)
    )
    f, f_test = network(x).detach().flatten(), network(test).detach().flatten()
    linear = linearization.Linearized(network)
    training.train(
        lambda: training.squared_error(linear, x, y),
        torch.optim.SGD(linear.parameters(), lr=0.1),
        steps=30,
    )
    for _ in range(30):
        error = f - y.flatten()
        f = f - 0.1 / 7 * k @ error
        f_test = f_test - 0.1 / 7 * k_test @ error
    torch.testing.assert_close(linear(x).detach().flatten(), f)
    torch.testing.assert_close(linear(test).detach().flatten(), f_test)


def test_small_steps_follow_the_gradient_flow_of_the_kernel():
    network = mlp(3, [4, 30, 1], torch.tanh)
    x = torch.randn(7, 4, generator=stream(1)).double()
    y = torch.randn(7, 1, generator=stream(2)).double()
    linear = linearization.Linearized(network)
    kernel = linearization.ntk(network, x)
    start = network(x).detach()
    time, rate = 5.0, 1e-2
    training.train(
        lambda: training.squared_error(linear, x, y),
        torch.optim.SGD(linear.parameters(), lr=rate),
        steps=round(time / rate),
        every=10**6,
    )
    values, vectors = torch.linalg.eigh(kernel / 7)
    decay = vectors @ torch.diag(torch.exp(-values * time)) @ vectors.T
    theory = y + decay @ (start - y)
    assert (linear(x).detach() - theory).norm() < 3 * rate * values.max() * (
        start - y
    ).norm()


def test_float32_is_kept():
    network = mlp(0, [4, 8, 3], torch.relu).float()
    x = torch.randn(5, 4, generator=stream(1))
    kernel = linearization.ntk(network, x)
    assert kernel.dtype == torch.float32
    exact = linearization.ntk(network.double(), x.double())
    assert linearization.drift(exact, kernel.double()) < 1e-6


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"inputs": torch.zeros(0, 4)}, ValueError, r"inputs of shape \[0"),
        ({"inputs": torch.zeros(4)}, ValueError, r"inputs of shape \[4\]"),
        ({"inputs": torch.full((2, 4), torch.nan)}, ValueError, "inputs.*NaN"),
        ({"inputs": torch.zeros(2, 4).double()}, ValueError, "inputs is.*64"),
        ({"inputs": torch.zeros(2, 3)}, ValueError, r"inputs of.*\[2, 3\]"),
        ({"inputs": torch.zeros(2, 4).long()}, TypeError, "inputs is.*int64"),
        ({"inputs": [[0.0] * 4]}, TypeError, "inputs is list"),
        ({"network": torch.relu}, TypeError, "network is builtin"),
        ({"others": torch.zeros(2, 4).double()}, ValueError, "others is"),
        ({"others": torch.full((2, 4), torch.inf)}, ValueError, "others.*NaN"),
    ],
)
def test_bad_inputs_are_named(change, error, message):
    arguments = {
        "network": mlp(0, [4, 8, 3], torch.relu).float(),
        "inputs": torch.ones(2, 4),
    } | change
    with pytest.raises(error, match=message):
        linearization.ntk(**arguments)


def test_bad_networks_are_named():
    frozen = mlp(0, [4, 3], None).requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that requires"):
        linearization.ntk(frozen, torch.ones(2, 4).double())
    flat = torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Flatten(0))
    with pytest.raises(ValueError, match="makes of inputs of shape"):
        linearization.TangentKernel(flat, torch.ones(2, 4))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (torch.eye(2), torch.eye(3), r"after has shape \[3, 3\]"),
        (torch.zeros(2, 2), torch.eye(2), "norm of before"),
        (torch.eye(2), torch.full((2, 2), torch.nan), "after has NaN"),
    ],
)
def test_bad_kernels_are_named(before, after, message):
    with pytest.raises(ValueError, match=message):
        linearization.drift(before, after)
