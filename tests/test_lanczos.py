"""Eigenvalues and densities against those of dense matrices."""

import math

import numpy as np
import pytest
import torch

from learning_mechanics import lanczos


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def symmetric(values, seed=0):
    """Return a matrix with the given eigenvalues in a random basis."""
    size = len(values)
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))
    matrix = basis[0] * np.asarray(values) @ basis[0].T
    return torch.from_numpy((matrix + matrix.T) / 2)


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-5, 1e-10])
def test_top_eigenpairs_and_their_bounds(k, tolerance):
    # As of a Hessian: a few outliers, and a bulk on both sides of zero.
    expected = np.sort(np.append(np.cos(range(90)), [2, 3, 3.2, 9, 40]))[::-1]
    operator = symmetric(expected)
    matrix = operator.numpy()
    for seed in range(5):
        found = lanczos.top_eigenpairs(
            operator, k, generator=stream(seed), tolerance=tolerance
        )
        assert (found.bounds <= tolerance * abs(found.values)).all()
        # Some eigenvalue is within the bound; if that is tight, the right one.
        rounding = 1e-13 * expected[0]
        errors = np.abs(found.values - expected[:, None]).min(0)
        assert (errors <= found.bounds + rounding).all()
        if tolerance < 1e-2:
            errors = np.abs(found.values - expected[:k])
            assert (errors <= found.bounds + rounding).all()
        u = found.vectors.numpy()
        np.testing.assert_allclose(u.T @ u, np.eye(k), atol=1e-12)
        residuals = np.linalg.norm(matrix @ u - u * found.values, axis=0)
        np.testing.assert_allclose(found.bounds, residuals, atol=1e-12)
        assert found.products <= operator.shape[0]


def test_top_eigenpairs_in_float32():
    matrix = symmetric(np.linspace(-1, 1, 300) ** 3 * 100)
    expected = np.linalg.eigvalsh(matrix.numpy())[::-1][:5]
    found = lanczos.top_eigenpairs(
        matrix.float(), 5, generator=stream(), tolerance=1e-5
    )
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    assert found.vectors.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lanczos_goes_on_where_the_space_is_invariant(dtype):
    for matrix in (torch.zeros(5, 5), torch.eye(5), torch.ones(5, 5)):
        found = lanczos.top_eigenpairs(matrix.to(dtype), 5, generator=stream())
        expected = np.linalg.eigvalsh(matrix.numpy())[::-1]
        np.testing.assert_allclose(found.values, expected, atol=1e-5)


def test_density_has_the_moments_of_the_spectrum():
    values = np.append(np.cos(range(90)), [2, 3, 3.2, 9, 40])
    found = lanczos.spectral_density(
        symmetric(values), generator=stream(), probes=100, steps=20
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
    found = lanczos.spectral_density(
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
        lanczos.spectral_density(
            matrix, generator=stream(5), probes=20, steps=60, width=0.05
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.density, second.density)
    deviation = 0.05 * 5
    bells = np.exp(-(((first.grid[:, None] - values) / deviation) ** 2) / 2)
    expected = bells.mean(1) / (deviation * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(first.density, expected, atol=0.03)


@pytest.mark.parametrize(
    ("call", "error", "name"),
    [
        (
            lambda: lanczos.top_eigenpairs(
                torch.ones(2, 3), 1, generator=stream()
            ),
            ValueError,
            "operator has shape",
        ),
        (
            lambda: lanczos.top_eigenpairs(
                torch.eye(2), 3, generator=stream()
            ),
            ValueError,
            "k=3; allowed: integers from 1 to 2",
        ),
        (
            lambda: lanczos.top_eigenpairs(
                torch.eye(2), 1, generator=stream(), tolerance=0.0
            ),
            ValueError,
            "tolerance",
        ),
        (
            lambda: lanczos.top_eigenpairs(
                torch.eye(9), 3, generator=stream(), limit=2
            ),
            ValueError,
            "limit=2",
        ),
        (
            lambda: lanczos.top_eigenpairs(
                symmetric(np.arange(50.0)), 3, generator=stream(), limit=5
            ),
            ArithmeticError,
            "5 products leave",
        ),
        (
            lambda: lanczos.top_eigenpairs(
                torch.full((2, 2), torch.nan), 1, generator=stream()
            ),
            FloatingPointError,
            "not finite",
        ),
        (
            lambda: lanczos.spectral_density(
                torch.eye(2), generator=stream(), probes=0
            ),
            ValueError,
            "probes=0",
        ),
        (
            lambda: lanczos.spectral_density(
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
