"""The central flow against solved examples, dense algebra and descent."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.optimize import minimize, nnls

from learning_mechanics import data, networks, training
from learning_mechanics.central_flow import central_flow, covariance


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(k, seed, rank=None):
    """Return a room [k, k] and a feedback made of random gradients."""
    rng = np.random.default_rng(seed)
    room = rng.normal(size=(k, k))
    slopes = rng.normal(size=(k, k, rank or k * k))
    slopes = slopes + slopes.swapaxes(0, 1)
    return room + room.T, np.einsum("ijp,klp->ijkl", slopes, slopes)


@settings(max_examples=30, deadline=None)
@given(k=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_covariance_meets_its_three_conditions(k, seed):
    room, feedback = problem(k, seed)
    found = covariance(room, feedback)
    rest = room + np.einsum("ijkl,kl->ij", feedback, found)
    size = np.abs(room).max()
    assert np.linalg.eigvalsh(found)[0] >= 0
    assert np.linalg.eigvalsh(rest)[0] > -1e-6 * size
    assert abs((found * rest).sum()) < 1e-6 * size * max(found.max(), 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_covariance_minimizes_over_factors(seed):
    k = 3
    room, feedback = problem(k, seed)

    def objective(flat):
        x = flat.reshape(k, k) @ flat.reshape(k, k).T
        rise = np.einsum("ijkl,kl->ij", feedback, x)
        slope = 2 * (room + rise) @ flat.reshape(k, k)
        return (x * (rise / 2 + room)).sum(), slope.ravel()

    best = minimize(
        objective, np.eye(k).ravel(), jac=True, options={"gtol": 1e-10}
    ).x.reshape(k, k)
    np.testing.assert_allclose(
        covariance(room, feedback), best @ best.T, atol=1e-4
    )


@pytest.mark.parametrize("seed", range(5))
def test_covariance_without_mixing_is_non_negative_least_squares(seed):
    rng = np.random.default_rng(seed)
    k, a = 4, rng.normal(size=4)
    factor = rng.normal(size=(4, 4))
    feedback = np.zeros((k,) * 4)
    for i in range(k):
        for j in range(k):
            feedback[i, j, i, j] = 1.0
            feedback[i, i, j, j] = (factor.T @ factor)[i, j]
    expected, _ = nnls(factor, -np.linalg.solve(factor.T, a))
    np.testing.assert_allclose(
        covariance(np.diag(a), feedback), np.diag(expected), atol=1e-6
    )


def test_covariance_scales_as_it_must():
    room, feedback = problem(3, 0)
    np.testing.assert_allclose(
        covariance(1e5 * room, 1e-4 * feedback),
        1e9 * covariance(room, feedback),
        rtol=1e-6,
    )
    assert not covariance(np.eye(2), np.zeros((2,) * 4)).any()


def matrix_valley(drive, eta, below):
    """Return start and loss x'Zx/2 - tr(C Z), whose top curvature is Z."""
    k = len(drive)
    rng = np.random.default_rng(1)
    turn = np.linalg.qr(rng.normal(size=(k, k)))[0]
    c = torch.as_tensor(turn @ np.diag(drive) @ turn.T)
    x = torch.zeros(k, dtype=torch.float64, requires_grad=True)
    z = (2 / eta - below) * torch.eye(k, dtype=torch.float64)
    z.requires_grad_()

    def loss():
        even = (z + z.T) / 2
        return x @ even @ x / 2 - (c * even).sum()

    return x, z, c, loss


def test_several_directions_as_solved_by_hand():
    # dZ/dt = C - X/2 with Z below 2/eta: X = 2 C on growing directions.
    eta, drive = 0.1, [3.0, 1.0, -0.5]
    x, z, c, loss = matrix_valley(drive, eta, below=0.3)
    found = central_flow(
        loss, [x, z], eta, steps=100, every=2, generator=stream()
    )
    turned = np.linalg.eigvalsh(z.detach())
    np.testing.assert_allclose(
        turned[::-1], [20.0, 20.0, 19.7 - 0.5 * 100 * eta], atol=1e-6
    )
    np.testing.assert_allclose(found.variances[-1][:2], [6, 2], atol=1e-5)
    np.testing.assert_allclose(found.excess[-1], 8 / eta, rtol=1e-5)
    # The faster direction arrives after 0.3/3 of time, one step.
    assert found.variances[0].max() < 6
    assert found.loss[-1] == pytest.approx(-(c * z).sum().item())


def test_variance_and_loss_are_those_of_gradient_descent():
    eta, drive, steps = 0.1, [0.4, 0.1], 40_000
    x, z, c, loss = matrix_valley(drive, eta, below=0.0)
    found = central_flow(
        loss, [x, z], eta, steps=20, every=2, generator=stream()
    )
    position = np.array([0.3, 0.2])
    z, c, second, total = 20 * np.eye(2), c.numpy(), 0, 0
    for _ in range(steps):
        second = second + np.outer(position, position) / steps
        total += position @ z @ position / 2 / steps
        position, z = (
            position - eta * z @ position,
            z + eta * (c - np.outer(position, position) / 2),
        )
    np.testing.assert_allclose(
        np.linalg.eigvalsh(second)[::-1], found.variances[-1], rtol=0.05
    )
    assert total == pytest.approx(found.excess[-1], rel=0.05)


