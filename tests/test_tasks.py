import numpy as np
import pytest
import torch

from learning_mechanics import tasks


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def test_orthonormal_is_uniform_to_second_order():
    draws = torch.stack(
        [tasks.orthonormal(4, 1, stream(i)) for i in range(4000)]
    )
    entries = draws.squeeze().numpy()
    # A uniform direction in 4 dimensions: mean 0, covariance I/4.
    assert np.abs(entries.mean(0)).max() < 0.03
    assert np.abs(np.cov(entries.T) - np.eye(4) / 4).max() < 0.02


@pytest.mark.parametrize("k", [0, 4, 2.0])
def test_orthonormal_refuses_a_bad_count(k):
    with pytest.raises(ValueError, match=f"k={k}"):
        tasks.orthonormal(3, k, stream())


def test_an_unseeded_stream_is_refused():
    for draw in (
        lambda: tasks.orthonormal(3, 2, None),
        lambda: tasks.linear_teacher([1.0], 3, 2, None),
        lambda: tasks.hierarchy(2, 3, 0.1, None),
    ):
        with pytest.raises(TypeError, match="generator=None; allowed"):
            draw()


def test_linear_teacher_has_the_singular_values_asked_for():
    target, left, right = tasks.linear_teacher([3, 2, 0.5], 6, 5, stream())
    assert target.shape == (5, 6)
    assert np.linalg.svd(target)[1][:4] == pytest.approx([3, 2, 0.5, 0])
    assert torch.allclose(
        left.T @ target @ right,
        torch.diag(torch.tensor([3.0, 2.0, 0.5], dtype=torch.float64)),
    )


@pytest.mark.parametrize(
    "strengths",
    [
        [1.0, 2.0],
        [1.0, -1.0],
        [float("nan")],
        [],
        [3, 2, 1, 0.5],
        1.0,
        [[1.0]],
    ],
)
def test_linear_teacher_refuses_bad_strengths(strengths):
    with pytest.raises(ValueError, match="allowed"):
        tasks.linear_teacher(strengths, 3, 3, stream())


def test_hierarchy_correlations_follow_the_tree():
    flip = 0.1
    items = tasks.hierarchy(3, 200_000, flip, stream()).numpy()
    measured = items @ items.T / items.shape[1]
    for i in range(8):
        for j in range(8):
            joined = (i ^ j).bit_length()  # branchings up to the ancestor
            expected = (1 - 2 * flip) ** (2 * joined)
            assert measured[i, j] == pytest.approx(expected, abs=0.01)


def test_hierarchy_without_flips_copies_the_root():
    items = tasks.hierarchy(2, 50, 0.0, stream())
    assert (items == items[0]).all()
    assert items[0].unique().tolist() == [-1.0, 1.0]


@pytest.mark.parametrize(
    "bad",
    [
        (0, 5, 0.1),
        (2, 0, 0.1),
        (2, 5, 0.6),
        (60, 5, 0.1),
        (2, 5, float("nan")),
    ],
)
def test_hierarchy_refuses_bad_sizes(bad):
    with pytest.raises(ValueError, match="allowed"):
        tasks.hierarchy(*bad, stream())
