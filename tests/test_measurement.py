import numpy as np
import pytest
import torch

from learning_mechanics import measurement, tasks


def test_modes_of_a_teacher_are_its_strengths():
    target, left, right = tasks.linear_teacher(
        [3.0, 1.0], 5, 4, torch.Generator().manual_seed(0)
    )
    strengths = measurement.mode_strengths(target, left, right)
    assert strengths.tolist() == pytest.approx([3.0, 1.0])


def test_hidden_modes_multiply_to_strengths():
    rng = np.random.default_rng(0)
    first, second = (
        torch.tensor(rng.normal(size=(6, 5))),
        torch.tensor(rng.normal(size=(4, 6))),
    )
    _, left, right = tasks.linear_teacher(
        [2.0, 1.0], 5, 4, torch.Generator().manual_seed(1)
    )
    p, q = measurement.hidden_modes(first, second, left, right)
    strengths = measurement.mode_strengths(second @ first, left, right)
    assert torch.allclose((p * q).sum(0), strengths)


def test_balance_by_hand():
    first = torch.tensor([[1.0, 2.0]])
    second = torch.tensor([[3.0], [4.0]])
    assert measurement.balance(first, second).item() == 25.0 - 5.0


def test_crossing_time_of_known_curves():
    t = np.linspace(0, 10, 2001)
    curves = np.stack([t**2, 1 - np.exp(-t)], 1)
    times = measurement.crossing_time(t, curves, [2.0, 0.5])
    assert times == pytest.approx([2**0.5, np.log(2)], abs=1e-5)


def test_crossing_time_takes_the_first_crossing():
    times = measurement.crossing_time(
        [0.0, 1.0, 2.0, 3.0], [[0.0], [2.0], [0.0], [2.0]], [1.0]
    )
    assert times.tolist() == [0.5]


def test_shapes_and_types_must_fit():
    eye, wide = torch.eye(2), torch.ones(2, 3)
    one = torch.ones(2, 1)
    for call in (
        lambda: measurement.mode_strengths(wide, eye, eye),
        lambda: measurement.mode_strengths(eye, one, eye),
        lambda: measurement.mode_strengths(torch.ones(5, 2, 2), eye, eye),
        lambda: measurement.mode_strengths(eye, eye, eye.double()),
        lambda: measurement.hidden_modes(eye, eye, eye, one),
        lambda: measurement.balance(one.T, wide),
        lambda: measurement.balance(eye[0], eye[0]),
    ):
        with pytest.raises(ValueError, match="allowed"):
            call()


@pytest.mark.parametrize(
    ("time", "curves", "levels"),
    [
        ([0.0, 1.0, 2.0], [[0.0], [2.0]], [1.0]),
        ([0.0, 1.0], [0.0, 2.0], [1.0]),
        ([0.0, 1.0], [[0.0, 0.0], [2.0, 2.0]], 1.0),
        ([0.0, 1.0], [[0.0], [np.nan]], [1.0]),
        ([0.0, 1.0], [[0.0], [np.inf]], [1.0]),
        ([1.0, 0.0], [[0.0], [2.0]], [1.0]),
        ([], np.ones((0, 1)), [1.0]),
    ],
)
def test_crossing_time_refuses_what_does_not_fit(time, curves, levels):
    with pytest.raises(ValueError, match="allowed"):
        measurement.crossing_time(time, curves, levels)


@pytest.mark.parametrize("level", [-1.0, 5.0])
def test_crossing_time_refuses_levels_not_crossed(level):
    with pytest.raises(ValueError, match=r"curves \[1\]"):
        measurement.crossing_time(
            [0.0, 1.0], [[0.0, 0.0], [3.0, 1.0]], [2.0, level]
        )
