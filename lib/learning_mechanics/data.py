"""Real data: digits, photographs, source code, MNIST and Fashion-MNIST.

`digits` and `photograph_patches` come with scikit-learn, `text` with Python.
`mnist` and `fashion_mnist` are read from a folder of yours, or downloaded once
into ``LEARNING_MECHANICS_DATA``, by default ``~/.cache/learning_mechanics``. A
file that is not, byte for byte, the published one never becomes training data.
"""

import gzip
import hashlib
import math
import os
import sysconfig
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import torch
from sklearn.datasets import load_digits, load_sample_images
from torch.nn.functional import one_hot as integer_one_hot

from learning_mechanics import _checks
from learning_mechanics.runtime import progress

MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion_mnist": (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/"
        "master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
}
FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
# In the order of FILES. Published by TensorFlow Datasets, in its folder
# tensorflow_datasets/url_checksums: mnist.txt and fashion_mnist.txt; those of
# Fashion-MNIST also by Keras, in keras/src/datasets/fashion_mnist.py.
SHA256 = {
    "mnist": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "fashion_mnist": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
}
TIMEOUT = 20  # seconds that a mirror may stay silent
CHUNK = 2**16  # bytes written at a time


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the 1797 handwritten digits of scikit-learn.

    Returns
    -------
    images, labels : torch.Tensor
        float64 [1797, 64], 8x8 pixels from 0 (paper) to 1 (ink);
        int64 [1797], from 0 to 9.

    Examples
    --------
    >>> images, labels = digits()
    >>> images.shape, labels[:4]
    (torch.Size([1797, 64]), tensor([0, 1, 2, 3]))
    """
    images, labels = load_digits(return_X_y=True)
    return torch.from_numpy(images / 16), torch.from_numpy(labels).long()


def photograph_patches(
    size: int, count: int, generator: torch.Generator
) -> torch.Tensor:
    """Draw square patches uniformly from scikit-learn's two photographs.

    Parameters
    ----------
    size : int
        Side of a patch in pixels, up to the photographs' height, 427.
    count : int
        Number of patches; they may overlap.
    generator : torch.Generator
        Decides the draw; on the CPU.

    Returns
    -------
    torch.Tensor
        float64 [count, size * size], mean of the colours, 0 to 1 (white).

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range; if `generator` is not one on the CPU.

    Examples
    --------
    >>> photograph_patches(8, 100, torch.Generator().manual_seed(0)).shape
    torch.Size([100, 64])
    """
    photographs = np.stack(load_sample_images().images).mean(axis=3) / 255
    _checks.integer("size", size, 1, photographs.shape[1])
    _checks.integer("count", count, 1)
    _checks.generator("generator", generator)
    windows = torch.from_numpy(photographs).unfold(1, size, 1)
    windows = windows.unfold(2, size, 1)  # [photograph, row, column, :, :]
    photograph, row, column = (
        torch.randint(places, (count,), generator=generator)
        for places in windows.shape[:3]
    )
    return windows[photograph, row, column].flatten(1)


def text() -> str:
    """Return the source of Python's own standard library.

    Code and prose of hundreds of authors that lies wherever Python runs: the
    modules of the library's top folder in alphabetical order. Versions of
    Python differ in it by some percent.

    Returns
    -------
    str
        About five million characters, lines ending in a newline.

    Raises
    ------
    FileNotFoundError
        If this Python came without the source of its library.

    Source
    ------
    The Python Software Foundation, under the PSF licence.

    Examples
    --------
    >>> text().count("import ") > 1000
    True
    """
    folder = Path(sysconfig.get_path("stdlib"))
    modules = sorted(folder.glob("*.py"))
    if not modules:
        raise FileNotFoundError(
            f"no *.py in {folder}; allowed: a Python with its library's source"
        )
    return "\n".join(path.read_text(encoding="utf-8") for path in modules)


def mnist(
    split: str, folder: str | os.PathLike | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a split of MNIST, handwritten digits of 28x28 pixels.

    Parameters
    ----------
    split : str
        ``"train"`` (60000 images) or ``"test"`` (10000 images).
    folder : path, optional
        Where the published ``.gz`` files lie under their usual names; without
        it they come from the cache, and are downloaded if missing there.

    Returns
    -------
    images, labels : torch.Tensor
        float32 [n, 784], from 0 to 1; int64 [n], from 0 to 9.

    Raises
    ------
    ValueError
        If `split` is unknown or a file is not the published one.
    OSError
        If `folder` lacks a file, or no mirror delivers it.

    Source
    ------
    LeCun et al. (1998), Gradient-based learning applied to document
    recognition.

    Examples
    --------
    >>> images, labels = mnist("train")  # doctest: +SKIP
    """
    return _load("mnist", split, folder)


