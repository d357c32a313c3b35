"""Products with vectors against dense matrices."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.functional import hessian as dense_hessian

from learning_mechanics import curvature, networks, training


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def make(widths=(4, 5, 3), n=12, seed=0, dtype=torch.float64):
    """Return a small tanh network and random data."""
    draw = stream(seed)
    weights = networks.gaussian_weights(widths, scale=1.0, generator=draw)
    network = networks.MLP([w.to(dtype) for w in weights], torch.tanh)
    inputs = torch.randn(n, widths[0], generator=draw, dtype=dtype)
    targets = torch.randn(n, widths[-1], generator=draw, dtype=dtype)
    return network, inputs, targets


def functional(network, flat, inputs):
    """Return the network's outputs for flat weights, in plain code."""
    sizes = [w.numel() for w in network.weights]
    *hidden, readout = (
        part.view_as(w)
        for part, w in zip(flat.split(sizes), network.weights, strict=True)
    )
    for weight in hidden:
        inputs = torch.tanh(inputs @ weight.T)
    return inputs @ readout.T


def flatten(network):
    return torch.cat([w.detach().reshape(-1) for w in network.weights])


def dense(operator):
    return torch.stack(
        [
            operator @ row
            for row in torch.eye(operator.shape[0], dtype=operator.dtype)
        ],
        1,
    )


def hessian(network, inputs, targets):
    return curvature.Hessian(
        lambda: training.squared_error(network, inputs, targets),
        network.parameters(),
    )


@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)]
)
def test_hessian_is_the_dense_one(dtype, atol):
    network, inputs, targets = make(dtype=dtype)

    def loss(flat):
        return (functional(network, flat, inputs) - targets).square().sum() / (
            2 * len(inputs)
        )

    operator = hessian(network, inputs, targets)
    expected = dense_hessian(loss, flatten(network))
    assert operator.shape == tuple(expected.shape)
    torch.testing.assert_close(dense(operator), expected, rtol=0, atol=atol)
    assert operator.value == pytest.approx(loss(flatten(network)).item())
    flat = flatten(network).requires_grad_()
    (slope,) = torch.autograd.grad(loss(flat), flat)
    torch.testing.assert_close(operator.gradient, slope)


@pytest.mark.parametrize("cross_entropy", [False, True])
def test_gauss_newton_is_jacobian_times_curvature_times_jacobian(
    cross_entropy,
):
    network, inputs, targets = make()
    labels = targets.argmax(1)

    def loss(outputs):
        if cross_entropy:
            return torch.nn.functional.cross_entropy(outputs, labels)
        return (outputs - targets).square().sum() / (2 * len(inputs))

    operator = curvature.GaussNewton(
        lambda: network(inputs), loss, network.parameters()
    )
    jacobian = torch.autograd.functional.jacobian(
        lambda flat: functional(network, flat, inputs), flatten(network)
    ).reshape(targets.numel(), -1)
    with torch.no_grad():
        outputs = network(inputs)
    if cross_entropy:
        share = outputs.softmax(1)
        blocks = torch.diag_embed(share) - share[:, :, None] * share[:, None]
        inner = torch.block_diag(*blocks) / len(inputs)
    else:
        inner = torch.eye(targets.numel(), dtype=torch.float64) / len(inputs)
    torch.testing.assert_close(
        dense(operator), jacobian.T @ inner @ jacobian, rtol=0, atol=1e-12
    )


def test_what_the_derivatives_do_not_reach_is_zero():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    v = torch.tensor(3.0, requires_grad=True)
    linear = curvature.Hessian(lambda: 2 * w.sum() + v, [w, v])
    assert (linear @ torch.ones(3)).tolist() == [0, 0, 0]
    assert linear.third(torch.ones(3)).tolist() == [0, 0, 0]
    partly = curvature.Hessian(lambda: w.prod() + v, [w, v])
    assert (partly @ torch.ones(3)).tolist() == [1, 1, 0]
    assert partly.third(torch.ones(3)).tolist() == [0, 0, 0]
    flat = curvature.GaussNewton(lambda: w * v, torch.sum, [w, v])
    assert (flat @ torch.ones(3)).tolist() == [0, 0, 0]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    widths=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    n=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    factor=st.floats(-3, 3),
)
def test_products_are_symmetric_and_linear(widths, n, seed, factor):
    network, inputs, targets = make(widths, n, seed)
    draw = stream(seed + 1)
    for operator in (
        hessian(network, inputs, targets),
        curvature.GaussNewton(
            lambda: network(inputs),
            lambda outputs: (outputs - targets).pow(4).mean(),
            network.parameters(),
        ),
    ):
        size = operator.shape[0]
        a, b, diagonal = torch.randn(
            3, size, generator=draw, dtype=torch.float64
        )
        for matrix in (
            operator,
            curvature.Preconditioned(operator, diagonal.exp()),
        ):
            first, second = matrix @ a, matrix @ b
            scale = first.norm() * b.norm() + second.norm() * a.norm()
            assert abs(b @ first - a @ second) <= 1e-12 * scale + 1e-300
            torch.testing.assert_close(
                matrix @ (a + factor * b), first + factor * second
            )
    assert operator @ a @ a >= -1e-12 * scale  # convex loss, so G >= 0


