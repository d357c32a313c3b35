"""Where a chapter runs, how large, and under which seeds.

Four environment variables steer every chapter at once:
``LEARNING_MECHANICS_DEVICE`` (any torch device), ``LEARNING_MECHANICS_SCALE``
(``quick``, ``full``, or between them ``reduced``), ``LEARNING_MECHANICS_SEED``
(an integer that shifts every seed of the book) and ``CI`` (silences progress
bars).
"""

import os
import re
import subprocess
from collections.abc import Iterable
from importlib.metadata import metadata
from pathlib import Path
from typing import TypeVar

import torch
from tqdm import tqdm

from learning_mechanics import _checks

T = TypeVar("T")

# Far more than the seeds one chapter uses: shifted books share no stream.
SEEDS_PER_SHIFT = 10_000


def device(dtype: torch.dtype = torch.float32) -> torch.device:
    """Return the fastest device at hand that computes in `dtype`.

    Parameters
    ----------
    dtype : torch.dtype
        The precision needed. Apple's MPS has no float64, so asking for it
        there gives the CPU.

    Returns
    -------
    torch.device
        The one named by ``LEARNING_MECHANICS_DEVICE`` if set, else CUDA,
        MPS or the CPU, in this order.

    Raises
    ------
    TypeError
        If `dtype` is none.
    ValueError
        If the named device is unknown, absent, or lacks `dtype`.

    Examples
    --------
    >>> device(torch.float64).type in ("cuda", "cpu")
    True
    """
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype={dtype!r}; allowed: a torch.dtype")
    name = os.environ.get("LEARNING_MECHANICS_DEVICE")
    if name is not None:
        try:
            chosen = torch.device(name)
            torch.zeros(1, dtype=dtype, device=chosen)
        except (RuntimeError, TypeError, AssertionError) as error:
            raise ValueError(
                f"LEARNING_MECHANICS_DEVICE={name!r} cannot hold {dtype} "
                f"here; allowed: cpu, or a cuda or mps device that is present"
            ) from error
        return chosen
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available() and dtype is not torch.float64:
        return torch.device("mps")
    return torch.device("cpu")


def scale(*, quick: T, full: T) -> T:
    """Choose between the quick and the full size of an experiment.

    Parameters
    ----------
    quick, full : int, float or list
        The setting at each scale, of one type. Quick fits two CPU cores in
        a minute a chapter; full is meant for an accelerator.

    Returns
    -------
    object
        `quick` or `full` as ``LEARNING_MECHANICS_SCALE`` says; when it is
        not set, `full` where there is an accelerator. ``reduced`` is one
        step from quick to full, for a CPU: an integer doubled, a float half
        way, a list so in each entry, or with one entry more where `full` is
        longer, and never beyond `full`.

    Raises
    ------
    ValueError
        If ``LEARNING_MECHANICS_SCALE`` is none of these, or a setting is.

    Examples
    --------
    >>> scale(quick=16, full=256) in (16, 256)
    True
    """
    reduced = _step(quick, full)  # at every scale: refuses what has no step
    name = os.environ.get("LEARNING_MECHANICS_SCALE")
    if name is None:
        name = "quick" if device().type == "cpu" else "full"
    if name not in ("quick", "full", "reduced"):
        raise ValueError(
            f"LEARNING_MECHANICS_SCALE={name!r}; allowed: quick, full, reduced"
        )
    return {"quick": quick, "full": full, "reduced": reduced}[name]


def _step(quick: T, full: T) -> T:
    if {type(quick), type(full)} not in ({int}, {float}, {list}):
        raise ValueError(
            f"quick={quick!r}, full={full!r}; allowed: two integers, two "
            "floats or two lists"
        )
    if type(quick) is int:
        return min(2 * quick, full)
    if type(quick) is float:
        return (quick + full) / 2
    if len(quick) == len(full):
        return [*map(_step, quick, full)]
    return full[: len(quick) + 1]


def seed(number: int = 0) -> int:
    """Return seed `number` of a chapter, shifted for the whole book.

    Parameters
    ----------
    number : int
        Which of the chapter's seeds, from 0 to 9999.

    Returns
    -------
    int
        ``number + 10000 * LEARNING_MECHANICS_SEED``, so that two values of
        the variable never share a random stream.

    Raises
    ------
    ValueError
        If `number` is out of range, or the variable is not an integer
        from 0 to 99999: every seed fits in 32 bits.

    Examples
    --------
    >>> seed(3) % 10_000
    3
    """
    _checks.integer("number", number, 0, SEEDS_PER_SHIFT - 1)
    shift = os.environ.get("LEARNING_MECHANICS_SEED", "0")
    if not re.fullmatch("[0-9]{1,5}", shift):
        raise ValueError(
            f"LEARNING_MECHANICS_SEED={shift!r}; allowed: integers from 0 to "
            "99999"
        )
    return int(number) + SEEDS_PER_SHIFT * int(shift)


def generator(number: int = 0) -> torch.Generator:
    """Return a fresh random stream for seed `number` of a chapter.

    The stream lives on the CPU: weights and data are drawn there and then
    moved, so that every device starts from the same numbers.

    Parameters
    ----------
    number : int
        Which of the chapter's seeds; see `seed`.

    Returns
    -------
    torch.Generator
        Seeded with ``seed(number)``.

    Examples
    --------
    >>> draws = [torch.rand(1, generator=generator(5)) for _ in range(2)]
    >>> bool(draws[0] == draws[1])
    True
    """
    return torch.Generator().manual_seed(seed(number))


def book() -> Path:
    """Return the folder of the book, for a page that reads other parts of it.

    Returns
    -------
    Path
        The one that the running notebook lies in; where it runs alone, as on
        Colab, ``book`` beside it, fetched by git on the first call.

    Raises
    ------
    OSError, subprocess.CalledProcessError
        If there is no git; if it cannot fetch the book.

    Examples
    --------
    >>> (book() / "references.bib").is_file()
    True
    """
    here = Path.cwd()
    for folder in (here, *here.parents, here / "book"):
        if (folder / "_toc.yml").is_file():
            return folder
    address = metadata("learning-mechanics")["Project-URL"].split()[-1]
    clone = ["git", "clone", "--quiet", "--depth=1", address, "book"]
    subprocess.run(clone, check=True)
    return here / "book"


def progress(
    iterable: Iterable | None = None,
    description: str = "",
    total: int | None = None,
) -> tqdm:
    """Wrap long work in a progress bar that CI and stored pages never see.

    Parameters
    ----------
    iterable : iterable, optional
        What to loop over; leave it out to advance by ``.update(n)``.
    description : str
        The label in front of the bar.
    total : int, optional
        The number of steps where `iterable` does not tell it.

    Returns
    -------
    tqdm
        Silent when the environment variable ``CI`` is set.

    Examples
    --------
    >>> sum(progress(range(4)))
    6
    """
    return tqdm(
        iterable,
        desc=description,
        total=total,
        leave=False,
        disable=bool(os.environ.get("CI")),
    )
