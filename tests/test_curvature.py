"""Products, eigenvalues and densities against dense matrices."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.functional import hessian as dense_hessian

from learning_mechanics import curvature, data, networks, training


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


def symmetric(values, seed=0):
    """Return a matrix with the given eigenvalues in a random basis."""
    size = len(values)
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))
    matrix = basis[0] * np.asarray(values) @ basis[0].T
    return torch.from_numpy((matrix + matrix.T) / 2)


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


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-5, 1e-10])
def test_top_eigenpairs_and_their_bounds(k, tolerance):
    network, inputs, targets = make((6, 8, 4), n=30)
    operator = hessian(network, inputs, targets)
    matrix = dense(operator).numpy()
    expected = np.linalg.eigvalsh((matrix + matrix.T) / 2)[::-1]
    for seed in range(5):
        found = curvature.top_eigenpairs(
            operator, k, generator=stream(seed), tolerance=tolerance
        )
        errors = np.abs(found.values - expected[:k])
        assert (errors <= found.bounds + 1e-13 * expected[0]).all()
        assert (found.bounds <= tolerance * abs(found.values)).all()
        u = found.vectors.numpy()
        np.testing.assert_allclose(u.T @ u, np.eye(k), atol=1e-12)
        residuals = np.linalg.norm(matrix @ u - u * found.values, axis=0)
        assert (found.bounds <= residuals + 1e-12).all()
        assert found.products <= operator.shape[0]


def test_top_eigenpairs_in_float32():
    matrix = symmetric(np.linspace(-1, 1, 300) ** 3 * 100)
    expected = np.linalg.eigvalsh(matrix.numpy())[::-1][:5]
    found = curvature.top_eigenpairs(
        matrix.float(), 5, generator=stream(), tolerance=1e-5
    )
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    assert found.vectors.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lanczos_goes_on_where_the_space_is_invariant(dtype):
    for matrix in (torch.zeros(5, 5), torch.eye(5), torch.ones(5, 5)):
        found = curvature.top_eigenpairs(
            matrix.to(dtype), 5, generator=stream()
        )
        expected = np.linalg.eigvalsh(matrix.numpy())[::-1]
        np.testing.assert_allclose(found.values, expected, atol=1e-5)


def test_preconditioned_has_the_eigenvalues_of_the_quotient():
    network, inputs, targets = make()
    operator = hessian(network, inputs, targets)
    diagonal = torch.rand(
        operator.shape[0], generator=stream(), dtype=torch.float64
    ).exp()
    found = curvature.top_eigenpairs(
        curvature.Preconditioned(operator, diagonal),
        4,
        generator=stream(),
        tolerance=1e-8,
    )
    quotient = dense(operator).numpy() / diagonal.numpy()[:, None]
    expected = np.sort(np.linalg.eigvals(quotient).real)[::-1][:4]
    np.testing.assert_allclose(found.values, expected, rtol=1e-7)


@pytest.mark.parametrize("adam", [False, True])
def test_sharpness_through_training(adam):
    images, labels = data.digits()
    inputs = images[:200]
    targets = data.one_hot(labels, 10).to(inputs)[:200]
    network = networks.MLP(
        networks.gaussian_weights([64, 4, 10], scale=1.0, generator=stream()),
        torch.tanh,
    )
    weights = list(network.parameters())
    optimizer = (
        torch.optim.Adam(weights, lr=0.005)
        if adam
        else torch.optim.SGD(weights, lr=0.15)
    )
    sharpness = curvature.Sharpness(generator=stream(1))
    products = []
    for step in range(100):
        optimizer.zero_grad()
        training.squared_error(network, inputs, targets).backward()
        optimizer.step()
        if step % 5:
            continue
        operator = hessian(network, inputs, targets)
        if adam:
            moment = torch.cat(
                [optimizer.state[w]["exp_avg_sq"].reshape(-1) for w in weights]
            )
            operator = curvature.Preconditioned(
                operator, (moment / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            )
        found = sharpness.measure(operator)
        matrix = dense(operator).numpy()
        largest = np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1]
        assert found.value == pytest.approx(largest, rel=0.01)
        assert abs(found.value - largest) <= found.bound
        assert found.bound <= 0.01 * found.value
        products.append(found.products)
    assert np.mean(products) <= 4


def test_sharpness_sees_another_eigenvalue_overtake():
    sharpness = curvature.Sharpness(generator=stream())
    for first in np.linspace(1.5, 0.5, 21):
        matrix = torch.diag(torch.tensor([first, 1.0, *[0.1] * 50]))
        found = sharpness.measure(matrix)
        if abs(first - 1) > 0.06:
            assert found.value == pytest.approx(max(first, 1), rel=0.02)


def test_density_has_the_moments_of_the_spectrum():
    network, inputs, targets = make((6, 8, 4), n=30)
    operator = hessian(network, inputs, targets)
    matrix = dense(operator).numpy()
    values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    found = curvature.spectral_density(
        operator, generator=stream(), probes=100, steps=20
    )
    assert found.weights.sum() == pytest.approx(1)
    for power in (1, 2, 3, 4):
        # The variance of a quadratic form over the unit sphere.
        size, moment = len(values), values**power
        spread = math.sqrt(2 * moment.var() / (size + 2) / 100)
        estimate = found.weights @ found.nodes**power
        assert abs(estimate - moment.mean()) <= 4 * spread
    spacing = found.grid[1] - found.grid[0]
    assert found.density.sum() * spacing == pytest.approx(1, abs=1e-5)
    mean = (found.density * found.grid).sum() * spacing
    assert mean == pytest.approx(found.weights @ found.nodes, abs=1e-5)


def test_density_of_one_probe_integrates_polynomials_exactly():
    matrix = symmetric(np.linspace(-1, 2, 40))
    found = curvature.spectral_density(
        matrix, generator=stream(3), probes=1, steps=5
    )
    v = torch.randn(40, generator=stream(3), dtype=torch.float64)
    v /= v.norm()
    for power in range(10):
        image = v
        for _ in range(power):
            image = matrix @ image
        assert found.weights @ found.nodes**power == pytest.approx(
            (v @ image).item()
        )


def test_density_is_the_streams_and_follows_the_dense_spectrum():
    values = np.concatenate([np.linspace(-1, 1, 190), np.full(10, 4.0)])
    matrix = symmetric(values)
    first, second = (
        curvature.spectral_density(
            matrix, generator=stream(5), probes=20, steps=60, width=0.05
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.density, second.density)
    deviation = 0.05 * 5
    bells = np.exp(-(((first.grid[:, None] - values) / deviation) ** 2) / 2)
    expected = bells.mean(1) / (deviation * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(first.density, expected, atol=0.03)


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
            ValueError,
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
            "vector has .*float32",
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
        (
            lambda: curvature.top_eigenpairs(
                torch.ones(2, 3), 1, generator=stream()
            ),
            ValueError,
            "operator has shape",
        ),
        (
            lambda: curvature.top_eigenpairs(
                torch.eye(2), 3, generator=stream()
            ),
            ValueError,
            "k=3; allowed: from 1 to 2",
        ),
        (
            lambda: curvature.top_eigenpairs(
                torch.eye(2), 1, generator=stream(), tolerance=0.0
            ),
            ValueError,
            "tolerance",
        ),
        (
            lambda: curvature.top_eigenpairs(
                torch.eye(9), 3, generator=stream(), limit=2
            ),
            ValueError,
            "limit=2",
        ),
        (
            lambda: curvature.top_eigenpairs(
                symmetric(np.arange(50.0)), 3, generator=stream(), limit=5
            ),
            ArithmeticError,
            "5 products leave",
        ),
        (
            lambda: curvature.top_eigenpairs(
                torch.full((2, 2), torch.nan), 1, generator=stream()
            ),
            FloatingPointError,
            "not finite",
        ),
        (
            lambda: curvature.Sharpness(generator=stream(), tolerance=-1.0),
            ValueError,
            "tolerance",
        ),
        (
            lambda: curvature.spectral_density(
                torch.eye(2), generator=stream(), probes=0
            ),
            ValueError,
            "probes=0",
        ),
        (
            lambda: curvature.spectral_density(
                torch.zeros(2, 2), generator=stream()
            ),
            ValueError,
            "operator is zero",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, name):
    with pytest.raises(error, match=name):
        call()


def test_sharpness_refuses_another_size():
    sharpness = curvature.Sharpness(generator=stream())
    sharpness.measure(torch.eye(3))
    with pytest.raises(ValueError, match="the last eigenvector"):
        sharpness.measure(torch.eye(4))
