import numpy as np
import pytest
import torch

from learning_mechanics import networks, training


def test_squared_error_against_numpy():
    rng = np.random.default_rng(0)
    x, y, w = (
        rng.normal(size=(7, 3)),
        rng.normal(size=(7, 2)),
        rng.normal(size=(2, 3)),
    )
    network = networks.MLP([torch.tensor(w)])
    loss = training.squared_error(network, torch.tensor(x), torch.tensor(y))
    assert loss.item() == pytest.approx(
        ((y - x @ w.T) ** 2).sum() / (2 * len(x))
    )


def test_squared_error_refuses_targets_that_would_broadcast():
    with pytest.raises(ValueError, match=r"targets has shape \(7,\)"):
        training.squared_error(lambda x: x, torch.zeros(7, 1), torch.zeros(7))


@pytest.mark.parametrize(
    "targets", [torch.zeros(2, 1).double(), torch.zeros(0, 1)]
)
def test_squared_error_refuses_other_types_and_nothing(targets):
    with pytest.raises(ValueError, match="targets .*allowed"):
        training.squared_error(torch.Tensor.float, targets, targets)


def test_train_is_gradient_descent_by_hand():
    """Two-layer linear network: the matrix equations, step by step."""
    rng = np.random.default_rng(1)
    w1, w2, s = (rng.normal(size=(3, 3)) * 0.5 for _ in range(3))
    network = networks.MLP([torch.tensor(w1), torch.tensor(w2)])
    record = training.train(
        lambda: (torch.tensor(s) - network.product()).square().sum() / 2,
        torch.optim.SGD(network.parameters(), lr=0.1),
        steps=20,
        measure={"map": network.product},
    )
    for step in range(21):
        np.testing.assert_allclose(record["map"][step], w2 @ w1, atol=1e-12)
        error = s - w2 @ w1
        assert record["loss"][step] == pytest.approx((error**2).sum() / 2)
        w1, w2 = w1 + 0.1 * w2.T @ error, w2 + 0.1 * error @ w1.T


def test_readings_are_on_time():
    w = torch.zeros(1, requires_grad=True)
    record = training.train(
        lambda: (w - 1).square().sum(),
        torch.optim.SGD([w], lr=0.1),
        steps=7,
        every=3,
        measure={"w": lambda: w},
    )
    assert record["step"].tolist() == [0, 3, 6, 7]
    assert record["w"].shape == (4, 1)
    assert record["w"][-1] == pytest.approx(w.detach().numpy())


def test_divergence_is_an_error_that_names_the_step():
    w = torch.tensor(1.0, requires_grad=True)
    with pytest.raises(FloatingPointError, match="at step"):
        training.train(lambda: w**4, torch.optim.SGD([w], lr=10.0), steps=50)


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"steps": True},
        {"every": 0},
        {"every": 2.5},
        {"measure": {"loss": lambda: 0}},
    ],
)
def test_bad_arguments_are_named(bad):
    w = torch.tensor(1.0, requires_grad=True)
    with pytest.raises(ValueError, match=next(iter(bad))):
        training.train(
            lambda: w**2, torch.optim.SGD([w], lr=0.1), **({"steps": 1} | bad)
        )
