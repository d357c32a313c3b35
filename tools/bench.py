"""Time the engine against the plain way and the best peer.

``make bench`` installs the peers, prints one table and writes
``results/bench.json``. The contestants of a row take turns, so that a drift
of the machine's speed meets all of them; medians are shown. The limit of a
row is what its dearest operation alone would take, at the rate measured here.
"""

import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import numpy as np
import torch
from joblib.externals.loky import get_reusable_executor
from scipy.sparse.linalg import LinearOperator, eigsh

from learning_mechanics import (
    curvature,
    data,
    ensembles,
    kernels,
    lanczos,
    linearization,
    networks,
    sharpness,
    sweeps,
    training,
)
from peers import Peers

ROOT = Path(__file__).parents[1]
BATCH = 128


def times(calls: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Return what each call takes, after one warm-up, in turns.

    There are five turns, or three where those take more than half a minute.
    """
    taken = {name: [] for name in calls}
    begin = time.perf_counter()
    for turn in range(6):
        if turn > 3 and time.perf_counter() - begin > 30:
            break
        for name, call in calls.items():
            time.sleep(0.3)  # the last one's threads spin before they sleep
            start = time.perf_counter()
            call()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return taken


def seconds(calls: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the median time of each call."""
    return {name: statistics.median(t) for name, t in times(calls).items()}


def fastest(call: Callable[[], None]) -> float:
    """Return the least time of a call, of which limits are made."""
    return min(times({"": call})[""])


def matmul_rate() -> float:
    """Return the float32 operations a second of a large matrix product."""
    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / fastest(lambda: a @ a)


def mlps(count: int, width: int) -> list[networks.MLP]:
    """Return `count` ReLU networks 64-width-width-10 in float32."""
    return [
        networks.MLP(
            networks.gaussian_weights(
                [64, width, width, 10],
                scale=1.0,
                generator=torch.Generator().manual_seed(i),
            ),
            torch.relu,
        ).float()
        for i in range(count)
    ]


def loop(members, steps, inputs, targets, batch):
    """Train one network after another, as one does."""
    for network in members:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        x, y = inputs, targets
        for _ in range(steps):
            if batch:
                index = torch.randint(0, len(inputs), (batch,))
                x, y = inputs[index], targets[index]
            optimizer.zero_grad()
            training.squared_error(network, x, y).backward()
            optimizer.step()


def ensemble_row(
    peers: Peers, rate: float, width: int, steps: int, batch: int | None
) -> dict:
    """Networks times steps a second, on the digits."""
    images, labels = data.digits()
    inputs, targets = images.float(), data.one_hot(labels, 10).float()
    samples = batch or len(inputs)
    many = 64 if batch else 8

    def ours(members, steps):
        ensembles.train(
            members,
            inputs,
            targets,
            learning_rate=0.01,
            steps=steps,
            batch_size=batch,
            generators=batch
            and [
                torch.Generator().manual_seed(i) for i, _ in enumerate(members)
            ],
            every=steps,
        )

    few, one, all_of_them = (mlps(count, width) for count in (8, 1, many))
    calls = {
        "plain": lambda: loop(few, steps, inputs, targets, batch),
        "single": lambda: ours(one, 8 * steps),
        "ours": lambda: ours(all_of_them, steps),
    }
    work = {"plain": 8, "single": 8, "ours": many, "peer": many}
    stack = ensembles.Stack(all_of_them).parameters.values()
    settings = {"steps": steps, "batch": batch, "rate": 0.01}
    if peers.prepare("ensemble", inputs, targets, *stack, **settings):
        calls["peer"] = peers.run
    speed = {
        name: work[name] * steps / taken
        for name, taken in seconds(calls).items()
    }
    size = 64 * width + width**2 + 10 * width
    operations = samples * (6 * size - 2 * 64 * width)  # a step
    return {
        "row": f"ensemble, width {width}, batch {samples}",
        "unit": "networks x steps / s",
        **speed,
        "width": width,
        "batch": samples,
        "operations": operations,
        "peer_name": "JAX scan",
        "limit": rate / operations,
        "limit_name": "matrix products",
        "note": f"alone {speed['single'] / speed['plain']:.2f} of the loop",
    }


def ensemble_rows(peers: Peers, rate: float) -> Iterator[dict]:
    """Minibatches at four widths, and all the digits at once."""
    for width, steps in ((32, 200), (128, 100), (256, 60), (512, 30)):
        yield ensemble_row(peers, rate, width, steps, BATCH)
    yield ensemble_row(peers, rate, 256, 20, None)


def whole_kernel(x, depth, activation, weight, bias):
    """Return the tangent kernel by the recursion on whole matrices."""
    kernel = theta = weight * x @ x.T / x.shape[1] + bias
    for _ in range(depth):
        q = kernel.diagonal()
        if activation == "erf":
            size = torch.outer(1 + 2 * q, 1 + 2 * q)
            value = 2 / math.pi * torch.asin(2 * kernel / size.sqrt())
            slope = 4 / math.pi / (size - 4 * kernel**2).sqrt()
        else:
            size = torch.outer(q, q).sqrt()
            angle = torch.acos((kernel / size).clamp(-1, 1))
            turn = math.pi - angle
            value = size * (torch.sin(angle) + turn * torch.cos(angle))
            value, slope = value / (2 * math.pi), turn / (2 * math.pi)
        kernel = weight * value + bias
        theta = kernel + weight * theta * slope
    return theta


def kernel_row(peers: Peers, activation: str, x: torch.Tensor) -> dict:
    """Seconds for the tangent kernel of a network with three hidden layers."""
    depth, weight, bias = 3, 1.7, 0.2
    settings = {
        "depth": depth,
        "activation": activation,
        "weight_variance": weight,
        "bias_variance": bias,
    }
    calls = {
        "plain": lambda: whole_kernel(x, depth, activation, weight, bias),
        "ours": lambda: kernels.ntk(x, **settings),
    }
    if peers.prepare("kernel", x, **settings):
        calls["peer"] = peers.run
    taken = seconds(calls)
    error = None
    if "peer" in calls:
        # But for the diagonal, where the peer takes the arccosine of almost
        # one and half of the digits are lost; ours has a formula of its own.
        ours, peer = kernels.ntk(x, **settings).numpy(), peers.result()
        np.fill_diagonal(peer, ours.diagonal())
        error = float(np.abs(ours - peer).max() / np.abs(peer).max())
    # What no implementation avoids: an inverse function a layer and a pair.
    tile, out = torch.rand(2, 2**17, dtype=x.dtype)  # stay in the cache
    inverse = torch.asin if activation == "erf" else torch.acos
    cached = fastest(lambda: [inverse(tile, out=out) for _ in range(100)])
    return {
        "row": f"kernel, {activation}, {str(x.dtype)[6:]}",
        "unit": "s",
        **taken,
        "peer_name": "neural-tangents",
        "limit": depth * len(x) ** 2 / 2 * cached / (100 * len(tile)),
        "limit_name": inverse.__name__,
        "disagreement": error,
        "note": "" if error is None else f"agree to {error:.0e}",
    }


def empirical_kernel_row(peers: Peers, rate: float) -> dict:
    """Seconds for the tangent kernel of a given network, traced."""
    n, d, width, c = 500, 64, 512, 10
    stream = torch.Generator().manual_seed(0)
    network = networks.MLP(
        networks.gaussian_weights(
            [d, width, width, width, c], scale=1.0, generator=stream
        ),
        torch.relu,
    ).float()
    x = torch.randn(n, d, generator=stream)
    few = 10  # the Jacobian of all would take minutes

    def jacobian():
        """One backward pass for each sample and output."""
        weights = list(network.parameters())
        rows = [
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(f, weights, retain_graph=True)
                ]
            )
            for sample in x[:few]
            for f in network(sample)
        ]
        jacobian = torch.stack(rows).view(few, -1)
        return jacobian @ jacobian.T

    calls = {
        "plain": jacobian,
        "ours": lambda: linearization.ntk(network, x),
    }
    weights = [w.detach() for w in network.parameters()]
    if peers.prepare("empirical_kernel", x, *weights):
        calls["peer"] = peers.run
    taken = seconds(calls)
    taken["plain"] *= n / few  # its passes; the product would take more
    error, note = None, f"plain from {few} inputs"
    if "peer" in calls:
        ours, peer = linearization.ntk(network, x).numpy(), peers.result()
        error = float(np.abs(ours - peer).max() / np.abs(peer).max())
        note = f"agree to {error:.0e}; {note}"
    # Two layers' products of signals, and the two passes that make them.
    work = 2 * (2 * n * n * c * width) + 2 * (2 * n * c * width**2)
    return {
        "row": f"tangent kernel of a given net, n = {n}",
        "unit": "s",
        **taken,
        "peer_name": "neural-tangents",
        "limit": work / rate,
        "limit_name": "matrix products",
        "disagreement": error,
        "note": note,
    }


