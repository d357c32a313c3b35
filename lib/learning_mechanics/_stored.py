"""What a sweep keeps of its runs, and under which names.

A result is reduced to plain values, those that JSON and arrays can hold, and
stored in one file. The file's name is a hash of all that the run is made of.
"""

import contextlib
import hashlib
import inspect
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from learning_mechanics import _checks

# What reading a damaged file raises: zipfile has a RuntimeError for bits that
# mean encryption or an unknown method.
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
)


def plain(value: Any, name: str) -> Any:
    """Reduce a value to what JSON and arrays can hold, or refuse it."""
    # By type: a subclass, such as an enumeration, would come back as another.
    if type(value) in (type(None), bool, str, int, float):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biufU":
        return value.item()
    if type(value) in (list, tuple):
        return [plain(v, f"{name}[{i}]") for i, v in enumerate(value)]
    if type(value) is dict and all(type(key) is str for key in value):
        return {k: plain(v, f"{name}[{k!r}]") for k, v in value.items()}
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufcU":
        return np.array(value)
    raise TypeError(
        f"{name} is {value!r:.80}, a {type(value).__name__}; allowed: "
        "numbers, strings, booleans, None, arrays and tensors of numbers, "
        "and lists and dicts with string keys of these"
    )


def _split(value: Any) -> tuple[Any, list[np.ndarray]]:
    """Part a plain value into JSON, with arrays as null, and the arrays.

    Returns the JSON, and the arrays in the order of a walk through it; each
    node is [kind, content], so that nothing can pass for an array.
    """
    if isinstance(value, np.ndarray):
        return ["array", None], [value]
    if isinstance(value, list):
        parts = [_split(v) for v in value]
        tree = ["list", [t for t, _ in parts]]
    elif isinstance(value, dict):
        parts = [_split(v) for v in value.values()]
        tree = ["dict", dict(zip(value, (t for t, _ in parts), strict=True))]
    else:
        return ["value", value], []
    return tree, [array for _, arrays in parts for array in arrays]


def _join(tree: list, arrays: Iterator[np.ndarray]) -> Any:
    kind, content = tree
    if kind == "array":
        return next(arrays)
    if kind == "list":
        return [_join(t, arrays) for t in content]
    if kind == "dict":
        return {key: _join(t, arrays) for key, t in content.items()}
    return content


def text(point: dict, name: str) -> str:
    """Return the one text that a point of a grid has."""
    value = plain(point, name)
    if arrays := _split(value)[1]:
        raise TypeError(
            f"{name} holds {len(arrays)} arrays; allowed: numbers, strings, "
            "booleans, None, lists and dicts; make arrays in the run"
        )
    return json.dumps(value, sort_keys=True)


def paths(
    function: Callable,
    points: list[dict],
    folder: Path,
    variables: list[str | None],
) -> list[Path]:
    """Return the file of each run, in a folder that is made if need be.

    `variables` are those of the environment by which `runtime` steers a run.
    """
    what = [_surroundings(function, {}), *variables]
    folder.mkdir(parents=True, exist_ok=True)
    keys = (json.dumps([*what, text(point, "point")]) for point in points)
    return [folder / f"{_digest(key.encode())[:32]}.npz" for key in keys]


def _surroundings(function: Callable, seen: dict) -> dict:
    """Gather what a function is: its text, and what it names around it.

    That is values, and functions of its own module, with theirs in turn.
    """
    try:
        source = inspect.getsource(function)
    except OSError:
        raise ValueError(
            f"the text of {function.__name__} cannot be read, but a stored "
            "run is named by it; allowed: functions of a file or a notebook"
        ) from None
    around: dict[str, Any] = {}
    seen[function.__qualname__] = [source, around]
    names = inspect.getclosurevars(function)
    for name, value in {**names.globals, **names.nonlocals}.items():
        if inspect.isfunction(value):
            inside = value.__module__ == function.__module__
            if inside and value.__qualname__ not in seen:
                _surroundings(value, seen)
        elif not (inspect.ismodule(value) or inspect.isclass(value)):
            # What is no plain value cannot be compared, and is left out.
            with contextlib.suppress(TypeError):
                tree, arrays = _split(plain(value, name))
                around[name] = [tree, *map(_array_digest, arrays)]
    return seen


def _array_digest(array: np.ndarray) -> str:
    return f"{array.dtype}{array.shape}" + _digest(array.tobytes())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def save(path: Path, result: Any) -> None:
    """Write a file that exists whole or not at all."""
    tree, arrays = _split(result)
    members = {str(i): array for i, array in enumerate(arrays)}
    handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, tree=np.array(json.dumps(tree)), **members)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def load(path: Path) -> list:
    """Return [result], or [] if there is none that can be read."""
    try:
        # Opened here: of a damaged file, np.load would leave its own open.
        with (
            path.open("rb") as whole,
            np.load(whole, allow_pickle=False) as file,
        ):
            tree = json.loads(str(file["tree"]))
            arrays = (file[str(i)] for i in range(len(file.files) - 1))
            return [_join(tree, arrays)]
    except FileNotFoundError:
        return []
    except DAMAGE as e:
        _checks.warn(
            "sweeps", f"{path} is damaged, its run is computed again: {e}"
        )
        return []
