import subprocess

import pytest
import torch

from learning_mechanics import runtime
from stamp import ROOT


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("DEVICE", "SCALE", "SEED"):
        monkeypatch.delenv(f"LEARNING_MECHANICS_{name}", raising=False)


def test_device_follows_the_variable(monkeypatch):
    monkeypatch.setenv("LEARNING_MECHANICS_DEVICE", "cpu")
    assert runtime.device() == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_device_refuses_what_is_not_there(monkeypatch, name):
    monkeypatch.setenv("LEARNING_MECHANICS_DEVICE", name)
    with pytest.raises(ValueError, match="LEARNING_MECHANICS_DEVICE"):
        runtime.device()


def test_device_refuses_what_is_no_type():
    with pytest.raises(TypeError, match="dtype='float32'; allowed"):
        runtime.device("float32")


@pytest.mark.parametrize(
    ("cuda", "mps", "dtype", "expected"),
    [
        (True, True, torch.float64, "cuda"),
        (False, True, torch.float32, "mps"),
        (False, True, torch.float64, "cpu"),
        (False, False, torch.float32, "cpu"),
    ],
)
def test_device_order(monkeypatch, cuda, mps, dtype, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert runtime.device(dtype).type == expected


def test_scale_is_quick_without_an_accelerator(monkeypatch):
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cpu"))
    assert runtime.scale(quick=1, full=2) == 1
    monkeypatch.setattr(runtime, "device", lambda: torch.device("cuda"))
    assert runtime.scale(quick=1, full=2) == 2


@pytest.mark.parametrize(("name", "value"), [("quick", 1), ("full", 2)])
def test_scale_follows_the_variable(monkeypatch, name, value):
    monkeypatch.setenv("LEARNING_MECHANICS_SCALE", name)
    assert runtime.scale(quick=1, full=2) == value


@pytest.mark.parametrize(
    ("quick", "full"),
    [(1, 2.0), ((1,), (2,)), ("a", "b"), (["a"], ["b"])],
)
def test_scale_refuses_what_it_cannot_step(quick, full):
    with pytest.raises(ValueError, match="allowed: two integers, two floats"):
        runtime.scale(quick=quick, full=full)


def test_scale_refuses_another_name(monkeypatch):
    monkeypatch.setenv("LEARNING_MECHANICS_SCALE", "huge")
    with pytest.raises(ValueError, match="'huge'.*quick, full"):
        runtime.scale(quick=1, full=2)


def test_the_variable_shifts_every_seed(monkeypatch):
    plain = {runtime.seed(i) for i in range(100)}
    monkeypatch.setenv("LEARNING_MECHANICS_SEED", "1")
    assert not plain & {runtime.seed(i) for i in range(100)}


@pytest.mark.parametrize("shift", ["-1", "1.5", "a", "", "100000", "²"])
def test_seed_refuses_what_is_no_count(monkeypatch, shift):
    monkeypatch.setenv("LEARNING_MECHANICS_SEED", shift)
    with pytest.raises(ValueError, match="LEARNING_MECHANICS_SEED"):
        runtime.seed()


@pytest.mark.parametrize("number", [-1, 10_000, 1.5, True, "a"])
def test_seed_refuses_numbers_out_of_range(number):
    with pytest.raises(ValueError, match=f"number={number!r}; allowed"):
        runtime.seed(number)


def test_generators_differ_by_number_and_repeat():
    draw = [torch.rand(3, generator=runtime.generator(i)) for i in (0, 1, 0)]
    assert torch.equal(draw[0], draw[2])
    assert not torch.equal(draw[0], draw[1])


def test_the_book_is_around_the_notebook(monkeypatch):
    for folder in ("", "chapters", "chapters/solvable"):
        monkeypatch.chdir(ROOT / folder)
        assert runtime.book() == ROOT


def test_a_notebook_alone_fetches_the_book_once(monkeypatch, tmp_path):
    source, place = tmp_path / "source", tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    address = {"Project-URL": f"Repository, {source.as_uri()}"}
    monkeypatch.setattr(runtime, "metadata", lambda name: address)
    with pytest.raises(subprocess.CalledProcessError):
        runtime.book()
    subprocess.run(["git", "init", "--quiet", source], check=True)
    (source / "_toc.yml").touch()
    git = ["git", "-C", source, "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "add", "_toc.yml"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "Book"], check=True)
    assert runtime.book() == place / "book"
    assert (runtime.book() / "_toc.yml").is_file()


def test_progress_is_silent_in_ci(monkeypatch, capsys):
    monkeypatch.setenv("CI", "true")
    assert list(runtime.progress(range(3))) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("CI")
    assert list(runtime.progress(range(3), "work")) == [0, 1, 2]
    assert "work" in capsys.readouterr().err


def test_the_reduced_scale_is_one_step_from_quick(monkeypatch):
    monkeypatch.setenv("LEARNING_MECHANICS_SCALE", "reduced")
    for quick, full, reduced in (
        (16, 64, 32),
        (5, 7, 7),
        (3, 3, 3),
        (1.0, 2.0, 1.5),
        ([1, 2], [1, 2, 4, 8], [1, 2, 4]),
        ([1], [2], [2]),
        ([8, 1.0], [64, 2.0], [16, 1.5]),
    ):
        assert runtime.scale(quick=quick, full=full) == reduced
