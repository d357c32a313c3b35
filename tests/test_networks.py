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


def test_multipliers_and_biases_equal_a_naive_loop():
    weights = networks.gaussian_weights(
        [5, 7, 3], scale=1.0, generator=stream()
    )
    biases = [torch.randn(len(w), generator=stream(1)) for w in weights]
    biases = [b.double() for b in biases]
    multipliers = [0.5, 3.0]
    network = networks.MLP(
        weights, torch.tanh, biases=biases, multipliers=np.array(multipliers)
    )
    inputs = torch.randn(4, 5, generator=stream(2)).double()
    for x, found in zip(inputs, network(inputs), strict=True):
        for layer, (w, b, m) in enumerate(
            zip(weights, biases, multipliers, strict=True)
        ):
            x = torch.tanh(x) if layer else x
            x = torch.stack([m * (row @ x) for row in w]) + b
        torch.testing.assert_close(found, x)
    assert network.multipliers == (0.5, 3.0)


def test_parameters_are_weights_and_then_biases():
    weights, biases = [torch.ones(2, 3), torch.ones(1, 2)], [torch.zeros(2)]
    names = [n for n, _ in networks.MLP(weights).named_parameters()]
    assert names == ["weights.0", "weights.1"]
    network = networks.MLP(weights, biases=[*biases, torch.zeros(1)])
    names = [n for n, _ in network.named_parameters()]
    assert names == ["weights.0", "weights.1", "biases.0", "biases.1"]
    assert networks.MLP(weights).biases is None
    assert networks.MLP(weights).multipliers is None


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
    weights = [torch.ones(2, 3), torch.ones(1, 2)]
    with pytest.raises(ValueError, match=r"biases of shapes \[\(2,\)\]"):
        networks.MLP(weights, biases=[torch.zeros(2)])
    with pytest.raises(ValueError, match="allowed: 2 numbers, one a weight"):
        networks.MLP(weights, multipliers=[1.0])
    with pytest.raises(ValueError, match="multipliers"):
        networks.MLP(weights, multipliers=[1.0, float("nan")])


def test_product_contains_the_multipliers():
    weights = networks.gaussian_weights(
        [5, 7, 3], scale=1.0, generator=stream()
    )
    network = networks.MLP(weights, multipliers=[0.5, 3.0])
    torch.testing.assert_close(
        network(torch.eye(5).double()).T, network.product()
    )


def test_standard_mlp_has_gaussian_weights():
    network = networks.mlp(
        [5, 7, 3],
        torch.tanh,
        parametrization="standard",
        base=2,
        scale=0.3,
        generator=stream(),
    )
    expected = networks.gaussian_weights(
        [5, 7, 3], scale=0.3, generator=stream()
    )
    for found, weight in zip(network.weights, expected, strict=True):
        torch.testing.assert_close(found.data, weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": [3]}, r"widths=\[3\]; allowed: at least two"),
        ({"widths": [3, 0, 1]}, "widths=0; allowed: integers from 1"),
        ({"base": 0}, "base=0; allowed: integers from 1"),
        ({"parametrization": "sp"}, "parametrization='sp'; allowed: standard"),
        ({"scale": 0.0}, "scale"),
    ],
)
def test_mlp_refuses_bad_arguments(change, message):
    arguments = {
        "widths": [3, 4, 1],
        "activation": None,
        "parametrization": "mup",
        "base": 2,
        "generator": stream(),
    } | change
    with pytest.raises(ValueError, match=message):
        networks.mlp(arguments.pop("widths"), **arguments)


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