def trained(width: int, x, y) -> networks.MLP:
    """Return a ReLU network after 100 steps of gradient descent."""
    (network,) = mlps(1, width)
    ensembles.train([network], x, y, learning_rate=0.02, steps=100)
    return network


def hessian(network: networks.MLP, x, y) -> curvature.Hessian:
    """Return the Hessian of the squared error."""
    return curvature.Hessian(
        lambda: training.squared_error(network, x, y), network.parameters()
    )


def plain_hessian(network: networks.MLP, x, y) -> LinearOperator:
    """Return the Hessian as one differentiates twice, anew a product."""
    weights = list(network.parameters())
    sizes = [w.numel() for w in weights]

    def product(vector):
        loss = training.squared_error(network, x, y)
        slopes = torch.autograd.grad(loss, weights, create_graph=True)
        parts = torch.from_numpy(vector.astype("f4")).split(sizes)
        along = sum(
            (g.flatten() * v).sum() for g, v in zip(slopes, parts, strict=True)
        )
        second = torch.autograd.grad(along, weights)
        return torch.cat([g.flatten() for g in second]).numpy()

    return LinearOperator((sum(sizes),) * 2, matvec=product, dtype="f4")


def curvature_row(peers: Peers, rate: float, width: int, x, y) -> dict:
    """Seconds for five eigenvalues of a Hessian, to 1e-5 of themselves."""
    k, tolerance = 5, 1e-5
    network = trained(width, x, y)

    def ours(network=network, x=x, y=y, tolerance=tolerance):
        stream = torch.Generator().manual_seed(0)
        operator = hessian(network, x, y)
        return lanczos.top_eigenpairs(
            operator, k, generator=stream, tolerance=tolerance
        )

    calls = {
        "plain": lambda: eigsh(plain_hessian(network, x, y), k, tol=tolerance),
        "ours": ours,
    }
    weights = [w.detach() for w in network.parameters()]
    if peers.prepare("eigenvalues", x, y, *weights, k=k, tolerance=tolerance):
        calls["peer"] = peers.run
    taken = seconds(calls)
    found = ours()
    network.double()
    exact = ours(x=x.double(), y=y.double(), tolerance=1e-8).values
    error = float(np.abs(found.values / exact - 1).max())
    size = sum(w.numel() for w in weights)
    # Twelve operations a weight and sample, fewer where inputs are fixed.
    work = len(x) * (12 * size - 4 * weights[0].numel())
    return {
        "row": f"five eigenvalues, {size:,} weights",
        "unit": "s",
        **taken,
        "peer_name": "curvlinops and eigsh",
        "limit": found.products * work / rate,
        "limit_name": "matrix products",
        "error": error,
        "products": found.products,
        "note": f"{found.products} products, error {error:.0e}",
    }


