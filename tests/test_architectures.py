"""Against naive loops in numpy, and the package mup."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import correlate
from torch.func import functional_call, hessian, jvp

from learning_mechanics import architectures, ensembles, parametrizations
from learning_mechanics.curvature import Hessian

PIXELS, TIMES, TOKENS, OUTPUTS = 8, 6, 7, 5


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def cnn(width=6, depth=2, seed=0, **changes):
    arguments = {
        "n_pools": 1,
        "activation": torch.tanh,
        "parametrization": "mup",
        "base": 4,
        "generator": stream(seed),
    } | changes
    return architectures.CNN(2, width, depth, OUTPUTS, **arguments)


def residual(width=6, depth=3, seed=0, **changes):
    arguments = {
        "activation": torch.tanh,
        "parametrization": "mup",
        "base": (4, 1),
        "exponent": 0.5,
        "generator": stream(seed),
    } | changes
    return architectures.ResidualMLP(
        TOKENS, width, depth, OUTPUTS, **arguments
    )


def transformer(width=8, depth=2, seed=0, **changes):
    arguments = {
        "n_heads": 2,
        "length": TIMES,
        "tokens": True,
        "activation": torch.nn.functional.gelu,
        "parametrization": "mup",
        "base": (4, 1),
        "exponent": 1.0,
        "generator": stream(seed),
    } | changes
    return architectures.Transformer(
        TOKENS, width, depth, OUTPUTS, **arguments
    )


def vectors(width=8, **changes):
    return transformer(width, tokens=False, **changes)


def inputs_of(make, n=3, seed=9001):  # shared with no network
    if make is transformer:
        return torch.randint(TOKENS, (n, TIMES), generator=stream(seed))
    shape = {
        cnn: (n, 2, PIXELS, PIXELS),
        residual: (n, TOKENS),
        vectors: (n, TIMES, TOKENS),
    }[make]
    return torch.randn(shape, generator=stream(seed)).double()


MAKERS = [cnn, residual, transformer, vectors]
everyone = pytest.mark.parametrize("make", MAKERS)
NAMES = parametrizations.NAMES


def naive_linear(module, x):
    """Sum over inputs, one output at a time."""
    w = module.weight.detach().numpy()
    return module.layer.multiplier * np.array(
        [sum(row[j] * x[j] for j in range(len(x))) for row in w]
    )


def naive_cnn(network, image):
    for i, convolution in enumerate(network.convolutions):
        kernels = convolution.weight.detach().numpy()
        image = convolution.layer.multiplier * np.array(
            [
                sum(
                    correlate(channel, kernel, mode="same")
                    for channel, kernel in zip(image, row, strict=True)
                )
                for row in kernels
            ]
        )
        image = np.tanh(image)
        if i < network.n_pools:
            image = (
                image[:, ::2, ::2]
                + image[:, 1::2, ::2]
                + image[:, ::2, 1::2]
                + image[:, 1::2, 1::2]
            ) / 4
    return naive_linear(network.readout, image.mean((1, 2)))


def naive_residual(network, x, depth=3):
    h = naive_linear(network.embedding, x)
    for block in network.blocks:
        h = h + naive_linear(block, np.tanh(h)) / math.sqrt(depth)
    return naive_linear(network.readout, np.tanh(h))


def naive_norm(h):
    return (h - h.mean()) / math.sqrt(h.var() + 1e-5)


def naive_gelu(h):
    return h * (1 + np.array([math.erf(x / math.sqrt(2)) for x in h])) / 2


def naive_transformer(network, sequence, depth=2, width=8, heads=2, base=4):
    positions = network.positions.weight.detach().numpy().T
    positions = positions * network.positions.layer.multiplier
    table = network.embedding.weight.detach().numpy().T
    rows = []
    for t, item in enumerate(sequence):
        if np.ndim(item) == 0:
            token = network.embedding.layer.multiplier * table[item]
        else:
            token = naive_linear(network.embedding, item)
        rows.append(token + positions[t])
    d = width // heads
    scale = 1 / math.sqrt(d)
    if network.layers[-1].multiplier == base / width:  # only mup
        scale = math.sqrt(base / heads) / d
    for block in network.blocks:
        normed = [naive_norm(row) for row in rows]
        attention = block.attention
        queries, keys, values = (
            [naive_linear(module, row) for row in normed]
            for module in (attention.query, attention.key, attention.value)
        )
        for t in range(len(rows)):
            mixed = np.zeros(width)
            for head in range(heads):
                part = slice(head * d, (head + 1) * d)
                logits = [
                    scale * queries[t][part] @ keys[s][part]
                    for s in range(t + 1)
                ]
                weights = np.exp(logits) / np.exp(logits).sum()
                for s in range(t + 1):
                    mixed[part] += weights[s] * values[s][part]
            rows[t] = rows[t] + naive_linear(attention.out, mixed) / depth
        for t, row in enumerate(rows):
            hidden = naive_gelu(naive_linear(block.up, naive_norm(row)))
            rows[t] = row + naive_linear(block.down, hidden) / depth
    return np.array(
        [naive_linear(network.readout, naive_norm(r)) for r in rows]
    )


@everyone
@pytest.mark.parametrize("name", NAMES)
def test_equals_naive_loops(make, name):
    naive = {cnn: naive_cnn, residual: naive_residual}.get(
        make, naive_transformer
    )
    network = make(parametrization=name)
    inputs = inputs_of(make)
    expected = [naive(network, x) for x in inputs.numpy()]
    np.testing.assert_allclose(
        network(inputs).detach(), expected, rtol=1e-9, atol=1e-12
    )


@everyone
def test_layers_are_in_the_order_of_the_parameters(make):
    network = make(width=64, base=16 if make is cnn else (16, 1))
    assert not list(network.buffers())
    parameters = list(network.parameters())
    assert len(parameters) == len(network.layers)
    for parameter, layer in zip(parameters, network.layers, strict=True):
        # Five standard errors of a standard deviation.
        error = 5 / math.sqrt(2 * parameter.numel())
        assert parameter.std().item() == pytest.approx(layer.std, rel=error)


@pytest.mark.parametrize("make", [transformer, vectors])
def test_attention_is_causal(make):
    network = make()
    inputs = inputs_of(make)
    other = (inputs + 1) % TOKENS if make is transformer else -inputs
    for t in range(1, TIMES):
        mixed = torch.cat([inputs[:, :t], other[:, t:]], 1)
        same = torch.isclose(network(inputs), network(mixed)).all(-1)
        assert same[:, :t].all()
        assert not same[:, t].any()
        # The past is all there is: shorter inputs give the same.
        torch.testing.assert_close(
            network(inputs[:, :t]), network(inputs)[:, :t]
        )


@pytest.mark.parametrize("name", NAMES)
def test_one_token_is_a_vector_with_a_single_one(name):
    network, other = transformer(parametrization=name), vectors()
    other.load_state_dict(network.state_dict())
    x = inputs_of(transformer)
    one_hot = torch.nn.functional.one_hot(x, TOKENS).double()
    embedded = network.embedding(x)
    m = network.embedding.layer.multiplier
    torch.testing.assert_close(embedded, m * other.embedding(one_hot))


# Of PyTorch's own, when forward mode is first used.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@everyone
def test_derivatives_of_functions_and_hessian_products(make):
    network, x = make(width=4), inputs_of(make, n=2)
    names = [name for name, _ in network.named_parameters()]
    shapes = [p.shape for p in network.parameters()]
    flat = torch.cat([p.detach().flatten() for p in network.parameters()])

    def loss_of(vector):
        parts = vector.split([s.numel() for s in shapes])
        parameters = {
            name: part.view(shape)
            for name, part, shape in zip(names, parts, shapes, strict=True)
        }
        return functional_call(network, parameters, (x,)).square().sum()

    vector = torch.randn(len(flat), generator=stream(9003)).double()
    vector /= vector.norm()
    product = (
        Hessian(lambda: network(x).square().sum(), network.parameters())
        @ vector
    )
    # Forward over reverse, and central differences of gradients, whose error
    # is the square of the step.
    gradient = torch.func.grad(loss_of)
    _, forward = jvp(gradient, (flat,), (vector,))
    step = 1e-5
    differences = (
        gradient(flat + step * vector) - gradient(flat - step * vector)
    ) / (2 * step)
    torch.testing.assert_close(product, forward)
    error = (product - differences).norm() / product.norm()
    assert error < 1e-6
    if len(flat) < 200:
        torch.testing.assert_close(hessian(loss_of)(flat) @ vector, product)


@everyone
def test_ensembles_train_as_a_loop_does(make):
    x = inputs_of(make, n=4)
    many, alone = ([make(seed=s) for s in range(2)] for _ in range(2))
    labels = torch.randint(
        OUTPUTS, many[0](x).shape[:-1], generator=stream(9002)
    )
    rate = 0.01
    record = ensembles.train(
        many,
        x,
        labels,
        learning_rate=rate
        * torch.stack([parametrizations.rates(n, "adam") for n in many]),
        steps=3,
        optimizer="adamw",
        loss="cross entropy",
    )
    for i, network in enumerate(alone):
        update = torch.optim.AdamW(
            parametrizations.groups(network, "adam", rate), weight_decay=0.0
        )
        for step in range(3):
            update.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                network(x).flatten(0, -2), labels.flatten()
            )
            assert record["loss"][i, step] == pytest.approx(loss.item())
            loss.backward()
            update.step()
        for mine, theirs in zip(
            many[i].parameters(), network.parameters(), strict=True
        ):
            torch.testing.assert_close(mine, theirs)


@everyone
def test_equal_shapes_of_different_networks_are_told_apart(make):
    changes = {
        cnn: [{"n_pools": 2}, {"base": 3}],
        residual: [{"exponent": 1.0}, {"base": (3, 1)}],
        transformer: [{"exponent": 0.5}, {"n_heads": 4}, {"base": (3, 1)}],
        vectors: [{"parametrization": "ntk"}],
    }[make]
    for change in changes:
        assert repr(make(**change)) != repr(make())
    assert repr(make(seed=1)) == repr(make())


# --- The package mup ------------------------------------------------------


class Their(torch.nn.Module):
    """The transformer again, from the modules of torch and mup."""

    def __init__(self, mup, width, base):
        super().__init__()

        def linear(n_in, n_out):
            return torch.nn.Linear(n_in, n_out, bias=False)

        self.width, self.base = width, base
        self.token = torch.nn.Embedding(TOKENS, width)
        self.position = torch.nn.Embedding(TIMES, width)
        self.blocks = torch.nn.ModuleList(
            torch.nn.ModuleList(
                [linear(width, width) for _ in range(4)]
                + [linear(width, 4 * width), linear(4 * width, width)]
            )
            for _ in range(2)
        )
        self.readout = mup.MuReadout(width, OUTPUTS, bias=False)

    def norm(self, h):
        return torch.nn.functional.layer_norm(h, (self.width,))

    def forward(self, tokens):
        d = self.width // 2
        h = self.token(tokens) + self.position(torch.arange(TIMES))
        for q, k, v, out, up, down in self.blocks:
            q, k, v = (
                f(self.norm(h)).view(-1, TIMES, 2, d).transpose(1, 2)
                for f in (q, k, v)
            )
            # 1/d instead of 1/sqrt(d), the same at the base.
            attended = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=math.sqrt(self.base / 2) / d
            )
            h = h + out(attended.transpose(1, 2).flatten(2))
            h = h + down(torch.nn.functional.gelu(up(self.norm(h))))
        return self.readout(self.norm(h))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("width", [16, 64])
def test_transformer_is_that_of_the_package(optimizer, width):
    mup = pytest.importorskip("mup")
    base = 16

    def build(n):
        return Their(mup, n, base).double()

    theirs = mup.set_base_shapes(build(width), build(base), delta=build(18))
    ours = transformer(width, base=(base, 2), generator=stream())
    parameters = list(theirs.parameters())
    for layer, parameter in zip(ours.layers, parameters, strict=True):
        torch.manual_seed(0)
        if layer.std == 1:  # embeddings
            mup.init.normal_(parameter)
        else:
            mup.init.kaiming_normal_(parameter, nonlinearity="linear")
        torch.manual_seed(0)
        start = torch.empty_like(parameter).normal_()
        torch.testing.assert_close(parameter.data, layer.std * start)
    with torch.no_grad():
        for mine, parameter in zip(ours.parameters(), parameters, strict=True):
            # Embeddings are transposed there.
            parameter.copy_(mine if mine.shape == parameter.shape else mine.T)
    implementation = {"sgd": mup.MuSGD, "adam": mup.MuAdam}[optimizer]
    update = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    rate = {"sgd": 0.1, "adam": 0.01}[optimizer]
    x = inputs_of(transformer)
    pairs = [
        (theirs, implementation(parameters, lr=rate)),
        (ours, update(parametrizations.groups(ours, optimizer, rate))),
    ]
    losses = np.empty((2, 10))
    for i, (network, step) in enumerate(pairs):
        for t in range(10):
            step.zero_grad()
            loss = torch.nn.functional.cross_entropy(
                network(x).flatten(0, 1), x.flatten() % OUTPUTS
            )
            loss.backward()
            step.step()
            losses[i, t] = loss.item()
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-9)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_rates_of_the_cnn_are_those_of_the_package(optimizer):
    mup = pytest.importorskip("mup")

    def build(n):
        return torch.nn.Sequential(
            torch.nn.Conv2d(2, n, 3, bias=False),
            torch.nn.Conv2d(n, n, 3, bias=False),
            mup.MuReadout(n, OUTPUTS, bias=False),
        )

    theirs = mup.set_base_shapes(build(12), build(4), delta=build(5))
    implementation = {"sgd": mup.MuSGD, "adam": mup.MuAdam}[optimizer]
    rate = {
        id(parameter): group["lr"]
        for group in implementation(theirs.parameters(), lr=1.0).param_groups
        for parameter in group["params"]
    }
    expected = [rate[id(parameter)] for parameter in theirs.parameters()]
    found = parametrizations.rates(cnn(12), optimizer)
    assert found.tolist() == pytest.approx(expected)
    for layer, parameter in zip(
        cnn(12).layers, theirs.parameters(), strict=True
    ):
        torch.manual_seed(0)
        mup.init.kaiming_normal_(parameter, nonlinearity="linear")
        torch.manual_seed(0)
        start = torch.empty_like(parameter).normal_()
        torch.testing.assert_close(parameter.data, layer.std * start)


# --- Scaling with width and depth ------------------------------------------


def updates(network, optimizer, rate):
    groups = parametrizations.groups(network, optimizer, rate)
    if optimizer == "sgd":
        return torch.optim.SGD(groups)
    return torch.optim.Adam(groups, eps=0.0)


def train(network, x, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        (network(x) - 1).square().mean().backward()
        optimizer.step()


def size(tensor):
    return tensor.detach().square().mean().item()


def assert_slope(measure, sizes, seeds, low, high=None):
    """Exponent in size: within 0.05, and four standard errors over seeds."""
    logs = np.array(
        [[measure(n, seed) for n in sizes] for seed in range(seeds)]
    ).reshape(seeds, len(sizes), -1)
    slopes = np.array([np.polyfit(np.log(sizes), one, 1)[0] for one in logs])
    margin = 0.05 + 4 * slopes.std(0, ddof=1) / math.sqrt(seeds)
    assert margin.max() < 0.5  # the exponents at stake differ by 1/2
    mean = slopes.mean(0)
    assert (mean > np.subtract(low, margin)).all()
    assert (mean < np.add(low if high is None else high, margin)).all()


def changes(network, x, optimizer, rate, steps):
    """Return the log change of every weight's output, the network's last."""
    read = []
    for module in network.modules():
        if isinstance(module, architectures.Weight):
            module.register_forward_hook(
                lambda _, __, out: read.append(out.detach())
            )
    network(x)
    before = list(read)
    train(network, x, updates(network, optimizer, rate), steps)
    read.clear()
    network(x)
    return np.log([size(b - a) for a, b in zip(before, read, strict=True)]) / 2


@pytest.mark.parametrize("make", [cnn, residual, transformer])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_coordinate_check(make, optimizer):
    """After three steps flat under mup; the standard output grows at once.

    In one small step the new readout alone moves it by n. Under Adam the last
    layer has moved along the old readout as well, which makes n^(3/2); the
    sum of both has an exponent in between.
    """
    widths = [64, 128, 256]
    # One weight at least leads from n neurons to n.
    depth, base = (2, 1) if make is cnn else (1, (1, 1))
    rate = {"sgd": 0.02, "adam": 0.01}[optimizer]
    x = inputs_of(make)

    def three_steps(width, seed):
        network = make(width, depth, seed=seed, base=base)
        return changes(network, x, optimizer, rate, 3)

    def standard(width, seed):
        network = make(width, depth, seed=seed, parametrization="standard")
        return changes(network, x, optimizer, rate / 1e4, 1)[-1]

    assert_slope(three_steps, widths, 10, 0)
    assert_slope(standard, widths, 10, 1, 1 if optimizer == "sgd" else 3 / 2)


@pytest.mark.parametrize(
    ("optimizer", "expected"), [("sgd", -1 / 2), ("adam", 0)]
)
def test_queries_start_slowly_under_sgd(optimizer, expected):
    """In mup too: the error reaches queries by a sum of n random signs.

    The gradient by an attention weight is the product of the error, sent back
    through the output matrix, with a value. At the start they are
    independent: their product is n^-1/2 times that of aligned vectors. Adam
    does not see the size of a gradient.
    """
    x = inputs_of(vectors)

    def measure(width, seed):
        network = vectors(width, depth=1, seed=seed, base=(1, 1))
        query, seen = network.blocks[0].attention.query, []
        query.register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0].detach())
        )
        old = query.weight.detach().clone()
        train(network, x, updates(network, optimizer, 0.01), 1)
        return np.log(size(seen[0] @ (query.weight - old).T)) / 2

    assert_slope(measure, [64, 128, 256], 16, expected)


@pytest.mark.parametrize("make", [residual, transformer])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_blocks_together_move_the_output_equally_at_every_depth(
    make, optimizer, exponent
):
    """One small step of the weights in branches alone, mup."""
    x = inputs_of(make)

    def measure(depth, seed):
        network = make(32, depth, seed=seed, base=(32, 1), exponent=exponent)
        rest = set(network.parameters()) - set(network.blocks.parameters())
        before = network(x)
        step = updates(network, optimizer, 1e-5)
        for group in step.param_groups:
            if group["params"][0] in rest:
                group["lr"] = 0.0
        train(network, x, step, 1)
        return np.log(size(network(x) - before)) / 2

    assert_slope(measure, [4, 8, 16, 32], 10, 0)


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_residual_stream_grows_as_derived(exponent):
    """Linear branches: E|h_l|^2 = |h_0|^2 (1 + beta^2)^l."""
    depth, ratios = 8, []
    x = inputs_of(residual, n=1)
    for seed in range(400):
        network = residual(
            16,
            depth,
            seed=seed,
            activation=torch.nn.Identity(),
            exponent=exponent,
        )
        with torch.no_grad():
            norms = [size(h) for h in network.stream(x)]
        ratios.append(np.array(norms) / norms[0])
    expected = (1 + depth ** (-2 * exponent)) ** np.arange(depth + 1)
    error = np.std(ratios, 0) / math.sqrt(len(ratios))
    assert (np.abs(np.mean(ratios, 0) - expected) <= 5 * error).all()


@pytest.mark.parametrize("make", [residual, transformer])
def test_standard_rates_do_not_depend_on_the_depth(make):
    network = make(depth=4, parametrization="standard")
    for optimizer in ("sgd", "adam"):
        found = parametrizations.rates(network, optimizer)
        assert torch.equal(found, torch.ones_like(found))


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        (cnn, {"n_pools": 3}, "n_pools=3; allowed: integers from 0 to 2"),
        (cnn, {"base": (4, 1)}, "base"),
        (cnn, {"width": 0}, "width=0; allowed: integers from 1"),
        (cnn, {"parametrization": "mu"}, "allowed: standard, ntk, mup"),
        (residual, {"exponent": 0.0}, "exponent=0.0; allowed: 0.5, 1"),
        (residual, {"base": (4, 1, 1)}, "allowed: a width and a depth"),
        (residual, {"base": 4}, "base=4; allowed: a width and a depth"),
        (residual, {"base": (4, 0)}, "base=0; allowed: integers from 1"),
        (residual, {"scale": -1.0}, "scale"),
        (transformer, {"n_heads": 3}, "n_heads=3, width=8; allowed"),
        (transformer, {"length": 0}, "length=0"),
    ],
)
def test_bad_arguments_are_refused(make, change, message):
    with pytest.raises(ValueError, match=message):
        make(**change)


def test_tokens_are_integers():
    with pytest.raises(ValueError, match="inputs are torch.float32; allowed"):
        transformer()(torch.zeros(3, TIMES))


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (cnn, (3, 2, 1, 8), "at least 2 pixels a side"),
        (cnn, (3, 8, 8), r"images of shape \[3, 8, 8\]"),
        (transformer, (3, TIMES + 1), f"t up to {TIMES}"),
        (vectors, (3, TIMES), r"\[n, t, n_in\]"),
    ],
)
def test_bad_inputs_are_refused(make, shape, message):
    with pytest.raises(ValueError, match=message):
        make()(torch.zeros(shape).long())
