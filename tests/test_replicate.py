"""Replications that finish, are killed, resumed, extended, sent to Dask."""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time

import nbformat
import psutil
import pytest
from nbformat import v4

import replicate
from learning_mechanics import results
from stamp import ROOT

IMPORTS = """\
import os, time
from pathlib import Path
import numpy as np
from learning_mechanics import predictions
from learning_mechanics.predictions import Prediction
seed = int(os.environ["LEARNING_MECHANICS_SEED"])
rng = np.random.default_rng(seed)
with open(os.environ["TINY"] + "/log", "a") as log:
    print(seed, os.getpid(), file=log)
while Path(os.environ["TINY"], f"hold-{seed}").exists():
    time.sleep(0.05)
"""
TEST = """\
one = Prediction("tiny/one", "A mean is 1.", tolerance=0.1, source="x")
value = rng.normal(1, 0.05, 3)
one.test(predicted=[1, 1, 1], measured=value)"""
EDGE = """\
edge = Prediction("tiny/edge", "Not 2.", tolerance=0.4, source="x")
edge.breaks(predicted=2, measured=value[0])
predictions.summary()"""


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book with one tiny chapter, and the tools."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    (tmp_path / "chapters/solvable").mkdir(parents=True)
    write(tmp_path, IMPORTS, TEST, EDGE)
    for name, value in {
        "TINY": str(tmp_path),
        "CI": "true",
        "LEARNING_MECHANICS_SCALE": "quick",
        "LEARNING_MECHANICS_DEVICE": "cpu",
        "LEARNING_MECHANICS_SEED": "0",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def write(book, *sources, name="tiny"):
    cells = [v4.new_markdown_cell("# Tiny"), *map(v4.new_code_cell, sources)]
    nbformat.write(
        v4.new_notebook(cells=cells), book / f"chapters/solvable/{name}.ipynb"
    )


def command(book, *arguments):
    tool = str(book / "tools/replicate.py")
    return [sys.executable, tool, *arguments]


def run(book, *arguments):
    return subprocess.run(
        command(book, *arguments), capture_output=True, text=True, timeout=900
    )


def stored(book):
    return results.Replication.read(
        book / "results/replication/solvable/tiny.json"
    )


def log(book):
    """Return seed and kernel of every run that was started."""
    path = book / "log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(map(int, line.split())) for line in lines]


def seeds(book):
    return sorted(seed for seed, _ in log(book))


def wait(condition, limit=240):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def measured(seed):
    import numpy as np

    return np.random.default_rng(seed).normal(1, 0.05, 3)


def start(book, *arguments):
    return subprocess.Popen(
        command(book, *arguments),
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_replication_resumes_and_is_extended(book):
    (book / "hold-3").touch()
    first = start(book, "--seeds", "3")
    wait(lambda: len(list(book.glob(".runs/*.npz"))) == 2)
    wait(lambda: 3 in seeds(book))
    kernel = dict(log(book))[3]
    os.kill(psutil.Process(kernel).ppid(), signal.SIGKILL)  # its worker
    wait(lambda: not psutil.pid_exists(kernel))
    wait(lambda: seeds(book) == [1, 2, 3, 3])
    kernel = dict(log(book))[3]
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    wait(lambda: not psutil.pid_exists(kernel))  # its worker's end is its own
    (book / "hold-3").unlink()
    half = next(book.glob(".runs/*.npz"))
    half.write_bytes(half.read_bytes()[:-99])

    again = run(book, "--seeds", "3")
    assert again.returncode == 0
    assert f"{half} is damaged, its run is computed again" in again.stderr
    assert len(seeds(book)) == 6
    found = stored(book)
    assert found.seeds == [1, 2, 3]
    values = [measured(seed) for seed in (1, 2, 3)]
    one, edge = found.predictions.values()
    assert one.error == pytest.approx(
        [max(abs(v - 1)) for v in values], rel=1e-5
    )
    assert one.held == sum(max(abs(v - 1)) <= 0.1 for v in values)
    assert edge.held == sum(abs(v[0] - 2) / 2 > 0.4 for v in values)
    for i, (mean, sd) in enumerate(zip(one.measured, one.sd, strict=True)):
        column = [v[i] for v in values]
        assert mean == pytest.approx(statistics.mean(column), rel=1e-5)
        assert sd == pytest.approx(statistics.stdev(column), rel=1e-5)

    # More seeds add to them, also after Ctrl-C; fewer, or others, leave them.
    (book / "hold-4").touch()
    # Where pytest runs in the background, its processes would ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    second = start(book, "--seeds", "4")
    signal.signal(signal.SIGINT, before)
    wait(lambda: 4 in seeds(book))
    kernel = dict(log(book))[4]
    os.killpg(second.pid, signal.SIGINT)
    assert "replicate: stopped" in second.communicate(timeout=900)[1]
    assert second.returncode == 1
    wait(lambda: not psutil.pid_exists(kernel))
    (book / "hold-4").unlink()
    assert run(book, "--seeds", "4").returncode == 0
    assert len(seeds(book)) == 8
    assert stored(book).seeds == [1, 2, 3, 4]
    for other in ("2", "5:6"):
        text = run(book, "--seeds", other).stdout
        assert "2  tiny/one" in text
        assert "left as it is" in text
        assert stored(book).seeds == [1, 2, 3, 4]
    assert len(seeds(book)) == 10

    # Other code is another run; other words are not.
    nb = nbformat.read(book / "chapters/solvable/tiny.ipynb", as_version=4)
    nb.cells[0].source = "# Other words"
    nbformat.write(nb, book / "chapters/solvable/tiny.ipynb")
    run(book, "--seeds", "1")
    assert len(seeds(book)) == 10
    write(book, IMPORTS, TEST + "\n", EDGE + "\n1 + 1")
    run(book, "--seeds", "1")
    assert len(seeds(book)) == 11
    assert stored(book).seeds == [1, 2, 3, 4]  # the errors are the same


def test_a_cell_that_dies_is_named_and_the_others_are_kept(book):
    write(book, IMPORTS, "1 / (seed - 2)", TEST, EDGE)
    write(book, IMPORTS, TEST, name="well")
    found = run(book, "--seeds", "3")
    assert found.returncode == 1
    assert (
        "chapters/solvable/tiny.ipynb, cell 3, under seed 2: "
        "ZeroDivisionError: division by zero" in found.stderr
    )
    assert len(list(book.glob(".runs/*.npz"))) == 5
    assert [path.stem for path in book.glob("results/*/*/*")] == ["well"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seeds", "0"], "allowed: how many"),
        (["--seeds", "3:2"], "allowed: how many"),
        (["--seeds", "x"], "allowed: how many"),
        (["gone.ipynb"], "gone.ipynb; allowed: chapters/solvable/tiny"),
        (["--dask", "127.0.0.1:1"], "no Dask scheduler at 127.0.0.1:1: "),
    ],
)
def test_wrong_arguments_are_named(book, arguments, words):
    found = run(book, *arguments)
    assert found.returncode
    assert words in found.stderr


def test_dask_gives_the_same_numbers_though_a_worker_is_killed(book):
    distributed = pytest.importorskip("distributed")
    assert run(book, "--seeds", "3").returncode == 0
    loky = stored(book)
    shutil.rmtree(book / ".runs")
    shutil.rmtree(book / "results")
    (book / "log").unlink()
    (book / "hold-2").touch()
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        process = subprocess.Popen(
            command(book, "--seeds", "3", "--dask", cluster.scheduler_address)
        )
        wait(lambda: len(list(book.glob(".runs/*.npz"))) == 2)
        wait(lambda: 2 in seeds(book))
        kernel = dict(log(book))[2]
        worker = psutil.Process(kernel).ppid()
        assert worker in [n.process.pid for n in cluster.workers.values()]
        os.kill(worker, signal.SIGKILL)
        wait(lambda: not psutil.pid_exists(kernel))
        (book / "hold-2").unlink()
        assert process.wait(300) == 0
    assert seeds(book) == [1, 2, 2, 3]
    assert stored(book) == loky


def test_a_worker_with_another_package_is_named():
    with pytest.raises(RuntimeError, match="a, under seed 1: the package or"):
        replicate.execute("a", [""], 1, "what another package gives")


def test_a_run_is_named_by_the_modules_that_it_imports(tmp_path, monkeypatch):
    package = tmp_path / "learning_mechanics"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "a": "from learning_mechanics import b",
        "b": "from learning_mechanics.c import x",
        "c": "import learning_mechanics.d",
        "d": "",
        "e": "",
    }.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.setattr(
        replicate.learning_mechanics, "__file__", f"{package}/__init__.py"
    )

    def digest():
        return replicate.foundation(
            ["%pip install x", "from learning_mechanics import a"]
        )

    before = digest()
    (package / "e.py").write_text("x = 1")
    (package / "d.py").write_text('"""Docstring."""  # comment')
    assert digest() == before
    found = {before}
    for name in "abcd":
        text = (package / f"{name}.py").read_text()
        (package / f"{name}.py").write_text(text + "\nx = 1")
        found.add(digest())
    versions = replicate.versions()
    assert versions["torch"]
    monkeypatch.setattr(replicate, "versions", lambda: versions | {"a": "1"})
    found.add(digest())
    assert len(found) == 6