def fashion_mnist(
    split: str, folder: str | os.PathLike | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a split of Fashion-MNIST, clothes in the format of `mnist`.

    Arguments, results and errors are those of `mnist`. The labels 0 to 9 are
    T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, boot.

    Source
    ------
    Xiao, Rasul and Vollgraf (2017), arXiv:1708.07747.

    Examples
    --------
    >>> images, labels = fashion_mnist("test", "my/folder")  # doctest: +SKIP
    """
    return _load("fashion_mnist", split, folder)


def whiten(inputs: torch.Tensor, rank: int | None = None) -> torch.Tensor:
    """Turn inputs into uncorrelated coordinates of mean 0 and variance 1.

    The centred inputs U S V^T, projected on their principal components V and
    divided by the spread S / sqrt(n), are sqrt(n) U; computed in float64.

    Parameters
    ----------
    inputs : torch.Tensor
        Floating point [n, d].
    rank : int, optional
        Components kept, from 1 to the number of directions in which the
        inputs vary; by default all that rounding cannot explain.

    Returns
    -------
    torch.Tensor
        [n, rank] in the dtype of `inputs`, largest variance first; the sign
        makes the largest weight of each component positive.

    Raises
    ------
    TypeError, ValueError
        If `inputs` is not floating point; if it is not a finite, varying
        matrix, or `rank` exceeds the number of directions it varies in.

    Examples
    --------
    >>> white = whiten(digits()[0], rank=2)
    >>> (white.T @ white / len(white)).round(decimals=6).abs()
    tensor([[1., 0.],
            [0., 1.]], dtype=torch.float64)
    """
    if not isinstance(inputs, torch.Tensor) or not inputs.is_floating_point():
        raise TypeError(f"inputs={inputs}; allowed: a floating-point tensor")
    if inputs.ndim != 2 or not inputs.numel() or not inputs.isfinite().all():
        raise ValueError(f"inputs={inputs}; allowed: a finite matrix [n, d]")
    x = inputs.double()
    left, spread, right = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    # Rounding: of the inputs as they were stored, and of the decomposition.
    stored, computed = (torch.finfo(a.dtype).eps for a in (inputs, x))
    rounding = (stored + max(x.shape) * computed) * x.norm()
    directions = int((spread > rounding).sum())
    if not directions:
        raise ValueError("inputs are all the same; allowed: two that differ")
    rank = directions if rank is None else rank
    _checks.integer("rank", rank, 1, directions)
    largest = right.gather(1, right.abs().argmax(1, keepdim=True))  # [k, 1]
    white = math.sqrt(len(x)) * left * largest.sign().T
    return white[:, :rank].to(inputs.dtype)


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Write each label as a row that is 1 at the label and 0 elsewhere.

    Parameters
    ----------
    labels : torch.Tensor
        int64 [n], from 0 to ``classes - 1``.
    classes : int
        Number of classes.

    Returns
    -------
    torch.Tensor
        float64 [n, classes].

    Raises
    ------
    TypeError, ValueError
        If `labels` is not such a tensor; if a number is out of range.

    Examples
    --------
    >>> one_hot(torch.tensor([2, 0]), 3)
    tensor([[0., 0., 1.],
            [1., 0., 0.]], dtype=torch.float64)
    """
    _checks.integer("classes", classes, 1)
    if getattr(labels, "dtype", None) != torch.int64 or labels.ndim != 1:
        raise TypeError(f"labels={labels}; allowed: an int64 tensor [n]")
    if ((labels < 0) | (labels >= classes)).any():
        raise ValueError(f"labels={labels}; allowed: 0 to {classes - 1}")
    return integer_one_hot(labels, classes).double()


def _load(dataset, split, folder):
    """Return a split, from `folder` or from the cache, filled if need be."""
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r}; allowed: train, test")
    names = FILES[:2] if split == "train" else FILES[2:]
    if folder is None:
        cache = os.environ.get("LEARNING_MECHANICS_DATA")
        cache = cache or "~/.cache/learning_mechanics"
        folder = Path(cache, dataset).expanduser()
        for name in names:
            _fetch(dataset, name, folder)
    images = _read(dataset, names[0], folder, (28, 28))
    labels = _read(dataset, names[1], folder, ())
    if len(images) != len(labels) or labels.max() > 9:
        raise ValueError(
            f"{Path(folder, names[1])}: {len(labels)} labels up to "
            f"{labels.max()} for the {len(images)} images of {names[0]}; "
            f"allowed: one label for each image, from 0 to 9"
        )
    pixels = images.reshape(len(images), -1) / np.float32(255)
    return torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64))


