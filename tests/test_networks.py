import itertools

import numpy as np
import pytest
import torch

from learning_mechanics import networks, tasks


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("activation", "layer"),
    [
        (None, torch.nn.Identity),
        (torch.tanh, torch.nn.Tanh),
        (torch.relu, torch.nn.ReLU),
    ],
)
def test_mlp_equals_torch_modules(activation, layer):
    weights = networks.gaussian_weights(
        [5, 7, 6, 3], scale=1.0, generator=stream()
    )
    network = networks.MLP(weights, activation)
    layers = []
    for weight in weights:
        linear = torch.nn.Linear(*weight.T.shape, bias=False).double()
        linear.weight.data = weight
        layers += [linear, layer()]
    reference = torch.nn.Sequential(*layers[:-1])
    inputs = torch.randn(4, 5, generator=stream(1)).double()
    assert torch.allclose(network(inputs), reference(inputs))


def test_product_is_the_linear_networks_map():
    network = networks.MLP(
        networks.gaussian_weights([5, 7, 6, 3], scale=1.0, generator=stream())
    )
    assert torch.allclose(network(torch.eye(5).double()).T, network.product())


def test_weights_are_copied():
    weight = torch.ones(1, 1)
    networks.MLP([weight]).weights[0].data.zero_()
    assert weight.item() == 1.0


def test_mlp_refuses_weights_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(1, 4\)"):
        networks.MLP([torch.ones(3, 2), torch.ones(1, 4)])
    with pytest.raises(ValueError, match="weights is empty"):
        networks.MLP([])


def test_gaussian_weights_have_the_variance_of_their_fan_in():
    first, second = networks.gaussian_weights(
        [50, 400, 300], scale=0.3, generator=stream()
    )
    assert first.shape == (400, 50)
    assert first.var().item() == pytest.approx(0.09 / 50, rel=0.03)
    assert second.var().item() == pytest.approx(0.09 / 400, rel=0.03)


def test_gaussian_weights_refuse_bad_sizes():
    with pytest.raises(ValueError, match="widths"):
        networks.gaussian_weights([3], scale=1.0, generator=stream())
    with pytest.raises(ValueError, match="scale"):
        networks.gaussian_weights([3, 3], scale=0.0, generator=stream())


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_aligned_weights_are_balanced_and_aligned(depth):
    _, left, right = tasks.linear_teacher([2.0, 1.0], 6, 4, stream())
    start = torch.tensor([0.3, 0.01])
    weights = networks.aligned_weights(
        left, start, right, n_hidden=5, depth=depth, generator=stream(1)
    )
    assert len(weights) == depth
    product = networks.MLP(weights).product().detach().numpy()
    expected = left.numpy() @ np.diag(start) @ right.numpy().T
    np.testing.assert_allclose(product, expected, atol=1e-12)
    for below, above in itertools.pairwise(weights):
        np.testing.assert_allclose(
            below @ below.T, above.T @ above, atol=1e-12
        )


@pytest.mark.parametrize(
    "change",
    [
        {"depth": 0},
        {"n_hidden": 1},
        {"start": torch.tensor([0.1, 0.0])},
        {"start": torch.tensor([0.1])},
    ],
)
def test_aligned_weights_refuse_bad_input(change):
    arguments = {
        "left": torch.eye(2),
        "start": torch.tensor([0.1, 0.1]),
        "right": torch.eye(2),
        "n_hidden": 2,
        "depth": 2,
        "generator": stream(),
    } | change
    with pytest.raises(ValueError, match="allowed"):
        networks.aligned_weights(**arguments)
