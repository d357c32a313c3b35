"""Time the engine against the plain way and the best peer.

``make bench`` installs the peers, prints one table and writes
``results/bench.json``. The contestants of a row take turns, so that a drift
of the machine's speed meets all of them; medians are shown.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from learning_mechanics import data, ensembles, networks, training

ROOT = Path(__file__).parents[1]
REPEATS = 5
BATCH = 128


def seconds(calls: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the median time of each call, after one warm-up, in turns."""
    times = {name: [] for name in calls}
    for repeat in range(REPEATS + 1):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if repeat:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(taken) for name, taken in times.items()}


def matmul_rate() -> float:
    """Return the float32 operations a second of a large matrix product."""
    a = torch.randn(2048, 2048)
    return 2 * 2048**3 / seconds({"product": lambda: a @ a})["product"]


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


def jax_scan(count: int, width: int, steps: int, inputs, targets):
    """Return the same training as one compiled scan, or None without JAX."""
    try:
        import jax
    except ImportError:
        return None
    jnp, x, y = jax.numpy, *map(jax.numpy.asarray, (inputs, targets))
    stack = ensembles.Stack(mlps(count, width)).parameters.values()
    weights = [jnp.asarray(w.numpy()) for w in stack]

    def loss(ws, index):
        h = x[index]
        for w in ws[:-1]:
            h = jax.nn.relu(h @ w.T)
        return ((h @ ws[-1].T - y[index]) ** 2).sum() / (2 * BATCH)

    def step(ws, key):
        index = jax.random.randint(key, (BATCH,), 0, len(x))
        slope = jax.grad(loss)(ws, index)
        return [w - 0.01 * g for w, g in zip(ws, slope, strict=True)], None

    keys = jax.random.split(jax.random.key(0), (count, steps))
    run = jax.jit(jax.vmap(lambda ws, k: jax.lax.scan(step, ws, k)[0]))
    return lambda: jax.block_until_ready(run(weights, keys))


def ensemble_rows(rate: float) -> Iterator[dict]:
    """Networks times steps a second, minibatch SGD on the digits."""
    images, labels = data.digits()
    inputs, targets = images.float(), data.one_hot(labels, 10).float()

    def loop(width, steps):
        for network in mlps(8, width):
            optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
            for _ in range(steps):
                index = torch.randint(0, len(inputs), (BATCH,))
                optimizer.zero_grad()
                training.squared_error(
                    network, inputs[index], targets[index]
                ).backward()
                optimizer.step()

    def ours(count, width, steps):
        ensembles.train(
            mlps(count, width),
            inputs,
            targets,
            learning_rate=0.01,
            steps=steps,
            batch_size=BATCH,
            generators=[
                torch.Generator().manual_seed(i) for i in range(count)
            ],
            every=steps,
        )

    for width, steps in ((32, 200), (128, 50), (256, 16), (512, 6)):
        calls = {
            "plain": lambda w=width, s=steps: loop(w, s),
            "ours": lambda w=width, s=steps: ours(64, w, s),
            "one": lambda w=width, s=steps: ours(1, w, 8 * s),
        }
        peer = jax_scan(64, width, steps, inputs, targets)
        if peer:
            calls["peer"] = peer
        taken = seconds(calls)
        size = 64 * width + width**2 + 10 * width
        work = BATCH * (6 * size - 2 * 64 * width)  # operations a step
        speed = {name: 64 * steps / t for name, t in taken.items()}
        for name in ("plain", "one"):  # eight networks, or steps times eight
            speed[name] /= 8
        yield {
            "row": f"ensemble, width {width}",
            "unit": "networks x steps / s",
            "ours": speed["ours"],
            "plain": speed["plain"],
            "peer": speed.get("peer"),
            "peer_name": "JAX scan",
            "single": speed["one"],
            "limit": rate / work,
        }


def main() -> int:
    """Print the table and store it; return the exit status."""
    rate = matmul_rate()
    rows = list(ensemble_rows(rate))
    print(f"{torch.get_num_threads()} threads, {rate / 1e9:.0f} GFLOP/s")
    print(
        f"{'':24}{'ours':>9}{'plain':>9}{'peer':>9}{'limit':>9}"
        f"{'/plain':>8}{'/peer':>8}{'one/plain':>11}"
    )
    for row in rows:
        peer = row["peer"] or float("nan")
        print(
            f"{row['row']:24}{row['ours']:9.0f}{row['plain']:9.0f}"
            f"{peer:9.0f}{row['limit']:9.0f}"
            f"{row['ours'] / row['plain']:8.2f}{row['ours'] / peer:8.2f}"
            f"{row['single'] / row['plain']:11.2f}"
        )
    report = {
        "command": "make bench",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "matmul_gflops": rate / 1e9,
        "rows": rows,
    }
    target = ROOT / "results" / "bench.json"
    partial = target.with_suffix(".part")
    partial.write_text(json.dumps(report, indent=1) + "\n")
    partial.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
