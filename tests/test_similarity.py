import itertools

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes, subspace_angles
from sklearn.neighbors import NearestNeighbors

from learning_mechanics import similarity

SCORES = (
    similarity.cka,
    similarity.debiased_cka,
    similarity.canonical_correlation,
    similarity.procrustes,
    lambda x, y: similarity.mutual_neighbours(x, y, 3),
)


def draw(n, *widths, seed=0):
    """Return correlated features of n inputs, centred nowhere near zero."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 3))
    return [
        torch.tensor(
            common @ rng.normal(size=(3, p)) + rng.normal(size=(n, p)) + 5
        )
        for p in widths
    ]


def grams(*features):
    """Return centred Gram matrices, by the centring matrix."""
    n = len(features[0])
    h = np.eye(n) - 1 / n
    return [h @ x.numpy() @ x.numpy().T @ h for x in features]


@pytest.mark.parametrize("widths", [(4, 7), (30, 4), (40, 50)])
def test_cka_by_gram_matrices(widths):
    x, y = draw(12, *widths)
    k, gram = grams(x, y)
    naive = np.trace(k @ gram) / np.linalg.norm(k) / np.linalg.norm(gram)
    assert similarity.cka(x, y) == pytest.approx(naive, rel=1e-12)


@pytest.mark.parametrize("widths", [(4, 7), (40, 50)])
def test_debiased_cka_by_the_estimator_of_song_et_al(widths):
    def hsic(x, y):
        n, one = len(x), np.ones(len(x))
        k, gram = ((z @ z.T).numpy() for z in (x, y))
        for matrix in (k, gram):
            np.fill_diagonal(matrix, 0.0)
        return (
            np.trace(k @ gram)
            + (one @ k @ one) * (one @ gram @ one) / (n - 1) / (n - 2)
            - 2 / (n - 2) * one @ k @ gram @ one
        ) / (n * (n - 3))

    x, y = draw(12, *widths)
    naive = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert similarity.debiased_cka(x, y) == pytest.approx(naive, rel=1e-9)


def test_means_over_all_permutations():
    x, y = draw(6, 4, 3)
    orders = [list(order) for order in itertools.permutations(range(6))]
    for score, mean in (
        (similarity.cka, similarity.chance_cka(x, y)),
        (similarity.debiased_cka, 0.0),
        (similarity.canonical_correlation, 4 / 5),
        (lambda a, b: similarity.mutual_neighbours(a, b, 2), 2 / 5),
    ):
        found = np.mean([score(x, y[order]) for order in orders])
        assert found == pytest.approx(mean, abs=1e-12)


def test_mutual_neighbours_by_scikit_learn():
    x, y = draw(40, 5, 6)
    nearest = [
        NearestNeighbors(n_neighbors=7).fit(z).kneighbors()[1] for z in (x, y)
    ]
    shared = [len(set(a) & set(b)) / 7 for a, b in zip(*nearest, strict=True)]
    found = similarity.mutual_neighbours(x, y, 7)
    assert found == pytest.approx(np.mean(shared), rel=1e-12)


def test_canonical_correlation_by_scipy():
    x, y = draw(30, 5, 3)
    angles = subspace_angles(*((z - z.mean(0)).numpy() for z in (x, y)))
    found = similarity.canonical_correlation(x, y)
    assert found == pytest.approx(np.mean(np.cos(angles) ** 2), rel=1e-10)
    # A linear map of lower rank spans less; nothing is lost of that.
    flat = x @ torch.ones(5, 1).double() @ torch.ones(1, 4).double()
    assert similarity.canonical_correlation(x, flat) == pytest.approx(1.0)


def test_procrustes_by_scipy():
    x, y = draw(30, 4, 4)
    a, b = ((z - z.mean(0)).numpy() for z in (x, y))
    _, scale = orthogonal_procrustes(a, b)
    expected = scale / np.linalg.norm(a) / np.linalg.norm(b)
    assert similarity.procrustes(x, y) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("score", SCORES)
def test_scores_ignore_shift_scale_and_rotation(score):
    x, y = draw(25, 6, 4)
    turn = torch.linalg.qr(torch.tensor(np.random.default_rng(1).normal(
        size=(6, 6))))[0]  # fmt: skip
    assert score(x, x) == pytest.approx(1.0)
    assert score(3 * x @ turn - 2, y) == pytest.approx(score(x, y))
    assert score(y, x) == pytest.approx(score(x, y))


def test_participation_ratio_by_eigenvalues():
    (x,) = draw(20, 6)
    values = np.linalg.eigvalsh(np.cov(x.numpy().T))
    expected = values.sum() ** 2 / (values**2).sum()
    assert similarity.participation_ratio(x) == pytest.approx(expected)


def test_calibration_tells_signal_from_chance():
    x, y = draw(30, 40, 40)
    stream = torch.Generator().manual_seed(0)
    alike = similarity.calibrate(
        similarity.cka, x, y, permutations=199, generator=stream
    )
    assert alike.p_value == pytest.approx(1 / 200)
    assert 0 < alike.calibrated < alike.score
    assert alike.chance == pytest.approx(similarity.chance_cka(x, y), abs=0.01)
    noise = torch.randn(30, 40, generator=stream, dtype=torch.float64)
    values = [
        similarity.calibrate(
            similarity.cka, x, noise[torch.randperm(30, generator=stream)],
            permutations=19, generator=stream,
        ).p_value
        for _ in range(60)
    ]  # fmt: skip
    assert 0.35 < np.mean(values) < 0.7  # uniform under chance


@pytest.mark.parametrize(
    ("first", "second", "error"),
    [
        (torch.eye(4), torch.eye(5), "first has 4 inputs and second 5"),
        (torch.eye(4), torch.eye(4).double(), "second is torch.float64"),
        (torch.ones(4, 2), torch.eye(4), "first has equal rows"),
        (torch.eye(4) / 0, torch.eye(4), "first has NaN or infinity"),
        (torch.ones(4), torch.eye(4), "first of shape"),
    ],
)
@pytest.mark.parametrize("score", SCORES)
def test_bad_representations(score, first, second, error):
    with pytest.raises(ValueError, match=error):
        score(first, second)


def test_bad_arguments():
    x, y = draw(6, 3, 3)
    with pytest.raises(TypeError, match="torch.int64"):
        similarity.cka(torch.arange(4)[:, None], x[:4])
    with pytest.raises(ValueError, match="k=6; allowed: integers from 1 to 5"):
        similarity.mutual_neighbours(x, y, 6)
    with pytest.raises(ValueError, match="3 inputs; allowed: at least 4"):
        similarity.debiased_cka(x[:3], y[:3])
    with pytest.raises(ValueError, match="second has a debiased norm of 0"):
        similarity.debiased_cka(x, 3 * torch.eye(6).double() + 1)
    stream = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="level=1.0; allowed: between"):
        similarity.calibrate(
            similarity.cka, x, y, permutations=9, generator=stream, level=1.0
        )
    with pytest.raises(ValueError, match="permutations=0; allowed"):
        similarity.calibrate(
            similarity.cka, x, y, permutations=0, generator=stream
        )