def test_a_product_belongs_to_the_weights_it_was_made_at():
    network, inputs, targets = make()
    operator = hessian(network, inputs, targets)
    with torch.no_grad():
        network.weights[1].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace"):
        operator @ torch.ones(operator.shape[0], dtype=torch.float64)


def test_operators_work_without_gradients_and_leave_none():
    network, inputs, targets = make()
    with torch.no_grad():
        operator = hessian(network, inputs, targets)
        vector = torch.ones(operator.shape[0], dtype=torch.float64)
        product, third = operator @ vector, operator.third(vector)
    assert not product.requires_grad
    assert not third.requires_grad
    assert all(w.grad is None for w in network.parameters())


@pytest.mark.parametrize("seed", range(3))
def test_third_is_the_gradient_of_the_curvature_along_a_vector(seed):
    network, inputs, targets = make(seed=seed)
    operator = hessian(network, inputs, targets)
    size = operator.shape[0]
    u, direction = torch.randn(
        2, size, generator=stream(seed), dtype=torch.float64
    )
    third = operator.third(u)
    step, sizes = 1e-4, [w.numel() for w in network.weights]
    along = []
    for sign in (1, -1):
        moved = networks.MLP(
            [
                w + sign * step * part.view_as(w)
                for w, part in zip(
                    network.weights, direction.split(sizes), strict=True
                )
            ],
            torch.tanh,
        )
        along.append(u @ (hessian(moved, inputs, targets) @ u))
    expected = (along[0] - along[1]) / (2 * step)
    assert third @ direction == pytest.approx(expected.item(), rel=1e-5)


def test_preconditioned_has_the_eigenvalues_of_the_quotient():
    network, inputs, targets = make()
    operator = hessian(network, inputs, targets)
    diagonal = torch.rand(
        operator.shape[0], generator=stream(), dtype=torch.float64
    ).exp()
    found = np.linalg.eigvalsh(
        dense(curvature.Preconditioned(operator, diagonal)).numpy()
    )
    quotient = dense(operator).numpy() / diagonal.numpy()[:, None]
    expected = np.sort(np.linalg.eigvals(quotient).real)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)


def leaf(*shape, dtype=torch.float64):
    return torch.ones(*shape, dtype=dtype, requires_grad=True)


W = leaf(3)


@pytest.mark.parametrize(
    ("call", "error", "name"),
    [
        (lambda: curvature.Hessian(lambda: W.sum(), []), ValueError, "param"),
        (
            lambda: curvature.Hessian(lambda: W.sum(), [3.0]),
            TypeError,
            "param",
        ),
        (
            lambda: curvature.Hessian(lambda: W.sum(), [W.detach()]),
            ValueError,
            "requires_grad",
        ),
        (
            lambda: curvature.Hessian(
                lambda: W.sum(), [W, leaf(1, dtype=torch.float32)]
            ),
            ValueError,
            r"parameters\[1\] is torch.float32",
        ),
        (
            lambda: curvature.Hessian(
                lambda: W.sum(), [W, torch.ones(2, device="meta").double()]
            ),
            ValueError,
            r"parameters\[1\] is torch.float64 on meta",
        ),
        (
            lambda: curvature.Hessian(
                lambda: W.sum(), [leaf(2, dtype=torch.bfloat16)]
            ),
            TypeError,
            "float32 or float64",
        ),
        (
            lambda: curvature.Hessian(lambda: W.sum(), [W, leaf(2)]),
            ValueError,
            r"loss does not depend on parameters \[1\]",
        ),
        (
            lambda: curvature.Hessian(lambda: torch.tensor(1.0), [W]),
            ValueError,
            r"loss does not depend on parameters \[0\]",
        ),
        (lambda: curvature.Hessian(lambda: W, [W]), ValueError, "loss gives"),
        (lambda: curvature.Hessian(lambda: 1.0, [W]), TypeError, "loss gives"),
        (
            lambda: curvature.Hessian(lambda: W.sum() / 0, [W]),
            ValueError,
            "finite",
        ),
        (
            lambda: curvature.Hessian(lambda: W.sum(), [W]) @ torch.ones(3),
            ValueError,
            "vector is .*float32",
        ),
        (
            lambda: curvature.Hessian(lambda: W.sum(), [W]).third(leaf(4)),
            ValueError,
            r"vector has shape \[4\]",
        ),
        (
            lambda: curvature.GaussNewton(lambda: 1.0, torch.sum, [W]),
            TypeError,
            "outputs gives",
        ),
        (
            lambda: curvature.GaussNewton(lambda: W, lambda f: f, [W]),
            ValueError,
            "loss gives",
        ),
        (
            lambda: curvature.GaussNewton(lambda: W, torch.sum, [W, leaf(1)]),
            ValueError,
            r"outputs does not depend on parameters \[1\]",
        ),
        (
            lambda: curvature.GaussNewton(
                lambda: W, lambda f: f.detach().sum(), [W]
            ),
            ValueError,
            "loss does not depend on the outputs",
        ),
        (
            lambda: curvature.Preconditioned(torch.eye(2), torch.ones(3)),
            ValueError,
            "diagonal has shape",
        ),
        (
            lambda: curvature.Preconditioned(
                torch.eye(2), torch.tensor([1.0, 0.0])
            ),
            ValueError,
            "positive",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, name):
    with pytest.raises(error, match=name):
        call()
