"""The peers of the benchmark, which need an environment of their own.

`Peers` is their process as ``bench.py`` sees it; run as a script, this file
is that process. It answers one line of JSON with another: `prepare` a
computation on the arrays of an .npz file, `run` it, `save` its result there.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np


class Peers:
    """The process that runs the peers; without its Python, all are absent."""

    def __init__(self, environment: Path):
        python = environment / "bin" / "python"
        self.folder = tempfile.TemporaryDirectory()
        self.file = str(Path(self.folder.name) / "arrays.npz")
        self.process = None
        if python.exists():
            with (environment / "log").open("w") as log:
                self.process = subprocess.Popen(
                    [python, __file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )

    def prepare(self, name: str, *arrays, **settings) -> bool:
        """Set up what `run` computes; return whether the peer is there."""
        np.savez(self.file, *arrays)
        return bool(self.process) and self._ask("prepare", name, settings)

    def run(self) -> None:
        """Compute once."""
        self._ask("run")

    def result(self) -> np.ndarray:
        """Return what the last run gave."""
        self._ask("save")
        with np.load(self.file) as file:
            return file["arr_0"]

    def _ask(self, *request) -> bool:
        print(json.dumps([self.file, *request]), file=self.process.stdin)
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the peers failed at {request}; see their log")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        if self.process:
            self.process.communicate()
        self.folder.cleanup()


def ensemble(x, y, *weights, steps, batch, rate):
    """Train stacked MLPs by one compiled JAX scan; all data if no batch."""
    import jax

    jnp = jax.numpy
    x, y, *weights = map(jnp.asarray, (x, y, *weights))

    def loss(ws, x, y):
        h = x
        for w in ws[:-1]:
            h = jax.nn.relu(h @ w.T)
        return ((h @ ws[-1].T - y) ** 2).sum() / (2 * len(x))

    def step(ws, key):
        part = (x, y)
        if batch:
            index = jax.random.randint(key, (batch,), 0, len(x))
            part = x[index], y[index]
        slope = jax.grad(loss)(ws, *part)
        return [w - rate * g for w, g in zip(ws, slope, strict=True)], None

    keys = jax.random.split(jax.random.key(0), (len(weights[0]), steps))
    run = jax.jit(jax.vmap(lambda ws, k: jax.lax.scan(step, ws, k)[0]))
    return lambda: jax.block_until_ready(run(weights, keys)[0])


def kernel(x, *, depth, activation, weight_variance, bias_variance):
    """Tangent kernel by neural-tangents, compiled."""
    import jax
    from neural_tangents import stax

    phi = {"relu": stax.Relu, "erf": stax.Erf}[activation]
    scales = {"W_std": weight_variance**0.5, "b_std": bias_variance**0.5}
    hidden = [part for _ in range(depth) for part in (
        stax.Dense(1, **scales), phi())]  # fmt: skip
    kernel = stax.serial(*hidden, stax.Dense(1, **scales))[2]
    compiled = jax.jit(lambda inputs: kernel(inputs, None, "ntk"))

    def run():
        with jax.experimental.enable_x64(x.dtype == np.float64):
            return jax.block_until_ready(compiled(jax.numpy.asarray(x)))

    return run


def empirical_kernel(x, *weights):
    """Traced tangent kernel of a ReLU MLP by neural-tangents, compiled."""
    import jax
    import neural_tangents as nt
    from jax._src import source_info_util
    from jax.interpreters import ad

    # Names that it still looks for where JAX had them once.
    ad.source_info_util, ad.config = source_info_util, jax.config
    jnp = jax.numpy
    # Of products with a transposed weight it does not see the structure.
    x, *weights = map(jnp.asarray, (x, *(w.T for w in weights)))

    def network(ws, h):
        for w in ws[:-1]:
            h = jax.nn.relu(h @ w)
        return h @ ws[-1]

    kernel = nt.empirical_ntk_fn(
        network,
        trace_axes=(-1,),
        vmap_axes=0,
        implementation=nt.NtkImplementation.STRUCTURED_DERIVATIVES,
    )
    run = jax.jit(lambda x, ws: kernel(x, None, ws) * ws[-1].shape[1])
    return lambda: jax.block_until_ready(run(x, weights))


def eigenvalues(x, y, *weights, k, tolerance):
    """Top Hessian eigenvalues by curvlinops and scipy's `eigsh`."""
    import curvlinops
    import torch
    from scipy.sparse.linalg import eigsh

    layers = [torch.nn.Linear(*w.shape[::-1], bias=False) for w in weights]
    for layer, weight in zip(layers, weights, strict=True):
        layer.weight.data = torch.from_numpy(weight)
    parts = [part for layer in layers for part in (layer, torch.nn.ReLU())]
    network = torch.nn.Sequential(*parts[:-1])
    data = [(torch.from_numpy(x), torch.from_numpy(y))]

    def run():
        hessian = curvlinops.HessianLinearOperator(
            network,
            torch.nn.MSELoss(),
            list(network.parameters()),
            data,
            check_deterministic=False,
        ).to_scipy(dtype=np.float32)
        found = eigsh(hessian, k, tol=tolerance, return_eigenvectors=False)
        # From the mean over all entries to half the sum over outputs.
        return np.sort(found)[::-1] * y.shape[1] / 2

    return run


PEERS = {
    f.__name__: f for f in (ensemble, kernel, empirical_kernel, eigenvalues)
}


def main() -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        file, verb, *request = json.loads(line)
        answer = True
        if verb == "prepare":
            name, settings = request
            with np.load(file) as arrays:
                arrays = list(arrays.values())
            try:
                run = PEERS[name](*arrays, **settings)
            except ImportError:
                answer = False
        elif verb == "run":
            result = run()
        else:
            np.savez(file, result)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
