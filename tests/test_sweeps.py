"""Sweeps that finish, are killed, resumed, or given the wrong thing."""

import enum
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from learning_mechanics import _stored, sweeps

FACTOR = 2.0


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setenv("CI", "true")


def train(seed, width=3):
    """A run with every kind of result."""
    stream = torch.Generator().manual_seed(seed)
    weights = torch.randn(width, 4, generator=stream)
    return {
        "product": weights @ weights.T,
        "loss": [weights.square().mean().item(), float("inf"), None],
        "threads": torch.get_num_threads(),
        "mixed": ("text", True, np.float32(0.5), np.arange(seed + 1)),
        "shift": os.environ.get("LEARNING_MECHANICS_SEED"),
    }


def same(a, b):
    np.testing.assert_equal(a, b)
    np.testing.assert_equal(str(a), str(b))  # types too


GRID = sweeps.product(seed=[3, 0, 1, 2], width=[2, 5])


def test_product_is_in_the_order_of_loops():
    loops = [{"a": a, "b": b} for a in (1, 2) for b in "xyz"]
    assert sweeps.product(a=[1, 2], b="xyz") == loops


def test_results_are_those_of_a_loop_for_every_backend(monkeypatch, tmp_path):
    monkeypatch.setenv("LEARNING_MECHANICS_SEED", "7")
    loop = sweeps.run(train, GRID, backend="sequential")
    for point, result in zip(GRID, loop, strict=True):
        direct = train(**point)
        np.testing.assert_array_equal(result["product"], direct["product"])
        assert result["loss"] == direct["loss"]
        assert result["mixed"][:3] == ["text", True, 0.5]
        assert result["threads"] == 1
        assert result["shift"] == "7"
    same(sweeps.run(train, GRID, n_jobs=2), loop)
    same(sweeps.run(train, GRID[::-1], n_jobs=2)[::-1], loop)
    # Once computed and stored, once only read.
    same(sweeps.run(train, GRID, folder=tmp_path, n_jobs=2), loop)
    monkeypatch.setattr(sweeps, "_call", None)
    same(sweeps.run(train, GRID, folder=tmp_path), loop)


def test_dask_is_one_option():
    distributed = pytest.importorskip("distributed")
    loop = sweeps.run(train, GRID, backend="sequential")
    with distributed.Client(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ):
        same(sweeps.run(train, GRID, backend="dask"), loop)


def test_a_sweep_leaves_threads_and_variables_alone(monkeypatch):
    monkeypatch.delenv("LEARNING_MECHANICS_SEED", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        sweeps.run(train, GRID[:1], backend="sequential")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert "LEARNING_MECHANICS_SEED" not in os.environ


def test_progress_is_shown(monkeypatch, capsys):
    monkeypatch.delenv("CI")
    sweeps.run(train, GRID, backend="sequential")
    assert "train" in capsys.readouterr().err


def counted(x, log):
    with open(log, "a") as file:
        file.write(f"{x}\n")
    return FACTOR * x


def counts(log):
    return sorted(map(int, Path(log).read_text().split()))


def test_a_stored_run_is_named_by_all_that_it_depends_on(
    tmp_path, monkeypatch
):
    log, folder = str(tmp_path / "log"), tmp_path / "runs"

    def sweep(xs):
        grid = sweeps.product(x=xs, log=[log])
        return sweeps.run(counted, grid, folder=folder, backend="sequential")

    assert sweep([1, 2]) == [2.0, 4.0]
    assert sweep([2, 3, 1]) == [4.0, 6.0, 2.0]
    assert counts(log) == [1, 2, 3]
    monkeypatch.setenv("LEARNING_MECHANICS_SEED", "1")
    sweep([1])
    assert counts(log) == [1, 1, 2, 3]
    monkeypatch.setitem(globals(), "FACTOR", 5.0)
    assert sweep([1]) == [5.0]
    assert counts(log) == [1, 1, 1, 2, 3]


def test_the_name_tells_closures_helpers_and_arguments_apart():
    def make(inner):
        def work(x):
            return inner * x

        return work

    def key(function, **point):
        return _stored.paths(function, [point], Path(), [])[0]

    data = np.arange(4.0)
    keys = [
        key(make(1), x=1),
        key(make(2), x=1),
        key(make(data), x=1),
        key(make(data + 1), x=1),
        key(make(data.astype("f4")), x=1),
        key(make(1), x=1.0),
        key(make(1), x=True),
        key(make(1), x="1"),
        key(make(1), x=[1]),
    ]
    assert len(set(keys)) == len(keys)
    assert key(make(data), x=1) == key(make(data.copy()), x=np.int64(1))


def test_a_half_written_file_is_never_a_result(tmp_path):
    log, folder = str(tmp_path / "log"), tmp_path / "runs"
    grid = sweeps.product(x=[1, 2], log=[log])
    sweeps.run(counted, grid, folder=folder, backend="sequential")
    one, two = folder.iterdir()
    content = one.read_bytes()
    method = content.rindex(b"PK\1\2") + 10  # of compression, in the index
    strange = content[:method] + b"\x99" + content[method + 1 :]
    for damage in (content[:-30], content[:20], b"", strange):
        one.write_bytes(damage)
        with pytest.warns(UserWarning, match="damaged"):
            again = sweeps.run(
                counted, grid, folder=folder, backend="sequential"
            )
        assert again == [2.0, 4.0]
    assert len(counts(log)) == 6
    assert one.read_bytes()[:2] == b"PK"
    assert {one, two} == set(folder.iterdir())


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        _stored.save(tmp_path / "a.npz", [1])
    assert not list(tmp_path.iterdir())


SCRIPT = """
import os, sys, time
from learning_mechanics import sweeps

def work(x, log):
    time.sleep(0.2)
    with open(log, "a") as file:
        file.write(f"{x}\\n")
    return x * x

if __name__ == "__main__":
    grid = sweeps.product(x=range(8), log=[sys.argv[1]])
    sweeps.run(work, grid, folder=sys.argv[2], n_jobs=2)
"""


def test_a_killed_sweep_computes_only_the_rest(tmp_path):
    script, log = tmp_path / "sweep.py", tmp_path / "log"
    folder = tmp_path / "runs"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(log), str(folder)]
    first = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*.npz"))) < 3:
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    stored = len(list(folder.glob("*.npz")))
    before = counts(log)
    assert stored < 8
    work = runpy.run_path(str(script))["work"]
    grid = sweeps.product(x=range(8), log=[str(log)])
    second = sweeps.run(work, grid, folder=folder, n_jobs=2)
    assert second == [x * x for x in range(8)]
    again = len(counts(log)) - len(before)
    assert again == 8 - stored
    # In flight, and on their way to the disk: at most one a worker each.
    assert len(before) - stored <= 4