def small_data(dtype=torch.float64):
    images, labels = data.digits()
    inputs = 2 * (images - images.mean(0))[:60]
    return inputs.to(dtype), data.one_hot(labels, 10)[:60].to(dtype)


def small_network(dtype=torch.float64):
    inputs, targets = small_data(dtype)
    network = networks.MLP(
        networks.gaussian_weights([64, 6, 10], scale=0.5, generator=stream(4)),
        torch.tanh,
    ).to(dtype)
    weights = list(network.parameters())
    return weights, lambda: training.squared_error(network, inputs, targets)


def test_it_is_gradient_descent_below_the_edge():
    weights, loss = small_network()
    found = central_flow(
        loss, weights, 0.05, steps=40, every=20, generator=stream()
    )
    end = [w.detach().clone() for w in weights]
    weights, loss = small_network()
    training.train(loss, torch.optim.SGD(weights, lr=0.05), steps=40)
    for mine, theirs in zip(end, weights, strict=True):
        torch.testing.assert_close(mine, theirs.detach())
    assert [len(v) for v in found.variances] == [0, 0, 0]


def test_many_substeps_are_gradient_flow_below_the_edge():
    weights, loss = small_network()
    start = torch.nn.utils.parameters_to_vector(weights).detach().clone()

    def velocity(_, flat):
        torch.nn.utils.vector_to_parameters(torch.as_tensor(flat), weights)
        slopes = torch.autograd.grad(loss(), weights)
        return -torch.nn.utils.parameters_to_vector(slopes).numpy()

    flow = solve_ivp(velocity, (0, 2), start.numpy(), rtol=1e-8).y[:, -1]
    errors = []
    for substeps in (10, 20):
        torch.nn.utils.vector_to_parameters(start.clone(), weights)
        found = central_flow(
            loss, weights, 0.1, steps=20, every=10, substeps=substeps,
            generator=stream(),
        )  # fmt: skip
        errors.append(np.linalg.norm(found.weights[-1].numpy() - flow))
    assert errors[1] < 0.55 * errors[0] < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_network_at_the_edge_against_dense_derivatives(dtype):
    weights, loss = small_network(dtype)
    eta = 0.6
    found = central_flow(
        loss, weights, eta, steps=350, every=10, generator=stream()
    )
    assert found.weights.dtype == dtype
    late = found.step > 250
    np.testing.assert_allclose(found.sharpness[late] * eta / 2, 1, atol=0.02)
    assert (np.diff(found.loss[late]) < 0).all()
    # Sharpness and its gradient by dense algebra, at the last weights.
    inputs, targets = small_data()

    def dense(flat):
        first, second = flat[:384].view(6, 64), flat[384:].view(10, 6)
        outputs = torch.tanh(inputs @ first.T) @ second.T
        return (outputs - targets).square().sum() / 120

    def top(flat, k):
        matrix = torch.autograd.functional.hessian(dense, flat)
        return torch.linalg.eigvalsh(matrix)[-k:].flip(0)

    flat = found.weights[-1].double()
    assert found.sharpness[-1] == pytest.approx(top(flat, 1).item(), rel=3e-3)
    # The flow's direction keeps all critical curvatures from rising.
    step = found.weights[-1].double() - found.weights[-2].double()
    critical = int((found.variances[-1] > 1e-9).sum())
    assert critical >= 1
    change = top(flat, critical) - top(flat - step, critical)
    assert change.abs().max() < 0.01 * 2 / eta


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"every": 0}, "every=0"),
        ({"steps": 3}, "steps=3"),
        ({"steps": 9}, "every=4; allowed: divisors of steps=9"),
        ({"substeps": 0}, "substeps=0"),
    ],
)
def test_bad_arguments_are_named(change, message):
    x = torch.ones(2, requires_grad=True)
    given = {"learning_rate": 0.1, "steps": 8, "every": 4} | change
    with pytest.raises(ValueError, match=message):
        central_flow(
            lambda: (x**2).sum(), [x], given.pop("learning_rate"),
            **given, generator=stream(),
        )  # fmt: skip


def test_covariance_names_what_it_cannot_solve():
    with pytest.raises(ValueError, match="room has shape"):
        covariance(np.eye(2), np.zeros((2, 2)))
    with pytest.raises(ArithmeticError, match="no oscillation holds"):
        covariance(-np.eye(1), np.zeros((1,) * 4))
    one_sided = np.zeros((2,) * 4)
    one_sided[0, 0, 0, 0] = 1.0
    with pytest.raises(ArithmeticError, match="no oscillation holds"):
        covariance(-np.eye(2), one_sided)
