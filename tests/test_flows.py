"""The theory against independent numerics: Euler steps, maps, matrices."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from learning_mechanics import flows


def layer_shares(strength, start, depth, rate, time):
    """Gradient descent on L scalars whose product is the mode."""
    w = np.full(depth, start ** (1 / depth))
    curve = [w.prod()]
    for _ in range(round(time / rate)):
        w = w + rate * (strength - w.prod()) * w.prod() / w
        curve.append(w.prod())
    return np.array(curve)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_mode_strength_is_the_limit_of_descent_on_layers(depth):
    rate, time = 1e-4, 3.0
    curve = layer_shares(2.0, 0.05, depth, rate, time)
    t = rate * np.arange(len(curve))
    theory = flows.mode_strength(t, 2.0, 0.05, depth)
    np.testing.assert_allclose(theory, curve, atol=2e-3)


@pytest.mark.parametrize("depth", [1, 2, 3, 20, 1000])
def test_the_mode_fills_up_however_long_the_wait(depth):
    early, late = flows.mode_strength([0.0, 1e9], 3.0, 1e-8, depth)
    assert early == pytest.approx(1e-8)
    assert late == 3.0


@pytest.mark.parametrize(
    ("time", "strength", "start"), [(1.0, 1e200, 1e-3), (1e300, 1e100, 1.0)]
)
def test_what_doubles_cannot_hold_is_an_error(time, strength, start):
    with pytest.raises(FloatingPointError):
        flows.mode_strength([0.0, time], strength, start, 3)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("start", [1e-6, 1e-2])
def test_half_rise_time_is_where_the_curve_is_half(depth, start):
    t = flows.half_rise_time(1.5, start, depth)
    curve = flows.mode_strength([0.0, t], 1.5, start, depth)
    assert curve[-1] == pytest.approx(0.75, rel=1e-6)


@pytest.mark.parametrize("depth", [3, 4, 6])
def test_half_rise_time_of_deep_networks_is_a_power_of_the_start(depth):
    start = 1e-12
    asymptote = start ** -(1 - 2 / depth) / ((depth - 2) * 2.0)
    assert flows.half_rise_time(2.0, start, depth) == pytest.approx(
        asymptote, rel=0.02
    )


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_delay_is_that_of_the_descent_map(depth, strength):
    errors = []
    for rate in (0.02, 0.01):
        curve = layer_shares(strength, 1e-3, depth, rate, 60.0 / strength)
        after = np.argmax(curve >= strength / 2)
        part = (strength / 2 - curve[after - 1]) / (
            curve[after] - curve[after - 1]
        )
        measured = rate * (after - 1 + part)
        measured -= flows.half_rise_time(strength, 1e-3, depth)
        delay = flows.half_rise_delay(strength, 1e-3, rate, depth)
        errors.append(abs(measured - delay))
        assert measured == pytest.approx(delay, rel=0.1)
    # What is neglected is of second order in the step.
    assert errors[1] < 0.4 * errors[0]


def test_coupled_modes_against_integrated_riccati_equation():
    rng = np.random.default_rng(0)
    a = np.array([2.0, 1.5, 0.7])
    m = rng.normal(size=(5, 3)) * 0.05
    gram = m.T @ m
    t = np.linspace(0, 6, 13)

    def velocity(_, flat):
        k = flat.reshape(3, 3)
        return (np.diag(a) @ k + k @ np.diag(a) - 2 * k @ k).ravel()

    reference = solve_ivp(
        velocity, (0, 6), gram.ravel(), t_eval=t, rtol=1e-10, atol=1e-14
    ).y.T.reshape(-1, 3, 3)
    np.testing.assert_allclose(
        flows.coupled_mode_strengths(t, a, gram),
        np.diagonal(reference, axis1=1, axis2=2),
        rtol=1e-6,
    )


def test_coupled_modes_without_overlap_are_logistic():
    t = np.linspace(0, 5, 11)
    together = flows.coupled_mode_strengths(
        t, [2.0, 1.0], np.diag([0.01, 0.03])
    )
    np.testing.assert_allclose(
        together,
        np.stack(
            [
                flows.mode_strength(t, 2.0, 0.01),
                flows.mode_strength(t, 1.0, 0.03),
            ],
            1,
        ),
    )


def test_linear_flow_conserves_and_drifts():
    rng = np.random.default_rng(2)
    w1, w2 = rng.normal(size=(4, 3)) * 0.4, rng.normal(size=(2, 4)) * 0.4
    target = rng.normal(size=(2, 3))
    t = np.linspace(0, 3, 7)
    first, second, drift = flows.linear_flow([w1, w2], target, t)
    balance = np.swapaxes(second, 1, 2) @ second - first @ np.swapaxes(
        first, 1, 2
    )
    np.testing.assert_allclose(
        balance, np.broadcast_to(balance[0], balance.shape), atol=1e-7
    )
    # The drift by explicit descent with a tiny step, extrapolated.
    rate, a, b = 1e-4, w1.copy(), w2.copy()
    for _ in range(round(3 / rate)):
        e = target - b @ a
        a, b = a + rate * b.T @ e, b + rate * e @ a.T
    broken = (b.T @ b - a @ a.T - balance[0]) / rate
    np.testing.assert_allclose(drift[-1], broken, atol=2e-3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: flows.mode_strength([0.0], -1.0, 0.1),
        lambda: flows.mode_strength([0.0], 1.0, 0.0),
        lambda: flows.mode_strength([0.0], 1.0, 2.0),
        lambda: flows.mode_strength([0.0], 1.0, 0.1, 0),
        lambda: flows.mode_strength([0.0], 1.0, 0.1, 2.5),
        lambda: flows.mode_strength([0.0], [1.0], 0.1),
        lambda: flows.half_rise_time(1.0, 0.6),
        lambda: flows.half_rise_delay(1.0, 0.6, 0.1),
        lambda: flows.half_rise_delay(1.0, 0.1, 0.0),
        lambda: flows.coupled_mode_strengths([0.0], [1.0], np.eye(2)),
        lambda: flows.coupled_mode_strengths([0.0], 1.0, [[1.0]]),
        lambda: flows.coupled_mode_strengths([0.0], [1.0], [[np.nan]]),
        lambda: flows.coupled_mode_strengths(
            [0.0], [1.0, 1.0], [[1e-9, 5e-10], [0.0, 1e-9]]
        ),
        lambda: flows.coupled_mode_strengths(
            [0.0], [1.0, 1.0], np.ones((2, 2))
        ),
        lambda: flows.linear_flow(
            [np.eye(2), np.eye(3)], np.eye(2), [0.0, 1.0]
        ),
        lambda: flows.linear_flow([np.eye(2)], np.eye(2), [0.0, 1.0]),
        lambda: flows.linear_flow([[1.0], [1.0]], [[1.0]], [0.0, 1.0]),
        lambda: flows.linear_flow([[[1.0]], [[1.0]]], [[np.inf]], [0.0, 1.0]),
        lambda: flows.linear_flow([[[1.0]], [[1.0]]], [[1.0]], [0.0]),
    ],
)
def test_bad_arguments_are_named(call):
    with pytest.raises(ValueError, match="allowed"):
        call()


@pytest.mark.parametrize(
    "time", [[], 1.0, [[0.0, 1.0]], [1.0, 0.0], [-1.0], [np.nan], [np.inf]]
)
def test_times_are_finite_and_increase(time):
    for flow in (
        lambda: flows.mode_strength(time, 1.0, 0.1),
        lambda: flows.mode_strength(time, 1.0, 0.1, 3),
        lambda: flows.coupled_mode_strengths(time, [1.0], [[0.1]]),
        lambda: flows.linear_flow([[[1.0]], [[1.0]]], [[1.0]], time),
    ):
        with pytest.raises(ValueError, match="time=.*allowed"):
            flow()