def _read(dataset, name, folder, item):
    """Return the uint8 array [n, *item] of a published IDX file."""
    path = Path(folder, name)
    content = gzip.decompress(_published(dataset, name, path))
    # Magic number (0x08: unsigned bytes; number of dimensions), n, *item.
    words = range(0, 8 + 4 * len(item), 4)
    header = [int.from_bytes(content[i : i + 4], "big") for i in words]
    allowed = [0x0801 + len(item), header[1], *item]
    body = content[4 * len(header) :]
    if header != allowed or len(body) != math.prod(header[1:]):
        raise ValueError(
            f"{path}: IDX header {header} before {len(body)} bytes; allowed: "
            f"{allowed} before {math.prod(allowed[1:])}"
        )
    return np.frombuffer(body, np.uint8).reshape(-1, *item)


def _published(dataset, name, path):
    """Return the bytes at `path` if they are those published as `name`."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found == SHA256[dataset][FILES.index(name)]:
        return content
    wrong = f"truncated or altered ({len(content)} bytes, SHA-256 {found})"
    for other, checksums in SHA256.items():
        if found in checksums:
            wrong = f"this is {FILES[checksums.index(found)]} of {other}"
    raise ValueError(
        f"{path} is not the published {name} of {dataset}: {wrong}; replace "
        f"it, or delete it from the cache to have it downloaded again"
    )


def _fetch(dataset, name, folder):
    """Bring a file into the cache: complete and checked, or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.part"
    failures = {}
    # The second round continues what broke off in the first, or starts over
    # where the first deleted a part that proved to be wrong.
    for address in 2 * [mirror + name for mirror in MIRRORS[dataset]]:
        if (folder / name).exists():
            return
        try:
            _download(address, part)
            _published(dataset, name, part)
            part.replace(folder / name)
            return
        except ValueError:
            part.unlink(missing_ok=True)
            failures[address] = "not the published bytes"
        except (OSError, HTTPException) as error:
            failures[address] = error
    reasons = "".join(f"\n  {a}: {why}" for a, why in failures.items())
    raise ConnectionError(
        f"no mirror delivered {name} of {dataset}:{reasons}\n"
        f"Offline: get the published .gz files elsewhere, pass folder=..."
    )


def _download(address, part):
    """Add to the file `part` what it lacks of the file at `address`."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        answer = urlopen(Request(address, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code != 416:
            raise
        return  # No byte comes after these: the checksum judges the part.
    if answer.status != 206:  # The whole file comes instead of the rest.
        start = 0
    total = start + (answer.length or 0)
    part.touch()
    with (
        answer,
        part.open("r+b") as file,
        progress(description=part.stem, total=total) as bar,
    ):
        # Each byte goes to its place, so two processes do each other no harm.
        bar.update(file.seek(start))
        while chunk := answer.read(CHUNK):
            bar.update(file.write(chunk))
        if answer.length:
            raise OSError(f"connection closed {answer.length} bytes early")
