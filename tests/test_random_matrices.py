"""Bulks and spikes against quadrature and sampled matrices."""

import numpy as np
import pytest
from scipy.integrate import quad

from learning_mechanics import random_matrices


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0, 3.0])
def test_marchenko_pastur_distribution_integrates_the_density(ratio):
    low, high = random_matrices.marchenko_pastur_edges(ratio, 2.0)
    atom = max(0.0, 1 - 1 / ratio)
    for x in np.linspace(low, high, 7):
        # x = s^2 tames the singularity at zero of ratio 1.
        area, _ = quad(
            lambda s: (
                2
                * s
                * random_matrices.marchenko_pastur_density(s**2, ratio, 2.0)
            ),
            low**0.5,
            x**0.5,
        )
        share = random_matrices.marchenko_pastur_distribution(x, ratio, 2.0)
        assert share == pytest.approx(atom + area, abs=1e-7)
    ends = random_matrices.marchenko_pastur_distribution(
        [-0.1, high, high + 1], ratio, 2.0
    )
    np.testing.assert_allclose(ends, [0, 1, 1])


@pytest.mark.parametrize(("p", "n"), [(200, 800), (600, 300)])
def test_marchenko_pastur_of_a_sample_covariance(p, n):
    x = np.random.default_rng(1).normal(size=(n, p))
    eigenvalues = np.linalg.eigvalsh(x.T @ x / n).clip(0)
    eigenvalues[eigenvalues < 1e-9] = 0
    share = random_matrices.marchenko_pastur_distribution(eigenvalues, p / n)
    # The distance of Kolmogorov is of order 1/p for eigenvalues.
    above = np.arange(1, p + 1) / p
    assert np.abs(share - above)[eigenvalues > 0].max() < 0.02
    assert share[0] == pytest.approx(max(0, 1 - n / p), abs=0.02)


@pytest.mark.parametrize("spike", [1.2, 2.5, 5.0])
@pytest.mark.parametrize(("p", "n"), [(200, 800), (800, 400)])
def test_spiked_covariance(spike, p, n):
    rng = np.random.default_rng(2)
    tops, overlaps = [], []
    for _ in range(3):
        x = rng.normal(size=(n, p))
        x[:, 0] *= spike**0.5
        # The smaller Gram matrix has the same nonzero spectrum.
        value, vector = np.linalg.eigh(x @ x.T / n if n < p else x.T @ x / n)
        top = x.T @ vector[:, -1] if n < p else vector[:, -1]
        tops.append(value[-1])
        overlaps.append(top[0] ** 2 / (top @ top))
    top, overlap = random_matrices.spiked_covariance(spike, p / n)
    assert np.mean(tops) == pytest.approx(float(top), rel=0.06)
    assert np.mean(overlaps) == pytest.approx(float(overlap), abs=0.06)


@pytest.mark.parametrize("spike", [0.5, 1.5, 3.0])
@pytest.mark.parametrize(("p", "n"), [(200, 600), (600, 400)])
def test_spiked_matrix(spike, p, n):
    rng = np.random.default_rng(4)
    measured = []
    for _ in range(3):
        w = rng.normal(size=(p, n)) / n**0.5
        w[0, 0] += spike
        u, s, vt = np.linalg.svd(w, full_matrices=False)
        measured.append((s[0], u[0, 0] ** 2, vt[0, 0] ** 2))
    theory = random_matrices.spiked_matrix(spike, p / n)
    np.testing.assert_allclose(np.mean(measured, 0), theory, atol=0.06)


def test_spikes_join_the_bulk_continuously():
    for ratio in (0.3, 2.0):
        edge = random_matrices.marchenko_pastur_edges(ratio)[1]
        spike = 1 + ratio**0.5 * np.array([0.1, 1.0, 1 + 1e-9])
        top, overlap = random_matrices.spiked_covariance(spike, ratio)
        np.testing.assert_allclose(top, edge)
        np.testing.assert_allclose(overlap, 0, atol=1e-8)
        value, left, right = random_matrices.spiked_matrix(ratio**0.25, ratio)
        assert value**2 == pytest.approx(edge)
        assert left == pytest.approx(0, abs=1e-12)
        assert right == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: random_matrices.marchenko_pastur_density(1.0, 0.0), "ratio"),
        (
            lambda: random_matrices.marchenko_pastur_edges(1.0, -1.0),
            "variance",
        ),
        (lambda: random_matrices.spiked_covariance(-1.0, 1.0), "spike"),
        (lambda: random_matrices.spiked_matrix(1.0, np.nan), "ratio"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"{name}.*allowed"):
        call()