def fragile():
    """Return a run that dies; local, so that workers need not import us."""

    def fragile(x, folder, times):
        died = len(list(Path(folder).glob(f"died-{x}-*")))
        if x == 1 and died < times:
            (Path(folder) / f"died-{x}-{died}").touch()
            os._exit(1)
        (Path(folder) / f"done-{x}-{time.monotonic_ns()}").touch()
        return x

    return fragile


def test_what_a_dying_worker_loses_is_tried_again(tmp_path):
    grid = sweeps.product(x=range(6), folder=[str(tmp_path)], times=[1])
    assert sweeps.run(fragile(), grid, n_jobs=2) == list(range(6))
    done = len(list(tmp_path.glob("done-*")))
    assert 6 <= done <= 8


def test_a_run_that_keeps_dying_is_named(tmp_path):
    grid = sweeps.product(x=range(4), folder=[str(tmp_path)], times=[9])
    with pytest.raises(RuntimeError, match=r"fragile\(x=1, .* 3 times"):
        sweeps.run(fragile(), grid, n_jobs=2, folder=tmp_path / "runs")
    assert len(list(tmp_path.glob("died-*"))) == 3


@pytest.mark.parametrize("backend", ["sequential", "loky"])
def test_a_failing_run_names_its_arguments(backend, tmp_path):
    class OddError(Exception):
        def __init__(self, a, b):
            super().__init__(f"{a} and {b}")

    def failing(x):
        if x == 2:
            raise OddError("this", "that")
        return x

    message = r"failing\(x=2\) failed: OddError: this and that"
    with pytest.raises(RuntimeError, match=message):
        sweeps.run(
            failing,
            sweeps.product(x=[0, 1, 2, 3]),
            backend=backend,
            n_jobs=2,
            folder=tmp_path,
        )


def test_a_failing_run_costs_no_other_its_result(tmp_path):
    def inverse(x):
        return 1 / x

    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"inverse\(x=0\).*Zero"):
            sweeps.run(inverse, [{"x": x} for x in (0, 1, 2, 4)],
                       backend="sequential", folder=tmp_path)  # fmt: skip
        assert len(list(tmp_path.glob("*.npz"))) == 3


class Color(enum.IntEnum):
    RED = 1


RESULTS = {
    "set": {1},
    "object": object(),
    "enum": Color.RED,
    "keys": {1: 2},
    "objects": np.array([None]),
    "complex": 1j,
    "bytes": b"x",
}


def unstorable(kind):
    return {"good": 1, "bad": [RESULTS[kind]]}


@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_that_cannot_be_stored_is_named(kind):
    message = rf"unstorable\(kind='{kind}'\)\['bad'\]\[0\] is .*allowed"
    with pytest.raises(TypeError, match=message):
        sweeps.run(unstorable, [{"kind": kind}], backend="sequential")


@pytest.mark.parametrize(
    ("grid", "error", "message"),
    [
        ([], ValueError, "grid is empty"),
        ({"seed": 1}, TypeError, "one dict"),
        ([{"seed": 1, "depth": 2}], TypeError, "point 0.*'depth'.*width=3"),
        ([{"width": 2}], TypeError, "point 0.*'seed'"),
        ([{"seed": 1}, {"seed": 1}], ValueError, "points 0 and 1"),
        ([{"seed": {1}}], TypeError, r"point 0 of grid\['seed'\].*set"),
        ([{"seed": np.zeros(2)}], TypeError, "make arrays in the run"),
    ],
)
def test_a_wrong_grid_is_named(grid, error, message):
    with pytest.raises(error, match=message):
        sweeps.run(train, grid)


def test_wrong_functions_and_backends_are_named(tmp_path):
    with pytest.raises(TypeError, match="plain function"):
        sweeps.run(max, [{}])
    with pytest.raises(ValueError, match="threads share"):
        sweeps.run(train, GRID, backend="threading")
    for axes in ({}, {"seed": [], "width": [1]}):
        with pytest.raises(ValueError, match="no values"):
            sweeps.product(**axes)
    space = {}
    exec("def unseen(x): return x", space)
    with pytest.raises(ValueError, match="unseen cannot be read"):
        sweeps.run(space["unseen"], [{"x": 1}], folder=tmp_path)
