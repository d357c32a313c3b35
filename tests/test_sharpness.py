"""Sharpness against dense Hessians, while networks are trained."""

import numpy as np
import pytest
import torch

from learning_mechanics import curvature, data, networks, sharpness, training


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def dense(weights, inputs, targets):
    """Return the Hessian of a two-layer tanh network, in plain code."""

    def loss(flat):
        first, second = (
            part.view_as(w)
            for part, w in zip(
                flat.split([w.numel() for w in weights]), weights, strict=True
            )
        )
        outputs = torch.tanh(inputs @ first.T) @ second.T
        return (outputs - targets).square().sum() / (2 * len(inputs))

    flat = torch.cat([w.detach().reshape(-1) for w in weights])
    return torch.autograd.functional.hessian(loss, flat, vectorize=True)


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
    tracker = sharpness.Tracker(generator=stream(1))
    products = []
    for step in range(100):
        optimizer.zero_grad()
        training.squared_error(network, inputs, targets).backward()
        optimizer.step()
        if step % 5:
            continue
        operator = curvature.Hessian(
            lambda: training.squared_error(network, inputs, targets), weights
        )
        matrix = dense(weights, inputs, targets).numpy()
        if adam:
            moment = torch.cat(
                [optimizer.state[w]["exp_avg_sq"].reshape(-1) for w in weights]
            )
            diagonal = (moment / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            operator = curvature.Preconditioned(operator, diagonal)
            matrix /= np.sqrt(np.outer(diagonal, diagonal))
        found = tracker.measure(operator)
        largest = np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1]
        assert found.value == pytest.approx(largest, rel=0.01)
        assert abs(found.value - largest) <= found.bound
        assert found.bound <= 0.01 * found.value
        products.append(found.products)
    assert np.mean(products) <= 4


def test_sharpness_sees_another_eigenvalue_overtake():
    tracker = sharpness.Tracker(generator=stream())
    for first in np.linspace(1.5, 0.5, 21):
        matrix = torch.diag(torch.tensor([first, 1.0, *[0.1] * 50]))
        found = tracker.measure(matrix)
        if abs(first - 1) > 0.06:
            assert found.value == pytest.approx(max(first, 1), rel=0.02)


def test_sharpness_refuses_another_size():
    tracker = sharpness.Tracker(generator=stream())
    tracker.measure(torch.eye(3))
    with pytest.raises(ValueError, match="the last eigenvector"):
        tracker.measure(torch.eye(4))


def test_a_wrong_tolerance_is_named():
    with pytest.raises(ValueError, match="tolerance=-1.0"):
        sharpness.Tracker(generator=stream(), tolerance=-1.0)


def test_what_does_not_converge_is_an_error():
    tracker = sharpness.Tracker(generator=stream(), tolerance=1e-17)
    matrix = torch.diag(torch.linspace(-1, 1, 150))
    with pytest.raises(ArithmeticError, match="100 products leave the bound"):
        tracker.measure(matrix)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("value", [0.0, -2.0, 3.0])
def test_the_smallest_matrices(size, value):
    tracker = sharpness.Tracker(generator=stream())
    for _ in range(3):
        found = tracker.measure(value * torch.eye(size))
        assert found.value == pytest.approx(value)
        assert found.products <= 2
