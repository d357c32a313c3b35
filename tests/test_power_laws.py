"""Fits against scipy, and intervals and windows against simulation."""

import warnings

import numpy as np
import pytest
from scipy.stats import linregress

from learning_mechanics import power_laws


def noisy_law(m, spread, seed, curvature=0.0):
    rng = np.random.default_rng(seed)
    x = np.geomspace(1, 1000, m)
    u = np.log(x)
    v = 0.7 - 0.4 * u + curvature * (u - u.mean()) ** 2
    return x, np.exp(v + spread * rng.normal(size=m))


def test_fit_is_least_squares_in_log_log():
    x, y = noisy_law(12, 0.1, 0)
    law = power_laws.fit(x[::-1], y[::-1])
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
            law = power_laws.fit(*noisy_law(m, 0.2, seed))
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
    with pytest.warns(UserWarning, match="drifts by ≈-0.2.*another window"):
        law = power_laws.fit(x, y)
    assert law.p_value < 1e-3
    # The local exponent 0.4 - 2 c u falls by 2 c times the window's length.
    assert law.drift == pytest.approx(-0.04 * np.log(1000), rel=0.15)
    # Even an exact curve: there is no noise that could excuse it.
    with pytest.warns(UserWarning, match="not a power law"):
        power_laws.fit(x, x**-0.5 + 0.01)


def test_the_window_selects():
    x = np.geomspace(1, 1e4, 20)
    y = np.where(x < 100, 2 * x**-0.5, x)
    law = power_laws.fit(x, y, window=(1, 100))
    assert law.exponent == pytest.approx(0.5)
    assert law.exponent_interval == pytest.approx((0.5, 0.5))
    assert law.window[1] < 100


def test_the_fit_repeats_and_its_units_do_not_matter():
    x, y = noisy_law(10, 0.1, 5)
    law = power_laws.fit(x, y)
    assert law == power_laws.fit(x, y)
    other = power_laws.fit(1e6 * x, 1e-9 * y)
    assert other.exponent_interval == pytest.approx(law.exponent_interval)
    assert other.p_value == pytest.approx(law.p_value)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: power_laws.fit([1, 2], [1, 2, 3]), "x of shape"),
        (lambda: power_laws.fit([1, 2], [1, 2]), "2 points"),
        (lambda: power_laws.fit([0, 1], [1, 1]), "x="),
        (lambda: power_laws.fit([1, 2], [1, np.nan]), "y="),
        (
            lambda: power_laws.fit(*noisy_law(9, 0.1, 0), window=(3, 1)),
            "window",
        ),
        (
            lambda: power_laws.fit(*noisy_law(9, 0.1, 0), confidence=95),
            "confidence",
        ),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(ValueError, match=f"{name}.*allowed"):
        call()
