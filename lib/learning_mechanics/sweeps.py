"""Grids of independent runs, over the cores of one machine or of many.

A run is a function of its arguments alone: its seed is one of them, and it
computes on one thread, so neither the backend nor the order of a sweep can
change a result. With a folder, every finished run is kept, and a sweep that
was killed computes only what is missing.
"""

import contextlib
import inspect
import itertools
import os
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import joblib
from threadpoolctl import threadpool_limits

from learning_mechanics import _stored

# How often a run is started again after the process it was in has died.
RETRIES = 2

# The variables by which `runtime` steers what a run computes. Workers outlive
# a sweep, so each run brings the values of its own.
STEERING = tuple(
    f"LEARNING_MECHANICS_{name}" for name in ("SEED", "SCALE", "DEVICE")
)
PASSED_ON = (*STEERING, "LEARNING_MECHANICS_DATA", "CI")


def product(**axes: Sequence) -> list[dict[str, Any]]:
    """Return every combination of the values of named axes.

    Parameters
    ----------
    **axes : sequence
        The values of each argument.

    Returns
    -------
    list of dict
        One point for each combination, the last axis varying fastest.

    Raises
    ------
    ValueError
        If there is no axis or one is empty.

    Examples
    --------
    >>> product(width=[16, 32], seed=range(2))[1:3]
    [{'width': 16, 'seed': 1}, {'width': 32, 'seed': 0}]
    """
    axes = {name: list(values) for name, values in axes.items()}
    empty = [name for name, values in axes.items() if not values]
    if empty or not axes:
        raise ValueError(
            f"no values for axes {empty}; allowed: at least one axis, each "
            "with at least one value"
        )
    return [
        dict(zip(axes, values, strict=True))
        for values in itertools.product(*axes.values())
    ]


def run(
    function: Callable,
    grid: Sequence[Mapping[str, Any]],
    *,
    folder: str | Path | None = None,
    n_jobs: int = -1,
    backend: str = "loky",
) -> list:
    """Call a function at every point of a grid, in parallel.

    Parameters
    ----------
    function : callable
        A plain function. It must depend on nothing but its arguments, so a
        run that draws random numbers takes its seed as one.
    grid : sequence of dict
        The keyword arguments of each run, distinct, made of numbers,
        strings, booleans, None, lists and dicts; see `product`.
    folder : path, optional
        Where finished runs are kept, one file each, and read back instead
        of computed again. The file's name is a hash of the function's name
        and text, of the run's arguments, of the variables that shift seeds,
        scale and device, and of what the function names around it: plain
        values, arrays, and functions of the same module. Nothing else is
        part of it: take a new folder after changing a package it calls.
    n_jobs : int
        Worker processes; -1 for one per core. Dask uses all of its own.
    backend : str
        Of joblib: ``loky`` for the processes of this machine,
        ``sequential`` for none, ``dask`` for the cluster of the
        ``distributed.Client`` in use.

    Returns
    -------
    list
        The results in the order of the grid, as plain values: tensors
        become arrays and tuples lists, whether or not they were stored.

    Raises
    ------
    ValueError
        If the grid is empty or repeats a point, or the function's text,
        which belongs to a stored run's name, cannot be read.
    TypeError
        If `function` is not a function, a point does not fit its signature
        or is not made of plain values, or a result cannot be stored.
    RuntimeError
        If a run raises, or the process it is in dies each of the three
        times it is started, the last time alone. The message names the
        arguments. With a folder, the other runs are finished and kept
        first.

    Warns
    -----
    UserWarning
        If a stored file is damaged; that run is computed again.

    Examples
    --------
    >>> def square(x, seed=0):
    ...     return {"value": x**2}
    >>> run(square, product(x=[1, 2, 3]), backend="sequential")
    [{'value': 1}, {'value': 4}, {'value': 9}]
    """
    # Here, since it loads torch, which a worker may not need.
    from learning_mechanics import runtime

    points = _points(function, grid)
    if backend == "threading":
        raise ValueError(
            "backend='threading'; allowed: loky, sequential, dask or another "
            "of processes, since threads share random and thread settings"
        )
    environment = {name: os.environ.get(name) for name in PASSED_ON}
    paths: list[Path | None] = [None] * len(points)
    if folder is not None:
        steering = [environment[name] for name in STEERING]
        paths = _stored.paths(function, points, Path(folder), steering)
    results = {
        i: stored[0]
        for i, path in enumerate(paths)
        if path is not None and (stored := _stored.load(path))
    }
    deaths = [0] * len(points)
    # An executor that kept its workers' thread counts would be another one.
    workers = {
        "inner_max_num_threads": 1,
        "initializer": _follow,
        "initargs": [os.getpid()],
    }
    with (
        runtime.progress(
            description=function.__name__, total=len(points)
        ) as bar,
        joblib.parallel_config(
            backend=backend,
            n_jobs=n_jobs,
            **(workers if backend == "loky" else {}),
        ),
    ):
        bar.update(len(results))
        while len(results) < len(points):
            left = [i for i in range(len(points)) if i not in results]
            suspect = [i for i in left if deaths[i] == RETRIES]
            # One by one, those who may have killed the others' workers.
            batch = suspect[:1] or left
            flying: set[int] = set()
            parallel = joblib.Parallel(
                batch_size=1,
                pre_dispatch="n_jobs",
                return_as="generator_unordered",
                # One worker would be this process itself: not for a suspect.
                **({"n_jobs": 2} if suspect and n_jobs != 1 else {}),
            )
            tasks = _tasks(batch, function, points, environment, flying)
            try:
                for i, result in parallel(tasks):
                    if isinstance(result, RuntimeError):
                        if folder is None:
                            raise result
                    elif folder is not None:
                        _stored.save(paths[i], result)
                    results[i] = result
                    flying.discard(i)
                    bar.update(1)
            except BrokenExecutor as error:
                if suspect:
                    failure = RuntimeError(
                        f"{_name(function, points[batch[0]])} ended its "
                        f"process {RETRIES + 1} times, the last time alone "
                        f"(out of memory, perhaps): {error}"
                    )
                    if folder is None:
                        raise failure from error
                    results[batch[0]] = failure
                for i in list(flying) or batch[:1]:
                    deaths[i] += 1
    failures = [r for r in results.values() if isinstance(r, RuntimeError)]
    if failures:
        if len(failures) > 1:
            failures[0].add_note(f"{len(failures) - 1} other runs failed too")
        raise failures[0]
    return [results[i] for i in range(len(points))]


