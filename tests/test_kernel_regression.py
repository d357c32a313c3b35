"""Regression against refits, small steps, numpy and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge

from learning_mechanics import kernel_regression, spectra


def inputs(n=40, d=6, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=stream, dtype=torch.float64)


def rbf(x, other=None):
    other = x if other is None else other
    return torch.from_numpy(RBF(2.0)(x.numpy(), other.numpy()))


@pytest.mark.parametrize("shape", [(40,), (40, 3)])
def test_ridge_against_numpy_and_sklearn(shape):
    kernel = rbf(inputs())
    y = inputs(40, 3, seed=7)[:, 0] if shape == (40,) else inputs(40, 3, 7)
    ours = kernel_regression.coefficients(kernel, y, ridge=0.1)
    np.testing.assert_allclose(
        ours, np.linalg.solve(kernel.numpy() + 0.1 * np.eye(40), y), atol=1e-10
    )
    peer = KernelRidge(alpha=0.1, kernel="precomputed").fit(kernel, y)
    np.testing.assert_allclose(kernel @ ours, peer.predict(kernel), atol=1e-10)


def test_leave_one_out_against_refits():
    kernel = rbf(inputs())
    y = inputs(40, 2, seed=7)
    ours = kernel_regression.leave_one_out(kernel, y, ridge=0.1)
    for i in range(40):
        rest = torch.arange(40) != i
        alpha = kernel_regression.coefficients(
            kernel[rest][:, rest], y[rest], ridge=0.1
        )
        torch.testing.assert_close(ours[i], y[i] - kernel[i, rest] @ alpha)
    alone = kernel_regression.leave_one_out(kernel, y[:, 0], ridge=0.1)
    torch.testing.assert_close(alone, ours[:, 0])


def test_gradient_flow_against_small_steps():
    x, new = inputs(8), inputs(5, seed=1)
    kernel = rbf(x)
    cross = rbf(new, x)
    y = inputs(8, 2, seed=7)
    train, test, step = torch.zeros_like(y), torch.zeros(5, 2).double(), 1e-3
    for _ in range(5000):
        residual = (y - train) / 8
        train, test = (
            train + step * kernel @ residual,
            test + step * cross @ residual,
        )
    times = torch.tensor([0.0, 5.0], dtype=torch.float64)
    ours = kernel_regression.gradient_flow(kernel, y, times, cross)
    assert ours.shape == (2, 5, 2)
    assert not ours[0].any()
    torch.testing.assert_close(ours[1], test, rtol=0, atol=1e-3)
    ours = kernel_regression.gradient_flow(kernel, y[:, 0], times)
    torch.testing.assert_close(ours[1], train[:, 0], rtol=0, atol=1e-3)


def test_gradient_flow_of_a_singular_kernel_grows_only_where_it_can():
    kernel = torch.ones(2, 2, dtype=torch.float64)
    y = torch.tensor([1.0, 0.0], dtype=torch.float64)
    late = kernel_regression.gradient_flow(
        kernel, y, torch.tensor([1e6]).double()
    )
    torch.testing.assert_close(late, torch.full((1, 2), 0.5).double())


@pytest.mark.parametrize(
    ("error", "text", "call"),
    [
        (TypeError, "targets is list",
         lambda: kernel_regression.leave_one_out(torch.eye(2), [1.0, 2.0])),
        (ValueError, "eigenvalue -1 .*positive definite",
         lambda: kernel_regression.coefficients(-torch.eye(2), torch.ones(2))),
        (ValueError, "kernel of shape",
         lambda: kernel_regression.coefficients(torch.eye(2), torch.ones(3))),
        (ValueError, "transpose",
         lambda: kernel_regression.leave_one_out(
             torch.ones(2, 2).triu(), torch.ones(2))),
        (ValueError, "ridge=-1",
         lambda: kernel_regression.leave_one_out(
             torch.eye(2), torch.ones(2), ridge=-1)),
        (ValueError, "eigenvalue -1",
         lambda: kernel_regression.gradient_flow(
             -torch.eye(2), torch.ones(2), torch.ones(1))),
        (ValueError, "times from -1",
         lambda: kernel_regression.gradient_flow(
             torch.eye(2), torch.ones(2), -torch.ones(1))),
        (ValueError, "test_kernel of shape",
         lambda: kernel_regression.gradient_flow(
             torch.eye(2), torch.ones(2), torch.ones(1), torch.ones(1, 3))),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(error, text, call):
    with pytest.raises(error, match=text):
        call()


def gaussian_features(n, seed):
    """Return a power-law kernel, clean targets, and its eigenstructure."""
    rng = np.random.default_rng(seed)
    eigenvalues = np.arange(1, 2001) ** -1.5
    coefficients = np.arange(1, 2001) ** -0.9
    features = rng.normal(size=(n, 2000))
    kernel = (features * eigenvalues) @ features.T
    return (
        torch.from_numpy(kernel),
        torch.from_numpy(features @ coefficients),
        (eigenvalues, coefficients),
    )


@pytest.mark.parametrize(("ridge", "noise"), [(0.0, 0.0), (0.1, 0.3)])
def test_learning_curve_finds_the_population_from_a_sample(ridge, noise):
    sizes = [30, 100, 300]
    pools = [gaussian_features(500, seed) for seed in range(10)]
    found = np.mean(
        [
            kernel_regression.learning_curve(
                kernel, y, sizes, ridge=ridge, noise=noise
            )
            for kernel, y, _ in pools
        ],
        0,
    )
    # The theory is told all 2000 eigenvalues; a sample shows 500.
    truth = spectra.learning_curve(
        *pools[0][2], sizes, ridge=ridge, noise=noise
    )
    np.testing.assert_allclose(found, truth, rtol=0.06, atol=1e-12)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_learning_curve_ends_in_the_leave_one_out_error(ridge):
    kernel, y = rbf(inputs()), inputs(40, 2, seed=7)
    test, _ = kernel_regression.learning_curve(kernel, y, 40, ridge=ridge)
    errors = kernel_regression.leave_one_out(kernel, y, ridge=ridge)
    assert test.shape == ()
    assert test == pytest.approx(errors.square().sum(1).mean().item())


def test_learning_curve_of_few_features_is_that_of_least_squares():
    # Isotropic features, pure noise: n / (n - p) below, p / (p - n) above.
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1500, 60))
    kernel = torch.from_numpy(features @ features.T)
    sizes = np.array([[15, 30], [60, 240]])
    test, train = kernel_regression.learning_curve(
        kernel, 0 * kernel[0], sizes, noise=1.0
    )
    expected = [[60 / 45, 2.0], [np.inf, 240 / 180]]
    np.testing.assert_allclose(test, expected, rtol=0.03)
    np.testing.assert_allclose(train[1, 1], 180 / 240, rtol=0.03)
    assert not train[0].any()


def test_learning_curve_does_not_depend_on_units():
    kernel, y = rbf(inputs()), inputs(40, 2, seed=7)
    for n in (1, 7, 40):
        plain = kernel_regression.learning_curve(kernel, y, n, ridge=0.1)
        scaled = kernel_regression.learning_curve(
            1e6 * kernel, y / 10, n, ridge=1e5
        )
        np.testing.assert_allclose(np.multiply(100, scaled), plain, rtol=1e-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": 41}, "from 1 to 40"),
        ({"sizes": [0, 3]}, "from 1 to 40"),
        ({"sizes": []}, "from 1 to 40"),
        ({"ridge": -1.0}, "ridge"),
        ({"noise": float("nan")}, "noise"),
        ({"kernel": torch.eye(40), "targets": torch.ones(40)}, "float64"),
        ({"kernel": -torch.eye(40).double()}, "positive"),
    ],
)
def test_learning_curve_names_what_is_wrong(change, message):
    arguments = {"kernel": rbf(inputs()), "targets": inputs(40, 2, 7)}
    with pytest.raises(ValueError, match=message):
        kernel_regression.learning_curve(**(arguments | {"sizes": 4} | change))