def sharpness_row(x, y) -> dict:
    """Products a measurement, every fifth step towards the edge."""
    (network,) = mlps(1, 128)
    streams = [torch.Generator().manual_seed(i) for i in range(3)]
    tracker = sharpness.Tracker(generator=streams[0])
    warm, cold, errors, outside = [], [], [], 0
    for _ in range(40):
        ensembles.train([network], x, y, learning_rate=0.05, steps=5)
        operator = hessian(network, x, y)
        found = tracker.measure(operator)
        anew = sharpness.Tracker(generator=streams[1]).measure(operator)
        exact = lanczos.top_eigenpairs(operator, 1, generator=streams[2])
        warm.append(found.products)
        cold.append(anew.products)
        errors.append(abs(found.value / exact.values[0] - 1))
        outside += abs(found.value - exact.values[0]) > found.bound
    return {
        "row": "sharpness to 1%, while training",
        "unit": "products",
        "ours": statistics.mean(warm),
        "plain": statistics.mean(cold),
        "limit": 2,
        "limit_name": "two values to choose from",
        "error": max(errors),
        "outside_bound": int(outside),
        "note": f"error {max(errors):.0e}, {outside} of 40 beyond the bound",
    }


def one_second(i):
    """Take a second, as a run of a sweep may."""
    time.sleep(1)
    return i


