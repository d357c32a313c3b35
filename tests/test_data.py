"""`data` against a small server of its own, numpy and scikit-learn."""

import argparse
import ast
import gzip
import hashlib
import inspect
import json
import subprocess
import sys
import threading
import time
import tokenize
import typing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from sklearn.datasets import load_sample_images

from learning_mechanics import data

IMAGES, LABELS, TEST_IMAGES, TEST_LABELS = data.FILES
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (100, 28, 28), dtype=np.uint8)
CLASSES = np.arange(100, dtype=np.uint8) % 10


def idx(array, magic=None, sizes=None):
    """Write an IDX file; a wrong magic number or wrong sizes on demand."""
    words = [magic or 0x0800 + array.ndim, *(sizes or array.shape)]
    header = b"".join(word.to_bytes(4, "big") for word in words)
    return gzip.compress(header + array.tobytes(), mtime=0)


GOOD = {
    IMAGES: idx(PIXELS),
    LABELS: idx(CLASSES),
    TEST_IMAGES: idx(PIXELS[:30]),
    TEST_LABELS: idx(CLASSES[:30]),
}


def publish(monkeypatch, files):
    """Make `files` the published MNIST."""
    sums = tuple(hashlib.sha256(files[n]).hexdigest() for n in data.FILES)
    monkeypatch.setitem(data.SHA256, "mnist", sums)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a local folder that holds a small published MNIST."""
    publish(monkeypatch, GOOD)
    for name, content in GOOD.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


class Handler(BaseHTTPRequestHandler):
    """A file server that can misbehave in the ways real ones do."""

    def do_GET(self):
        mirror, behaviour = self.server, self.server.behaviour
        wanted = self.headers["Range"]
        mirror.requests.append((self.path.strip("/"), wanted))
        content = mirror.files.get(self.path.strip("/"))
        start = int(wanted[6:-1]) if wanted and behaviour != "no range" else 0
        if content is None:
            return self.send_error(404)
        if wanted and (behaviour == "416" or start >= len(content)):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", len(content) - start)
        self.end_headers()
        end = None
        if behaviour in ("cut", "cut once", "stall"):
            end = start + (len(content) - start) // 2
        if behaviour == "cut once":
            mirror.behaviour = ""
        self.wfile.write(content[start:end])
        self.wfile.flush()
        if behaviour == "stall":
            mirror.released.wait(60)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Return a function that starts one more mirror and registers it."""
    servers, addresses = [], []

    def start(files=GOOD, behaviour=""):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.files, server.behaviour = files, behaviour
        server.requests, server.released = [], threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        servers.append(server)
        addresses.append(f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setitem(data.MIRRORS, "mnist", tuple(addresses))
        return server

    yield start
    for server in servers:
        server.released.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return the still empty cache folder of a small published MNIST."""
    publish(monkeypatch, GOOD)
    monkeypatch.setenv("LEARNING_MECHANICS_DATA", str(tmp_path))
    monkeypatch.setenv("CI", "1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(data, "CHUNK", 1000)
    monkeypatch.setattr(data, "TIMEOUT", 5)
    return tmp_path / "mnist"


def assert_is_train(split):
    images, labels = split
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert (images.numpy() == PIXELS.reshape(100, 784) / np.float32(255)).all()
    assert (labels.numpy() == CLASSES).all()


# --- what ships with scikit-learn -------------------------------------------


def test_digits():
    images, labels = data.digits()
    assert (images.shape, images.dtype) == ((1797, 64), torch.float64)
    assert (labels.shape, labels.dtype) == ((1797,), torch.int64)
    assert (images.min(), images.max()) == (0, 1)
    assert labels.unique().tolist() == list(range(10))


def test_patches_are_parts_of_the_photographs():
    stream = torch.Generator().manual_seed(1)
    patches = data.photograph_patches(5, 20, stream)
    assert (patches.shape, patches.dtype) == ((20, 25), torch.float64)
    grey = np.stack(load_sample_images().images).mean(3)
    windows = np.lib.stride_tricks.sliding_window_view(grey, (5, 5), (1, 2))
    for patch in (255 * patches.numpy()).reshape(-1, 5, 5):
        near = windows[np.isclose(windows[..., 0, 0], patch[0, 0])]
        assert np.isclose(near, patch).all((1, 2)).any()


def test_patches_are_uniform(monkeypatch):
    # Two photographs of 5x7 pixels, every pixel of another brightness.
    pixels = np.arange(70, dtype=np.uint8).reshape(2, 5, 7, 1).repeat(3, 3)
    photographs = SimpleNamespace(images=list(pixels))
    monkeypatch.setattr(data, "load_sample_images", lambda: photographs)
    stream = torch.Generator().manual_seed(2)
    corners = 255 * data.photograph_patches(2, 4800, stream)[:, 0]
    places, counts = corners.round().unique(return_counts=True)
    assert places.tolist() == pixels[:, :4, :6, 0].ravel().tolist()
    assert chisquare(counts).pvalue > 0.01


def test_patches_follow_the_seed():
    one, same, other = (
        data.photograph_patches(4, 9, torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    assert one.equal(same)
    assert not one.equal(other)


@pytest.mark.parametrize(
    "arguments", [(0, 1), (428, 1), (2.5, 1), (4.0, 1), (4, 0), (4, True)]
)
def test_patches_refuse_sizes(arguments):
    with pytest.raises(ValueError, match=r"(size|count)=.*allowed"):
        data.photograph_patches(*arguments, torch.Generator())


def test_patches_refuse_the_global_stream():
    with pytest.raises(TypeError, match="generator=None; allowed"):
        data.photograph_patches(4, 1, None)


# --- local files ------------------------------------------------------------


def test_folder(folder):
    assert_is_train(data.mnist("train", folder))
    assert len(data.mnist("test", str(folder))[0]) == 30


def test_unknown_split(folder):
    with pytest.raises(ValueError, match="split='valid'; allowed: train"):
        data.mnist("valid", folder)


def test_missing_file(folder):
    (folder / LABELS).unlink()
    with pytest.raises(FileNotFoundError, match=LABELS):
        data.mnist("train", folder)


FAULTS = {
    "truncated": (GOOD[IMAGES][:-9], "truncated or altered"),
    "altered": (GOOD[IMAGES][:-1] + b"\7", "truncated or altered"),
    "empty": (b"", r"altered \(0 bytes"),
    "swapped": (GOOD[TEST_IMAGES], f"this is {TEST_IMAGES} of mnist"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_file_is_not_the_published_one(folder, fault):
    content, message = FAULTS[fault]
    (folder / IMAGES).write_bytes(content)
    with pytest.raises(ValueError, match=f"{IMAGES} is not .*{message}"):
        data.mnist("train", folder)


def test_file_of_the_other_data_set(folder):
    with pytest.raises(ValueError, match=f"{IMAGES} of mnist"):
        data.fashion_mnist("train", folder)


WRONG = {
    "magic": (IMAGES, idx(PIXELS, magic=0x0D03), r"header \[3331, 100"),
    "labels for images": (IMAGES, GOOD[LABELS], r"header \[2049, 100"),
    "size": (IMAGES, idx(PIXELS[:, 1:]), r"header \[2051, 100, 27, 28\]"),
    "long header": (LABELS, idx(CLASSES, sizes=[101]), "before 100 bytes"),
    "short header": (LABELS, idx(CLASSES, sizes=[99]), "before 100 bytes"),
    "nothing": (LABELS, gzip.compress(b""), r"header \[0, 0\]"),
    "label": (LABELS, idx(CLASSES + 1), "labels up to 10"),
    "count": (LABELS, idx(CLASSES[:99]), "99 labels .* the 100 images"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_content_is_not_mnist(folder, monkeypatch, fault):
    name, content, message = WRONG[fault]
    (folder / name).write_bytes(content)
    publish(monkeypatch, GOOD | {name: content})
    with pytest.raises(ValueError, match=f"{name}: .*{message}.*allowed"):
        data.mnist("train", folder)


def test_published_sums():
    sums = [s for sums in data.SHA256.values() for s in sums]
    assert len(set(sums)) == 8
    assert all(len(s) == 64 and int(s, 16) for s in sums)
    assert data.SHA256.keys() == data.MIRRORS.keys()


# --- download ---------------------------------------------------------------


def test_download_once(cache, serve):
    mirror = serve()
    assert_is_train(data.mnist("train"))
    assert_is_train(data.mnist("train"))
    assert mirror.requests == [(IMAGES, None), (LABELS, None)]
    assert {file.name for file in cache.iterdir()} == {IMAGES, LABELS}


def test_damaged_cache(cache, serve):
    serve()
    data.mnist("train")
    (cache / IMAGES).write_bytes(GOOD[IMAGES][:-1])
    with pytest.raises(ValueError, match=f"{IMAGES} is not .*delete it"):
        data.mnist("train")


def test_broken_connection_is_continued(cache, serve):
    mirror = serve(behaviour="cut once")
    assert_is_train(data.mnist("train"))
    half = len(GOOD[IMAGES]) // 2
    assert mirror.requests[:2] == [(IMAGES, None), (IMAGES, f"bytes={half}-")]


def test_part_is_continued_in_a_later_call(cache, serve):
    mirror = serve(behaviour="cut")
    with pytest.raises(ConnectionError, match="bytes early"):
        data.mnist("train")
    assert [file.name for file in cache.iterdir()] == [f"{IMAGES}.part"]
    part = (cache / f"{IMAGES}.part").read_bytes()
    assert part == GOOD[IMAGES][: len(part)]
    mirror.behaviour = ""
    assert_is_train(data.mnist("train"))
    assert (IMAGES, f"bytes={len(part)}-") == mirror.requests[2]


@pytest.mark.parametrize("behaviour", ["no range", "416"])
@pytest.mark.parametrize("size", [5000, 10**6])
def test_mirror_that_cannot_continue(cache, serve, behaviour, size):
    mirror = serve(behaviour=behaviour)
    cache.mkdir()
    part = GOOD[IMAGES].ljust(size, b"x")[:size]
    (cache / f"{IMAGES}.part").write_bytes(part)
    assert_is_train(data.mnist("train"))
    first, second, *_ = mirror.requests
    assert first == (IMAGES, f"bytes={size}-")
    # Without ranges the first answer is the file, if the part is shorter.
    at_once = behaviour == "no range" and size == 5000
    assert second == (LABELS if at_once else IMAGES, None)


def test_wrong_part_is_replaced(cache, serve):
    mirror = serve()
    cache.mkdir()
    (cache / f"{IMAGES}.part").write_bytes(b"x" * 5000)
    assert_is_train(data.mnist("train"))
    assert mirror.requests[:2] == [(IMAGES, "bytes=5000-"), (IMAGES, None)]


def test_wrong_checksum_leaves_nothing(cache, serve):
    serve(files=GOOD | {IMAGES: GOOD[TEST_IMAGES]})
    with pytest.raises(ConnectionError, match="not the published") as caught:
        data.mnist("train")
    assert str(caught.value).startswith(f"no mirror delivered {IMAGES}")
    assert not list(cache.iterdir())


def test_second_mirror(cache, serve):
    bad, good = serve(files={}), serve()
    assert_is_train(data.mnist("train"))
    assert bad.requests == good.requests


def test_second_mirror_continues_the_first(cache, serve):
    serve(behaviour="cut")
    second = serve()
    assert_is_train(data.mnist("train"))
    half = len(GOOD[IMAGES]) // 2
    assert second.requests[0] == (IMAGES, f"bytes={half}-")


def test_no_mirror_answers(cache, serve, monkeypatch):
    serve(files={})
    addresses = (*data.MIRRORS["mnist"], "http://127.0.0.1:1/")
    monkeypatch.setitem(data.MIRRORS, "mnist", addresses)
    with pytest.raises(ConnectionError) as caught:
        data.mnist("test")
    text = str(caught.value)
    assert all(f"{address}{TEST_IMAGES}: " in text for address in addresses)
    assert all(word in text for word in ("404", "refused", "folder="))
    assert not list(cache.iterdir())


def test_silent_mirror(cache, serve, monkeypatch):
    monkeypatch.setattr(data, "TIMEOUT", 0.5)
    serve(behaviour="stall")
    serve()
    begin = time.monotonic()
    assert_is_train(data.mnist("train"))
    assert time.monotonic() - begin < 10


def test_two_readers_at_once(cache, serve):
    serve()
    results = []
    readers = [
        threading.Thread(target=lambda: results.append(data.mnist("train")))
        for _ in range(2)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(results) == 2
    for result in results:
        assert_is_train(result)


def test_killed_before_the_move(cache, serve, monkeypatch):
    mirror = serve()
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            data.mnist("train")
    assert [file.name for file in cache.iterdir()] == [f"{IMAGES}.part"]
    assert_is_train(data.mnist("train"))
    size = len(GOOD[IMAGES])
    assert mirror.requests[1] == (IMAGES, f"bytes={size}-")


def interrupt(*_):
    raise KeyboardInterrupt


def test_killed_midway(cache, serve):
    mirror = serve(behaviour="stall")
    code = (
        "import json, sys; from learning_mechanics import data;"
        "data.CHUNK, table = 1000, json.loads(sys.argv[1]);"
        "data.MIRRORS['mnist'], data.SHA256['mnist'] = table;"
        "data.mnist('train')"
    )
    table = json.dumps([data.MIRRORS["mnist"], data.SHA256["mnist"]])
    process = subprocess.Popen([sys.executable, "-c", code, table])
    part = cache / f"{IMAGES}.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    saved = part.read_bytes()
    assert saved == GOOD[IMAGES][: len(saved)]
    assert [file.name for file in cache.iterdir()] == [part.name]
    mirror.behaviour = ""
    assert_is_train(data.mnist("train"))
    assert mirror.requests[1] == (IMAGES, f"bytes={len(saved)}-")


# --- transformations --------------------------------------------------------


def correlated(dtype=torch.float64):
    """Return 200 inputs in 6 dimensions that vary in 5 directions."""
    stream = torch.Generator().manual_seed(5)
    latent = torch.randn(200, 5, generator=stream, dtype=torch.float64)
    mixing = torch.randn(5, 6, generator=stream, dtype=torch.float64)
    return (latent @ mixing + 3).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whiten_has_identity_covariance(dtype):
    white = data.whiten(correlated(dtype))
    assert (white.shape, white.dtype) == ((200, 5), dtype)
    covariance = np.cov(white.numpy(), rowvar=False, bias=True)
    error = 10 * torch.finfo(dtype).eps
    np.testing.assert_allclose(covariance, np.eye(5), atol=error)
    np.testing.assert_allclose(white.mean(0).numpy(), 0, atol=error)


def test_whiten_agrees_with_eigenvectors():
    inputs = correlated().numpy()
    variances, axes = np.linalg.eigh(np.cov(inputs, rowvar=False, bias=True))
    axes = axes[:, [-1, -2, -3]]
    axes *= np.sign([axis[np.abs(axis).argmax()] for axis in axes.T])
    expected = (
        (inputs - inputs.mean(0)) @ axes / variances[[-1, -2, -3]] ** 0.5
    )
    white = data.whiten(correlated(), rank=3).numpy()
    np.testing.assert_allclose(white, expected, atol=1e-12)


def test_whiten_digits_without_their_constant_pixels():
    images, _ = data.digits()
    varying = np.linalg.matrix_rank(np.cov(images.numpy(), rowvar=False))
    assert data.whiten(images).shape == (1797, varying)
    assert data.whiten(images.float()).shape == (1797, varying)


BAD_INPUTS = {
    "list": ([[1.0]], TypeError, "floating-point"),
    "integers": (torch.ones(3, 2).long(), TypeError, "floating-point"),
    "vector": (torch.ones(3), ValueError, "matrix"),
    "empty": (torch.ones(0, 2), ValueError, "matrix"),
    "nan": (torch.tensor([[1.0], [np.nan]]), ValueError, "finite"),
    "infinite": (torch.tensor([[1.0], [np.inf]]), ValueError, "finite"),
    "constant": (torch.full((9, 2), 0.1), ValueError, "the same"),
}


@pytest.mark.parametrize("fault", BAD_INPUTS)
def test_whiten_refuses_inputs(fault):
    inputs, error, message = BAD_INPUTS[fault]
    with pytest.raises(error, match=message):
        data.whiten(inputs)


@pytest.mark.parametrize("rank", [0, -1, 6, 2.5, True, 2.0])
def test_whiten_refuses_ranks(rank):
    with pytest.raises(ValueError, match=f"rank={rank}; allowed: .* 1 to 5"):
        data.whiten(correlated(), rank)


def test_one_hot():
    rows = data.one_hot(torch.tensor([1, 0, 3]), 4)
    assert rows.dtype == torch.float64
    assert rows.equal(torch.eye(4, dtype=torch.float64)[[1, 0, 3]])


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (torch.tensor([0, 3]), ValueError),
        (torch.tensor([-1]), ValueError),
        (torch.tensor([1.0]), TypeError),
        (torch.tensor([[1]]), TypeError),
        ([1], TypeError),
    ],
)
def test_one_hot_refuses(labels, error):
    with pytest.raises(error, match=r"labels=.*allowed"):
        data.one_hot(labels, 3)


@pytest.mark.parametrize("classes", [0, 2.0, "a"])
def test_one_hot_refuses_classes(classes):
    with pytest.raises(ValueError, match=r"classes=.*allowed"):
        data.one_hot(torch.tensor([0]), classes)


def test_text_is_the_source_of_the_standard_library():
    text = data.text()
    assert text == data.text()
    assert "\r" not in text
    modules = (argparse, ast, tokenize, typing)  # in alphabetical order
    places = [text.index(inspect.getsource(m)) for m in modules]
    assert places == sorted(places)


def test_text_without_a_library_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(data.sysconfig, "get_path", lambda name: tmp_path)
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        data.text()