def _tasks(
    batch: list[int],
    function: Callable,
    points: list[dict],
    environment: dict,
    flying: set[int],
) -> Iterator:
    for i in batch:
        flying.add(i)
        yield joblib.delayed(_call)(i, function, points[i], environment)


def _call(i: int, function: Callable, point: dict, environment: dict) -> tuple:
    """Run one point, on one thread and under the sweep's variables."""
    with _steered(environment), _one_thread():
        try:
            result = function(**point)
        except Exception as error:
            # An exception of its own class may not survive the way back,
            # and one that is raised would end the other runs.
            failure = RuntimeError(
                f"{_name(function, point)} failed: "
                f"{type(error).__name__}: {error}"
            )
            failure.add_note(traceback.format_exc())
            return i, failure
        return i, _stored.plain(result, f"result of {_name(function, point)}")


def _follow(sweep: int) -> None:
    """End this process soon after the one that it works for is gone."""

    def watch():
        while os.getppid() == sweep:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _steered(environment: dict) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in environment}
    _set(environment)
    try:
        yield
    finally:
        _set(before)


def _set(environment: dict) -> None:
    for name, value in environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    # Only where it is in use: most of a worker's start would be loading it.
    torch = sys.modules.get("torch")
    with threadpool_limits(1):
        if torch is None:
            yield
            return
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _points(function: Callable, grid: Sequence[Mapping]) -> list[dict]:
    if not inspect.isfunction(function):
        raise TypeError(f"function={function!r}; allowed: a plain function")
    if isinstance(grid, Mapping):
        raise TypeError(
            "grid is one dict; allowed: a list of dicts, such as product(...)"
        )
    points = [dict(point) for point in grid]
    if not points:
        raise ValueError("grid is empty; allowed: at least one point")
    signature, seen = inspect.signature(function), {}
    for i, point in enumerate(points):
        try:
            signature.bind(**point)
        except TypeError as error:
            raise TypeError(
                f"point {i} of grid, {point}: {error}; allowed: the arguments "
                f"of {function.__name__}{signature}"
            ) from None
        first = seen.setdefault(_stored.text(point, f"point {i} of grid"), i)
        if first != i:
            raise ValueError(
                f"points {first} and {i} of grid are both {point}; allowed: "
                "distinct points, repetitions with a seed of their own"
            )
    return points


def _name(function: Callable, point: dict) -> str:
    inside = ", ".join(
        f"{key}={textwrap.shorten(repr(value), 60)}"
        for key, value in point.items()
    )
    return f"{function.__name__}({inside})"
