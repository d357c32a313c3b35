"""Spectral theory against simulation, quadrature and closed forms."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import linregress

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


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0, 3.0])
def test_marchenko_pastur_distribution_integrates_the_density(ratio):
    low, high = spectra.marchenko_pastur_edges(ratio, 2.0)
    atom = max(0.0, 1 - 1 / ratio)
    for x in np.linspace(low, high, 7):
        # x = s^2 tames the singularity at zero of ratio 1.
        area, _ = quad(
            lambda s: (
                2 * s * spectra.marchenko_pastur_density(s**2, ratio, 2.0)
            ),
            low**0.5,
            x**0.5,
        )
        share = spectra.marchenko_pastur_distribution(x, ratio, 2.0)
        assert share == pytest.approx(atom + area, abs=1e-7)
    ends = spectra.marchenko_pastur_distribution(
        [-0.1, high, high + 1], ratio, 2.0
    )
    np.testing.assert_allclose(ends, [0, 1, 1])


@pytest.mark.parametrize(("p", "n"), [(200, 800), (600, 300)])
def test_marchenko_pastur_of_a_sample_covariance(p, n):
    x = np.random.default_rng(1).normal(size=(n, p))
    eigenvalues = np.linalg.eigvalsh(x.T @ x / n).clip(0)
    eigenvalues[eigenvalues < 1e-9] = 0
    share = spectra.marchenko_pastur_distribution(eigenvalues, p / n)
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
    top, overlap = spectra.spiked_covariance(spike, p / n)
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
    theory = spectra.spiked_matrix(spike, p / n)
    np.testing.assert_allclose(np.mean(measured, 0), theory, atol=0.06)


def test_spikes_join_the_bulk_continuously():
    for ratio in (0.3, 2.0):
        edge = spectra.marchenko_pastur_edges(ratio)[1]
        spike = 1 + ratio**0.5 * np.array([0.1, 1.0, 1 + 1e-9])
        top, overlap = spectra.spiked_covariance(spike, ratio)
        np.testing.assert_allclose(top, edge)
        np.testing.assert_allclose(overlap, 0, atol=1e-8)
        value, left, right = spectra.spiked_matrix(ratio**0.25, ratio)
        assert value**2 == pytest.approx(edge)
        assert left == pytest.approx(0, abs=1e-12)
        assert right == pytest.approx(0, abs=1e-12)


def noisy_law(m, spread, seed, curvature=0.0):
    rng = np.random.default_rng(seed)
    x = np.geomspace(1, 1000, m)
    u = np.log(x)
    v = 0.7 - 0.4 * u + curvature * (u - u.mean()) ** 2
    return x, np.exp(v + spread * rng.normal(size=m))


def test_power_law_fit_is_least_squares_in_log_log():
    x, y = noisy_law(12, 0.1, 0)
    law = spectra.power_law_fit(x[::-1], y[::-1])
    other = linregress(np.log(x), np.log(y))
    assert law.exponent == pytest.approx(-other.slope)
    assert law.prefactor == pytest.approx(np.exp(other.intercept))
    assert law.exponent_interval[0] < law.exponent < law.exponent_interval[1]
    low, high = law.prefactor_interval
    assert low < law.prefactor < high
    np.testing.assert_allclose(law([1.0, 2.0]), law.prefactor * np.array(
        [1.0, 2.0**-law.exponent]
    ))  # fmt: skip


@pytest.mark.parametrize("m", [6, 15])
def test_intervals_cover_and_p_values_are_uniform(m):
    covered, p_values = [], []
    for seed in range(300):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            law = spectra.power_law_fit(*noisy_law(m, 0.2, seed))
        (a, b), (c, d) = law.exponent_interval, law.prefactor_interval
        covered.append((a < 0.4 < b, c < np.exp(0.7) < d))
        p_values.append(law.p_value)
    # Three standard errors of 300 draws are 0.04.
    np.testing.assert_allclose(np.mean(covered, 0), 0.95, atol=0.045)
    for level in (0.05, 0.5):
        share = np.mean(np.array(p_values) < level)
        assert share == pytest.approx(level, abs=3 * (level / 300) ** 0.5)


def test_a_bad_window_is_never_silent():
    x, y = noisy_law(15, 0.02, 1, curvature=0.02)
    with pytest.warns(UserWarning, match="drifts by -0.2.*another window"):
        law = spectra.power_law_fit(x, y)
    assert law.p_value < 1e-3
    # The local exponent 0.4 - 2 c u falls by 2 c times the window's length.
    assert law.drift == pytest.approx(-0.04 * np.log(1000), rel=0.15)
    # Even an exact curve: there is no noise that could excuse it.
    with pytest.warns(UserWarning, match="not a power law"):
        spectra.power_law_fit(x, x**-0.5 + 0.01)


def test_the_window_selects():
    x = np.geomspace(1, 1e4, 20)
    y = np.where(x < 100, 2 * x**-0.5, x)
    law = spectra.power_law_fit(x, y, window=(1, 100))
    assert law.exponent == pytest.approx(0.5)
    assert law.exponent_interval == pytest.approx((0.5, 0.5))
    assert law.window[1] < 100


def test_the_fit_repeats_and_its_units_do_not_matter():
    x, y = noisy_law(10, 0.1, 5)
    law = spectra.power_law_fit(x, y)
    assert law == spectra.power_law_fit(x, y)
    other = spectra.power_law_fit(1e6 * x, 1e-9 * y)
    assert other.exponent_interval == pytest.approx(law.exponent_interval)
    assert other.p_value == pytest.approx(law.p_value)


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
        (lambda: spectra.marchenko_pastur_density(1.0, 0.0), "ratio"),
        (lambda: spectra.marchenko_pastur_edges(1.0, -1.0), "variance"),
        (lambda: spectra.spiked_covariance(-1.0, 1.0), "spike"),
        (lambda: spectra.spiked_matrix(1.0, np.nan), "ratio"),
        (lambda: spectra.power_law_fit([1, 2], [1, 2, 3]), "x of shape"),
        (lambda: spectra.power_law_fit([1, 2], [1, 2]), "2 points"),
        (lambda: spectra.power_law_fit([0, 1], [1, 1]), "x="),
        (lambda: spectra.power_law_fit([1, 2], [1, np.nan]), "y="),
        (
            lambda: spectra.power_law_fit(
                *noisy_law(9, 0.1, 0), window=(3, 1)
            ),
            "window",
        ),
        (
            lambda: spectra.power_law_fit(
                *noisy_law(9, 0.1, 0), confidence=95
            ),
            "confidence",
        ),
        (
            lambda: spectra.power_law_fit(*noisy_law(9, 0.1, 0), resamples=9),
            "resamples",
        ),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"{name}.*allowed"):
        call()
