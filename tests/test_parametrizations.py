"""Against the package mup, the spectral condition, and derived slopes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learning_mechanics import ensembles, kernels, networks, parametrizations

N_IN, N_OUT = 5, 3
UPDATES = {
    "sgd": torch.optim.SGD,
    # Without epsilon, which no rescaling of the weights leaves alone.
    "adam": lambda groups: torch.optim.Adam(groups, eps=0.0),
}


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(name, width, *, base=16, depth=2, seed=0, **keywords):
    return networks.mlp(
        [N_IN, *[width] * depth, N_OUT],
        torch.tanh,
        parametrization=name,
        base=base,
        generator=stream(seed),
        **keywords,
    )


def data(n=8):  # from streams that no network shares
    x = torch.randn(n, N_IN, generator=stream(9001)).double()
    y = torch.randn(n, N_OUT, generator=stream(9002)).double()
    return x, y


def losses(network, optimizer, steps):
    x, y = data()
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (network(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return np.array(found)


def mup_mlp(mup, width, base, depth=2):
    """Build the network with the package: base shapes, start, readout."""

    def build(n):
        layers = [torch.nn.Linear(N_IN, n, bias=False), torch.nn.Tanh()]
        for _ in range(depth - 1):
            layers += [torch.nn.Linear(n, n, bias=False), torch.nn.Tanh()]
        readout = mup.MuReadout(n, N_OUT, bias=False)
        return torch.nn.Sequential(*layers, readout).double()

    return mup.set_base_shapes(
        build(width), build(base), delta=build(base + 1)
    )


@pytest.mark.parametrize("width", [8, 16, 64])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_mup_is_that_of_the_package(width, optimizer):
    mup = pytest.importorskip("mup")
    theirs, ours = mup_mlp(mup, width, 16), draw("mup", width)
    for layer, parameter in zip(ours.layers, theirs.parameters(), strict=True):
        torch.manual_seed(0)
        mup.init.kaiming_normal_(parameter, nonlinearity="linear")
        torch.manual_seed(0)
        start = torch.empty_like(parameter).normal_()
        torch.testing.assert_close(parameter.data, layer.std * start)
    readout = theirs[-1]
    assert ours.layers[-1].multiplier == 1 / readout.width_mult()
    implementation = {"sgd": mup.MuSGD, "adam": mup.MuAdam}[optimizer]
    rate = {
        id(parameter): group["lr"]
        for group in implementation(theirs.parameters(), lr=0.1).param_groups
        for parameter in group["params"]
    }
    expected = [rate[id(parameter)] for parameter in theirs.parameters()]
    groups = parametrizations.groups(ours, optimizer, 0.1)
    assert [group["lr"] for group in groups] == pytest.approx(expected)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_mup_trains_as_with_the_package(optimizer):
    mup = pytest.importorskip("mup")
    theirs, ours = mup_mlp(mup, 64, 16), draw("mup", 64)
    with torch.no_grad():
        for mine, parameter in zip(
            ours.parameters(), theirs.parameters(), strict=True
        ):
            parameter.copy_(mine)
    implementation = {"sgd": mup.MuSGD, "adam": mup.MuAdam}[optimizer]
    update = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    rate = {"sgd": 0.1, "adam": 0.01}[optimizer]
    expected = losses(theirs, implementation(theirs.parameters(), lr=rate), 20)
    groups = parametrizations.groups(ours, optimizer, rate)
    np.testing.assert_allclose(losses(ours, update(groups), 20), expected)


@given(
    fans=st.tuples(*[st.integers(1, 4096)] * 2),
    base=st.tuples(*[st.integers(1, 4096)] * 2),
    scale=st.floats(0.1, 10),
    readout=st.booleans(),
)
def test_rates_follow_from_the_spectral_condition(fans, base, scale, readout):
    """Derive them again: |m dW| ~ sqrt(n_out / n_in) in spectral norm.

    Gradients by the effective weight mW have rank one and norm
    sqrt(n_in / n_out): a change of the outputs by sqrt(n_out) changes the
    loss by 1, and inputs have norm sqrt(n_in). Adam makes every entry 1,
    norm sqrt(n_in n_out). A rate for W acts on mW as m^2 (SGD) or m (Adam).
    """

    def condition(n_in, n_out):
        return math.sqrt(n_out / n_in)

    def sgd(n_in, n_out):
        return condition(n_in, n_out) / math.sqrt(n_in / n_out)

    def adam(n_in, n_out):
        return condition(n_in, n_out) / math.sqrt(n_in * n_out)

    layer = parametrizations.layer(
        "mup", fans, base, readout=readout, scale=scale
    )
    m = layer.multiplier
    assert m**2 * layer.sgd == pytest.approx(sgd(*fans) / sgd(*base))
    assert m * layer.adam == pytest.approx(adam(*fans) / adam(*base))


@given(
    fans=st.tuples(*[st.integers(1, 4096)] * 2),
    scale=st.floats(0.1, 10),
    readout=st.booleans(),
)
def test_at_the_base_all_are_standard_up_to_the_symmetry(fans, scale, readout):
    for name in parametrizations.NAMES:
        m, std, sgd, adam = parametrizations.layer(
            name, fans, fans, readout=readout, scale=scale
        )
        assert (m * std, m**2 * sgd, m * adam) == pytest.approx(
            (scale / math.sqrt(fans[0]), 1, 1)
        )


@pytest.mark.parametrize("name", ["ntk", "mup"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_at_the_base_all_train_alike(name, optimizer):
    standard, other = draw("standard", 16), draw(name, 16)
    expected, found = (
        losses(n, UPDATES[optimizer](groups), 10)
        for n in (standard, other)
        for groups in [parametrizations.groups(n, optimizer, 0.01)]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_ntk_starts_as_standard_at_every_width():
    x, _ = data()
    torch.testing.assert_close(
        draw("ntk", 40, scale=1.4)(x), draw("standard", 40, scale=1.4)(x)
    )


def assert_slope(measure, sizes, seeds, expected):
    """Exponent in size: within 0.05, and four standard errors over seeds."""
    logs = np.array(
        [[measure(n, seed) for n in sizes] for seed in range(seeds)]
    ).reshape(seeds, len(sizes), -1)
    slopes = np.array([np.polyfit(np.log(sizes), one, 1)[0] for one in logs])
    margin = 0.05 + 4 * slopes.std(0, ddof=1) / math.sqrt(seeds)
    assert margin.max() < 0.5  # the exponents at stake differ by 1/2
    assert (np.abs(slopes.mean(0) - expected) < margin).all()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_mup_fulfils_the_spectral_condition(optimizer):
    """|m W| and |m dW| are sqrt(n_out / n_in), the start and a first step."""

    def measure(width, seed):
        network = draw("mup", width, seed=seed, base=1)
        before = [w.detach().clone() for w in network.weights]
        groups = parametrizations.groups(network, optimizer, 1e-4)
        losses(network, UPDATES[optimizer](groups), 1)
        norms = [
            m
            * torch.linalg.matrix_norm(matrix, 2).item()
            / math.sqrt(w.shape[0] / w.shape[1])
            for m, w, old in zip(
                network.multipliers, network.weights, before, strict=True
            )
            for matrix in (old, w.detach() - old)
        ]
        return np.log(norms)

    assert_slope(measure, [64, 128, 256, 512], 6, 0)


def signals(network, x):
    """Return what enters every weight, and what leaves the last."""
    found = [x]
    for m, w in zip(network.multipliers, network.weights, strict=True):
        found.append(m * found[-1] @ w.detach().T)
        if w is not network.weights[-1]:
            found[-1] = found[-1].tanh()
    return found


def log_size(tensor):
    return math.log(tensor.square().mean().item()) / 2


# What the new part of a weight sends on, exponents of n. SGD: the error at h2
# is n^-1/2, as the readout is; times |h1|^2 ~ n it moves h2, and, sent back,
# times |x|^2 ~ 1 it moves h1; times |h2|^2 ~ n the readout moves f. NTK
# divides the last two by n; mup multiplies the error by n^-1/2 and the first
# by n, and divides the last by n. Adam: one rate for every weight moves a
# neuron with n inputs by n; NTK divides that by n^1/2, mup by n.
SLOPES = {
    ("standard", "sgd"): (-1 / 2, 1 / 2, 1),
    ("ntk", "sgd"): (-1 / 2, -1 / 2, 0),
    ("mup", "sgd"): (0, 0, 0),
    ("standard", "adam"): (0, 1, 1),
    ("ntk", "adam"): (0, 1 / 2, 1 / 2),
    ("mup", "adam"): (0, 0, 0),
}


@pytest.mark.parametrize(("name", "optimizer"), SLOPES)
def test_first_step_of_every_weight(name, optimizer):
    x, _ = data()

    def measure(width, seed):
        network = draw(name, width, seed=seed, base=1)
        before = [w.detach().clone() for w in network.weights]
        entering = signals(network, x)
        groups = parametrizations.groups(network, optimizer, 1e-4)
        losses(network, UPDATES[optimizer](groups), 1)
        return [
            log_size(m * h @ (w.detach() - old).T)
            for m, h, w, old in zip(
                network.multipliers,
                entering[:-1],
                network.weights,
                before,
                strict=True,
            )
        ]

    assert_slope(measure, [64, 128, 256, 512], 12, SLOPES[name, optimizer])


@pytest.mark.parametrize(
    ("name", "optimizer", "expected"),
    [
        ("mup", "sgd", (0, 0, 0)),
        ("mup", "adam", (0, 0, 0)),
        ("ntk", "sgd", (-1 / 2, -1 / 2, 0)),  # lazy, and yet it learns
    ],
)
def test_coordinate_check_of_ten_steps(name, optimizer, expected):
    """Large steps: features keep their change under mup, not under ntk."""
    x, _ = data()

    def measure(width, seed):
        network = draw(name, width, seed=seed, base=1)
        before = signals(network, x)
        groups = parametrizations.groups(network, optimizer, 0.1)
        losses(network, UPDATES[optimizer](groups), 10)
        return [
            log_size(new - old)
            for new, old in zip(signals(network, x), before, strict=True)
            if new is not x
        ]

    assert_slope(measure, [64, 128, 256, 512], 8, expected)


def test_two_layer_mup_is_mean_field():
    """Particles (w, a) under a mean-field flow, by hand in numpy."""
    n, rate = 12, 0.1
    network = draw("mup", n, base=1, depth=1)
    w, a = (p.detach().numpy().copy() for p in network.weights)
    assert network.layers[1].std == 1
    x, y = (t.numpy() for t in data())
    groups = parametrizations.groups(network, "sgd", rate)
    found = losses(network, torch.optim.SGD(groups), 20)
    for loss in found:
        phi = np.tanh(x @ w.T)  # [samples, n]
        error = np.mean(phi[:, None] * a, axis=2) - y
        assert loss == pytest.approx(np.mean(error**2))
        pull = 2 * error / error.size  # dL/df
        force_a = pull.T @ phi  # n dL/da, and below n dL/dw: no n in them
        force_w = ((pull @ a) * (1 - phi**2)).T @ x
        a, w = a - rate * force_a, w - rate * force_w


@pytest.mark.parametrize("name", parametrizations.NAMES)
def test_only_mup_depends_on_the_measure_of_particles_alone(name):
    """Every neuron twice is the same measure, so the same training."""
    small, large = (draw(name, n, base=4, depth=1) for n in (8, 16))
    first, second = small.weights
    share = small.layers[1].multiplier / large.layers[1].multiplier / 2
    with torch.no_grad():  # the same function at the start
        large.weights[0].copy_(first.repeat(2, 1))
        large.weights[1].copy_(share * second.repeat(1, 2))
    expected, found = (
        losses(n, torch.optim.SGD(parametrizations.groups(n, "sgd", 0.05)), 20)
        for n in (small, large)
    )
    assert found[0] == pytest.approx(expected[0])
    assert np.allclose(found, expected, rtol=1e-9) == (name == "mup")


def test_ntk_with_one_rate_has_the_kernel_of_infinite_width():
    x, _ = data(4)
    expected = kernels.ntk(x, depth=2, activation="relu", weight_variance=2.0)
    found = []
    for seed in range(100):
        network = networks.mlp(
            [N_IN, 256, 256, 1],
            torch.relu,
            parametrization="ntk",
            base=1,
            scale=math.sqrt(2),
            generator=stream(seed),
        )
        rows = []
        for output in network(x):
            network.zero_grad()
            output.backward(retain_graph=True)
            rows.append(
                torch.cat([p.grad.flatten() for p in network.parameters()])
            )
        rows = torch.stack(rows)
        found.append(rows @ rows.T)
    found = torch.stack(found)
    error = found.std(0) / math.sqrt(len(found))  # 2% of the diagonal
    assert ((found.mean(0) - expected).abs() < 5 * error).all()


@pytest.mark.parametrize(
    ("optimizer", "kind"), [("momentum", "sgd"), ("adamw", "adam")]
)
def test_ensembles_take_the_rates(optimizer, kind):
    x, y = data()
    rate = {"sgd": 0.05, "adam": 0.01}[kind]
    many = [draw("mup", n, seed=n) for n in (8, 32, 64)]
    alone = [draw("mup", n, seed=n) for n in (8, 32, 64)]
    ensembles.train(
        many,
        x,
        y,
        learning_rate=rate
        * torch.stack([parametrizations.rates(n, kind) for n in many]),
        steps=10,
        optimizer=optimizer,
    )
    for found, network in zip(many, alone, strict=True):
        groups = parametrizations.groups(network, kind, rate)
        update = (
            torch.optim.SGD(groups, momentum=0.9)
            if kind == "sgd"
            else torch.optim.AdamW(groups, weight_decay=0.0)
        )
        for _ in range(10):
            update.zero_grad()
            ((network(x) - y).square().sum() / (2 * len(x))).backward()
            update.step()
        for mine, theirs in zip(
            found.parameters(), network.parameters(), strict=True
        ):
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "mu"}, "parametrization='mu'; allowed: standard, ntk, mup"),
        ({"fans": (0, 1)}, r"fans=\[0.0, 1.0\]; allowed: positive"),
        ({"base": (1, math.inf)}, "base"),
        ({"fans": (2,)}, r"fans=\(2,\); allowed: a fan-in and a fan-out"),
        ({"base": 64}, "base=64; allowed: a fan-in and a fan-out"),
        ({"scale": -1.0}, "scale"),
    ],
)
def test_layer_refuses_bad_input(change, message):
    arguments = {"name": "mup", "fans": (2, 3), "base": (1, 1)} | change
    with pytest.raises(ValueError, match=message):
        parametrizations.layer(**arguments)


def test_rates_refuse_bad_input():
    with pytest.raises(ValueError, match="optimizer='adamw'; allowed: sgd"):
        parametrizations.rates(draw("mup", 8), "adamw")
    bare = networks.MLP([torch.ones(1, 1)])
    with pytest.raises(ValueError, match="MLP without layers"):
        parametrizations.rates(bare, "sgd")
    with pytest.raises(ValueError, match="learning_rate"):
        parametrizations.groups(draw("mup", 8), "sgd", 0.0)
