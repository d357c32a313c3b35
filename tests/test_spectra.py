"""Learning curves against simulation and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning_mechanics import spectra


def simulate(eigenvalues, coefficients, n, ridge, noise, draws):
    """Kernel ridge regression on Gaussian features: mean test and train."""
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(draws):
        features = rng.normal(size=(n, len(eigenvalues)))
        y = features @ coefficients + noise**0.5 * rng.normal(size=n)
        kernel = (features * eigenvalues) @ features.T
        dual = np.linalg.solve(kernel + ridge * np.eye(n), y)
        learned = eigenvalues * (features.T @ dual)
        test = ((coefficients - learned) ** 2).sum() + noise
        errors.append((test, ((y - kernel @ dual) ** 2).mean()))
    return np.mean(errors, 0)


@pytest.mark.parametrize(
    ("n", "ridge", "noise", "draws"),
    [
        (40, 0.0, 0.0, 200),
        (80, 0.0, 0.2, 200),
        (80, 0.05, 0.2, 200),
        (300, 1.0, 0.1, 40),
    ],
)
def test_learning_curve_of_gaussian_features(n, ridge, noise, draws):
    index = np.arange(1, 301)
    eigenvalues, coefficients = index**-1.5, index**-0.9
    test, train = spectra.learning_curve(
        eigenvalues, coefficients, n, ridge=ridge, noise=noise
    )
    measured = simulate(eigenvalues, coefficients, n, ridge, noise, draws)
    assert measured[0] == pytest.approx(float(test), rel=0.03)
    assert measured[1] == pytest.approx(float(train), rel=0.03, abs=1e-12)


def test_isotropic_ridgeless_risk_is_the_closed_form():
    # Hastie et al.: excess risk with |coefficients|^2 = r^2.
    p, noise, r2 = 120, 0.3, 2.0
    for n in (30, 60, 240, 600):
        gamma = p / n
        excess = noise * gamma / (1 - gamma)
        if gamma > 1:
            excess = r2 * (1 - 1 / gamma) + noise / (gamma - 1)
        test, train = spectra.learning_curve(
            np.ones(p), np.full(p, (r2 / p) ** 0.5), n, noise=noise
        )
        assert test - noise == pytest.approx(excess, rel=1e-10)
        left = max(0.0, 1 - gamma) * noise
        assert train == pytest.approx(left, rel=1e-10)


def test_isotropic_ridge_solves_the_quadratic():
    # n kappa (1 + kappa) = m kappa + ridge (1 + kappa) for unit eigenvalues.
    m, n, ridge = 50, np.array([10.0, 50.0, 200.0]), 3.0
    b = n - m - ridge
    exact = (-b + np.sqrt(b**2 + 4 * n * ridge)) / (2 * n)
    kappa = spectra.effective_ridge(np.ones(m), n, ridge)
    np.testing.assert_allclose(kappa, exact, rtol=1e-12)


def test_power_law_eigenvalues_give_the_known_exponent():
    # kappa ~ n^-a (pi / (a sin(pi/a)))^a for eigenvalues k^-a.
    n = np.array([100, 1000])
    kappa = spectra.effective_ridge(np.arange(1.0, 1e6) ** -2, n)
    np.testing.assert_allclose(kappa, (np.pi / 2 / n) ** 2, rtol=0.02)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(1e-9, 1e6), min_size=2, max_size=30),
    st.integers(1, 60),
    st.sampled_from([0.0, 1e-12, 1e-3, 10.0, 1e8]),
)
def test_effective_ridge_solves_its_equation(eigenvalues, n, ridge):
    eigenvalues = np.array(eigenvalues)
    kappa = float(spectra.effective_ridge(eigenvalues, n, ridge))
    if ridge == 0 and n >= len(eigenvalues):
        assert kappa == 0
        return
    total = (eigenvalues / (eigenvalues + kappa)).sum() + ridge / kappa
    assert total == pytest.approx(n, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.floats(0.0, 5.0), st.integers(0, 99))
def test_learnabilities_are_conserved(n, ridge, seed):
    eigenvalues = np.random.default_rng(seed).exponential(size=25) ** 3
    learned = spectra.learnabilities(eigenvalues, n, ridge)
    assert (learned >= 0).all()
    assert (learned <= 1).all()
    assert learned.sum() <= n * (1 + 1e-9)
    if ridge == 0:
        assert learned.sum() == pytest.approx(min(n, 25))


def test_the_ridgeless_limit_is_that_of_small_ridge():
    rng = np.random.default_rng(3)
    eigenvalues, coefficients = rng.exponential(size=(2, 20))
    n = np.array([5, 15, 30, 100])
    exact = spectra.learning_curve(eigenvalues, coefficients, n, noise=0.1)
    close = spectra.learning_curve(
        eigenvalues, coefficients, n, noise=0.1, ridge=1e-10
    )
    np.testing.assert_allclose(close, exact, rtol=1e-6, atol=1e-12)


def test_the_peak_and_what_cannot_be_learned():
    test, train = spectra.learning_curve([1.0, 1.0], [1.0, 0.0], 2, noise=0.1)
    assert test == np.inf
    assert train == 0
    test, _ = spectra.learning_curve([1.0, 1.0], [1.0, 0.0], 2)
    assert test == 0
    # A mode of eigenvalue zero acts as noise.
    blind, _ = spectra.learning_curve([1.0, 0.0], [1.0, 0.5], 8)
    noisy, _ = spectra.learning_curve([1.0], [1.0], 8, noise=0.25)
    assert blind == pytest.approx(float(noisy))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: spectra.effective_ridge([], 3), "eigenvalues"),
        (lambda: spectra.effective_ridge([0.0], 3), "eigenvalues"),
        (lambda: spectra.effective_ridge([1.0, -1.0], 3), "eigenvalues"),
        (lambda: spectra.effective_ridge([1.0, np.nan], 3), "eigenvalues"),
        (lambda: spectra.effective_ridge([1.0], [0]), "n="),
        (lambda: spectra.effective_ridge([1.0], 2, -1.0), "ridge"),
        (lambda: spectra.learning_curve([1.0], [1.0, 2.0], 2), "coefficients"),
        (lambda: spectra.learning_curve([1.0], [np.inf], 2), "coefficients"),
        (lambda: spectra.learning_curve([1.0], [1.0], 2, noise=-1), "noise"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"{name}.*allowed"):
        call()
