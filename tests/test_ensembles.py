"""An ensemble is a loop over networks, only faster."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learning_mechanics import ensembles, networks

N, D, K = 30, 5, 3


def stream(seed):
    return torch.Generator().manual_seed(seed)


def problem(loss="squared error", dtype=torch.float64):
    inputs = torch.randn(N, D, generator=stream(100)).to(dtype)
    if loss == "cross entropy":
        return inputs, torch.randint(0, K, (N,), generator=stream(101))
    return inputs, torch.randn(N, K, generator=stream(101)).to(dtype)


def mlps(count, widths=(D, 7, 6, K), activation=torch.tanh, first=0):
    return [
        networks.MLP(
            networks.gaussian_weights(
                widths, scale=1.0, generator=stream(first + i)
            ),
            activation,
        )
        for i in range(count)
    ]


def loop(modules, inputs, targets, optimizer, steps, loss, orders=None):
    """Train one after another by autograd; return losses before each step."""
    losses = []
    for i, module in enumerate(modules):
        updater = optimizer(i, module.parameters())
        losses.append([])
        for step in range(steps + 1):
            index = slice(None) if orders is None else orders[i][step]
            x, y = inputs[index], targets[index]
            updater.zero_grad()
            if loss == "squared error":
                value = (module(x) - y).square().sum() / (2 * len(x))
            else:
                value = torch.nn.functional.cross_entropy(module(x), y)
            losses[-1].append(value.item())
            if step < steps:
                value.backward()
                updater.step()
    return np.array(losses)


def same_weights(left, right, **tolerance):
    for a, b in zip(left, right, strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(p, q, **tolerance)


@pytest.mark.parametrize("loss", ensembles.LOSSES)
@pytest.mark.parametrize(
    "activation",
    [None, torch.relu, torch.tanh, torch.erf, torch.nn.functional.gelu],
)
def test_full_batch_equals_the_loop(loss, activation):
    inputs, targets = problem(loss)
    one, many = mlps(4, activation=activation), mlps(4, activation=activation)
    rates = [0.1, 0.05, 0.02, 0.0]
    losses = loop(
        one,
        inputs,
        targets,
        lambda i, p: torch.optim.SGD(p, lr=rates[i]),
        20,
        loss,
    )
    record = ensembles.train(
        many, inputs, targets, learning_rate=rates, steps=20, loss=loss
    )
    np.testing.assert_allclose(record["loss"], losses, rtol=1e-10)
    same_weights(one, many, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        (
            "sgd",
            lambda r, d: (
                lambda i, p: torch.optim.SGD(p, lr=r[i], weight_decay=d[i])
            ),
        ),
        (
            "momentum",
            lambda r, d: (
                lambda i, p: torch.optim.SGD(
                    p, lr=r[i], weight_decay=d[i], momentum=0.8
                )
            ),
        ),
        (
            "adamw",
            lambda r, d: (
                lambda i, p: torch.optim.AdamW(p, lr=r[i], weight_decay=d[i])
            ),
        ),
    ],
)
def test_optimizers_are_those_of_torch(name, reference):
    inputs, targets = problem()
    one, many = mlps(3), mlps(3)
    rates, decays = [0.03, 0.01, 0.02], [0.0, 0.1, 0.5]
    losses = loop(
        one, inputs, targets, reference(rates, decays), 25, "squared error"
    )
    record = ensembles.train(
        many,
        inputs,
        targets,
        learning_rate=rates,
        weight_decay=decays,
        optimizer=name,
        momentum=0.8,
        steps=25,
    )
    np.testing.assert_allclose(record["loss"], losses, rtol=1e-9)
    same_weights(one, many, rtol=1e-8, atol=1e-11)


def test_sign_descent_moves_every_weight_by_its_rate():
    inputs, targets = problem()
    before, after = mlps(2), mlps(2)
    ensembles.train(
        after,
        inputs,
        targets,
        learning_rate=[0.01, 0.02],
        optimizer="sign",
        steps=1,
    )
    for rate, a, b in zip((0.01, 0.02), before, after, strict=True):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close((p - q).abs(), torch.full_like(p, rate))


def batches(seed, size, steps):
    """Permutation after permutation, incomplete batches dropped."""
    generator, found = stream(seed), []
    while len(found) <= steps:
        order = torch.randperm(N, generator=generator)
        found += [order[i : i + size] for i in range(0, N - size + 1, size)]
    return found


@pytest.mark.parametrize("size", [1, 8, N])
def test_minibatches_follow_each_networks_own_order(size):
    inputs, targets = problem()
    one, many = mlps(3), mlps(3)
    losses = loop(
        one,
        inputs,
        targets,
        lambda i, p: torch.optim.SGD(p, lr=0.02),
        12,
        "squared error",
        [batches(i, size, 12) for i in range(3)],
    )
    record = ensembles.train(
        many,
        inputs,
        targets,
        learning_rate=0.02,
        steps=12,
        batch_size=size,
        generators=[stream(i) for i in range(3)],
    )
    np.testing.assert_allclose(record["loss"], losses, rtol=1e-10)


class Convolution(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.filters = torch.nn.Conv1d(1, 4, 3)
        self.readout = torch.nn.Linear(4 * (D - 2), K)

    def forward(self, x):
        return self.readout(torch.relu(self.filters(x[:, None])).flatten(1))


@pytest.mark.parametrize("size", [None, 10])
@pytest.mark.parametrize("loss", ensembles.LOSSES)
def test_other_architectures_equal_the_loop(size, loss):
    inputs, targets = problem(loss)

    def modules():
        torch.manual_seed(0)
        return [Convolution().double() for _ in range(3)]

    one, many = modules(), modules()
    orders = size and [batches(i, size, 8) for i in range(3)]
    losses = loop(
        one,
        inputs,
        targets,
        lambda i, p: torch.optim.SGD(p, lr=0.05),
        8,
        loss,
        orders,
    )
    record = ensembles.train(
        many,
        inputs,
        targets,
        learning_rate=0.05,
        steps=8,
        loss=loss,
        batch_size=size,
        generators=size and [stream(i) for i in range(3)],
    )
    np.testing.assert_allclose(record["loss"], losses, rtol=1e-9)
    same_weights(one, many, rtol=1e-8, atol=1e-11)


@settings(max_examples=15)
@given(
    st.lists(st.integers(1, 6), max_size=3),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, torch.relu, torch.tanh, torch.erf]),
    st.sampled_from(ensembles.LOSSES),
)
def test_parametrizations_equal_the_loop(
    hidden, biased, scaled, activation, loss
):
    """Biases, multipliers, and a rate for each parameter."""
    inputs, targets = problem(loss)
    widths = [D, *hidden, K]
    depth = len(widths) - 1

    def modules():
        return [
            networks.MLP(
                networks.gaussian_weights(
                    widths, scale=1.0, generator=stream(i)
                ),
                activation,
                biases=[torch.ones(w).double() for w in widths[1:]]
                if biased
                else None,
                multipliers=[0.5 + 0.3 * j for j in range(depth)]
                if scaled
                else None,
            )
            for i in range(2)
        ]

    one, many = modules(), modules()
    count = len(list(one[0].parameters()))
    rates = torch.linspace(0.01, 0.09, 2 * count).double().view(2, count)
    losses = loop(
        one,
        inputs,
        targets,
        lambda i, parameters: torch.optim.SGD(
            [
                {"params": [p], "lr": rate.item()}
                for p, rate in zip(parameters, rates[i], strict=True)
            ]
        ),
        6,
        loss,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensembles._stacked, "ROWS", 13)
        patch.setattr(ensembles._stacked, "ACTIVATIONS", 1)
        record = ensembles.train(
            many, inputs, targets, learning_rate=rates, steps=6, loss=loss
        )
    np.testing.assert_allclose(record["loss"], losses, rtol=1e-9)
    same_weights(one, many, rtol=1e-8, atol=1e-11)


def tied(seed):
    (network,) = mlps(1, (D, D, D, K), first=seed)
    network.weights[1] = network.weights[0]
    return network


@pytest.mark.parametrize(
    "make",
    [
        tied,
        lambda i: mlps(1, activation=torch.nn.Softmax(-1), first=i)[0],
        lambda i: mlps(1, activation=torch.nn.PReLU().double(), first=i)[0],
    ],
)
def test_unusual_mlps_equal_the_loop(make):
    """Shared weights, activations that mix neurons or have parameters."""
    inputs, targets = problem()
    one, many = ([make(i) for i in range(2)] for _ in range(2))
    losses = loop(
        one,
        inputs,
        targets,
        lambda i, p: torch.optim.SGD(p, lr=0.05),
        8,
        "squared error",
    )
    record = ensembles.train(
        many, inputs, targets, learning_rate=0.05, steps=8
    )
    np.testing.assert_allclose(record["loss"], losses, rtol=1e-9)
    same_weights(one, many, rtol=1e-8, atol=1e-11)


class Bigram(torch.nn.Module):
    """Logits [n, t, K] of the next of K tokens."""

    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.zeros(K, K).double())

    def forward(self, tokens):
        return self.table[tokens]


def test_tokens_are_inputs():
    tokens = torch.randint(0, K, (N, 4), generator=stream(0))
    module = Bigram()
    record = ensembles.train(
        [module],
        tokens[:, :-1],
        tokens[:, 1:],
        learning_rate=1.0,
        steps=400,
        loss="cross entropy",
    )
    pairs = torch.zeros(K, K).double()
    pairs.index_put_(
        (tokens[:, :-1].flatten(), tokens[:, 1:].flatten()),
        torch.ones(()).double(),
        accumulate=True,
    )
    found = module.table.softmax(-1).detach()
    torch.testing.assert_close(
        found, pairs / pairs.sum(1, keepdim=True), rtol=1e-3, atol=1e-4
    )
    assert record["loss"][0, 0] == pytest.approx(np.log(K))


def test_shapes_are_grouped_and_results_come_in_order():
    inputs, targets = problem()
    sizes = [(D, 4, K), (D, 9, 8, K), (D, 4, K), (D, K), (D, 9, 8, K)]

    def modules():
        return [m for i, w in enumerate(sizes) for m in mlps(1, w, first=i)]

    one, many = modules(), modules()
    losses = loop(
        one,
        inputs,
        targets,
        lambda i, p: torch.optim.SGD(p, lr=0.05),
        9,
        "squared error",
    )
    record = ensembles.train(
        many,
        inputs,
        targets,
        learning_rate=0.05,
        steps=9,
        every=4,
        measure={
            "norm": lambda stack: sum(
                w.square().sum((1, 2)) for w in stack.parameters.values()
            )
        },
    )
    assert record["step"].tolist() == [0, 4, 8, 9]
    np.testing.assert_allclose(
        record["loss"], losses[:, [0, 4, 8, 9]], rtol=1e-10
    )
    norms = [sum(p.square().sum().item() for p in m.parameters()) for m in one]
    np.testing.assert_allclose(record["norm"][:, -1], norms, rtol=1e-10)


def test_many_rows_pass_in_parts(monkeypatch):
    inputs, targets = problem()
    whole, parts = mlps(2), mlps(2)
    ensembles.train(whole, inputs, targets, learning_rate=0.1, steps=5)
    monkeypatch.setattr(ensembles._stacked, "ROWS", 7)
    monkeypatch.setattr(ensembles._stacked, "ACTIVATIONS", 1)
    ensembles.train(parts, inputs, targets, learning_rate=0.1, steps=5)
    same_weights(whole, parts, rtol=1e-10, atol=1e-13)


@settings(max_examples=15)
@given(
    st.integers(0, 1000),
    st.permutations(range(5)),
    st.sampled_from([1, 2**12, 2**22]),
)
def test_neighbours_order_and_chunks_do_not_matter(seed, order, cache):
    inputs, targets = problem()
    alone = mlps(5, first=seed)
    for network in alone:
        ensembles.train([network], inputs, targets, learning_rate=0.1, steps=4)
    together = [mlps(5, first=seed)[i] for i in order]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensembles, "CACHE", cache)
        ensembles.train(together, inputs, targets, learning_rate=0.1, steps=4)
    same_weights([alone[i] for i in order], together, rtol=1e-11, atol=1e-13)


def test_divergence_stays_in_its_network():
    inputs, targets = problem()
    alone, together = mlps(1, activation=None), mlps(3, activation=None)
    ensembles.train(alone, inputs, targets, learning_rate=0.1, steps=60)
    record = ensembles.train(
        together, inputs, targets, learning_rate=[0.1, 1e6, 0.1], steps=60
    )
    assert not np.isfinite(record["loss"][1, -1])
    assert np.isfinite(record["loss"][[0, 2]]).all()
    same_weights(alone, together[:1], rtol=1e-11, atol=1e-13)


def test_a_stack_maps_shared_inputs_to_all_outputs():
    inputs, _ = problem()
    modules = mlps(3)
    outputs = ensembles.Stack(modules)(inputs)
    for output, module in zip(outputs, modules, strict=True):
        torch.testing.assert_close(output, module(inputs).detach())


def test_float32_is_kept():
    inputs, targets = problem(dtype=torch.float32)
    modules = [m.float() for m in mlps(2)]
    record = ensembles.train(
        modules, inputs, targets, learning_rate=0.1, steps=3
    )
    assert record["loss"].dtype == np.float32
    assert all(
        p.dtype == torch.float32 for m in modules for p in m.parameters()
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"networks": []}, "networks is empty"),
        ({"steps": 0}, "steps=0"),
        ({"every": 0}, "every=0"),
        ({"loss": "hinge"}, "loss='hinge'"),
        ({"optimizer": "lion"}, "optimizer='lion'.*sgd"),
        ({"momentum": 1.0}, "momentum=1.0"),
        ({"learning_rate": [0.1] * 3}, r"learning_rate has shape \(3,\)"),
        ({"learning_rate": -0.1}, "learning_rate=-0.1"),
        ({"learning_rate": np.full((2, 2), 0.1)}, r"\(2, 2\).*\[3\]"),
        ({"learning_rate": np.full((1, 3), 0.1)}, r"learning_rate has"),
        ({"weight_decay": float("nan")}, "weight_decay=nan"),
        ({"batch_size": N + 1}, f"batch_size={N + 1}"),
        ({"batch_size": 4}, "generators: 0 for 2"),
        ({"inputs": torch.zeros(0, D)}, "inputs has 0 samples"),
        ({"inputs": torch.full((N, D), torch.nan).double()}, "inputs.*NaN"),
        ({"inputs": torch.zeros(N, D)}, "float32.*float64"),
        ({"inputs": torch.zeros(N, D + 1).double()}, r"inputs has.*\(30, 6\)"),
        ({"targets": torch.zeros(N, K + 1).double()}, "targets has shape"),
        ({"targets": torch.zeros(N, K)}, "targets are torch.float32"),
        ({"loss": "cross entropy"}, "targets are torch.float64"),
        ({"measure": {"loss": len}}, "measure has"),
    ],
)
def test_bad_arguments_are_named(change, message):
    inputs, targets = problem()
    arguments = {
        "networks": mlps(2),
        "inputs": inputs,
        "targets": targets,
        "learning_rate": 0.1,
        "steps": 2,
    } | change
    with pytest.raises(ValueError, match=message):
        ensembles.train(**arguments)


@pytest.mark.parametrize("name", ["inputs", "targets"])
def test_only_tensors_are_taken(name):
    arguments = dict(zip(("inputs", "targets"), problem(), strict=True))
    arguments[name] = arguments[name].numpy()
    with pytest.raises(TypeError, match=f"{name} is ndarray; allowed: torch"):
        ensembles.train(mlps(1), **arguments, learning_rate=0.1, steps=1)


def test_frozen_parameters_are_refused():
    (network,) = mlps(1)
    network.weights[0].requires_grad_(False)
    with pytest.raises(ValueError, match="require no gradient"):
        ensembles.train([network], *problem(), learning_rate=0.1, steps=1)


def test_buffers_are_refused():
    module = (
        torch.nn.Sequential(torch.nn.Linear(D, K), torch.nn.BatchNorm1d(K))
        .double()
        .eval()
    )
    with pytest.raises(ValueError, match="running_mean"):
        ensembles.train([module], *problem(), learning_rate=0.1, steps=1)