def sweep_rows() -> Iterator[dict]:
    """Seconds for tasks of one second, two for each core."""
    cores = joblib.cpu_count()
    grid = sweeps.product(i=range(2 * cores))

    def ours():
        with tempfile.TemporaryDirectory() as folder:
            sweeps.run(one_second, grid, folder=folder)

    def peer():
        tasks = (joblib.delayed(one_second)(**point) for point in grid)
        joblib.Parallel(n_jobs=-1, batch_size=1)(tasks)

    def cold(call):
        get_reusable_executor().shutdown(wait=True)
        call()

    for start, calls in {
        "warm": {"ours": ours, "peer": peer},
        "cold": {"ours": lambda: cold(ours), "peer": lambda: cold(peer)},
    }.items():
        plain = {"plain": lambda: [one_second(**point) for point in grid]}
        taken = seconds(plain | calls)
        yield {
            "row": f"sweep, {2 * cores} tasks of 1 s, {start}",
            "unit": "s",
            **taken,
            "peer_name": "joblib",
            "limit": 2,
            "limit_name": "the tasks",
            "note": f"overhead {taken['ours'] / 2 - 1:.1%}",
        }


def rows(peers: Peers, rate: float) -> Iterator[dict]:
    """Measure row after row."""
    yield from ensemble_rows(peers, rate)
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(4000, 64, generator=stream, dtype=torch.float64)
    for activation in ("erf", "relu"):
        yield kernel_row(peers, activation, inputs.float())
        yield kernel_row(peers, activation, inputs)
    yield empirical_kernel_row(peers, rate)
    images, labels = data.digits()
    x, y = images.float(), data.one_hot(labels, 10).float()
    for width in (190, 964):
        yield curvature_row(peers, rate, width, x, y)
    yield sharpness_row(x, y)
    yield from sweep_rows()


def show(row: dict) -> str:
    """Return a line of the table."""
    speed = row["unit"].endswith("/ s")
    texts = []
    for name in ("ours", "plain", "peer", "limit"):
        value = row.get(name)
        texts.append(
            "-" if value is None else f"{value:.{0 if speed else 3}f}"
        )
    for name in ("plain", "peer"):
        value = row[f"over_{name}"]
        texts.append("-" if value is None else f"{value:.2f}")
    cells = "".join(f"{text:>9}" for text in texts)
    return f"{row['row']:40}{cells}  {row['note']}"


def main() -> int:
    """Print the table and store it; return the exit status."""
    rate = matmul_rate()
    print(f"{torch.get_num_threads()} threads, {rate / 1e9:.0f} GFLOP/s")
    names = ("ours", "plain", "peer", "limit", "x plain", "x peer")
    print(" " * 40 + "".join(f"{name:>9}" for name in names))
    found = []
    peers = Peers(ROOT / "_build" / "peers")
    for row in rows(peers, rate):
        # How many times faster we are.
        sign = 1 if row["unit"].endswith("/ s") else -1
        for name in ("plain", "peer"):
            row.setdefault(name)
            row[f"over_{name}"] = (
                row[name] and (row["ours"] / row[name]) ** sign
            )
        print(show(row), flush=True)
        found.append(row)
    peers.close()
    report = {
        "command": "make bench",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "matmul_gflops": rate / 1e9,
        "rows": found,
    }
    target = ROOT / "results" / "bench.json"
    partial = target.with_suffix(".part")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
