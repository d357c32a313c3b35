r"""Regression with a kernel: its fit, its errors, its training.

A kernel is the matrix K of its values between the n training inputs,
symmetric and float32 or float64, wherever it came from. A tensor of another
type raises a TypeError; shapes, types and devices that do not fit each other,
values that are not finite or out of their range, a ValueError.
"""

import math

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from learning_mechanics import _checks


@torch.no_grad()
def coefficients(
    kernel: torch.Tensor, targets: torch.Tensor, *, ridge: float = 0.0
) -> torch.Tensor:
    r"""Solve :math:`(K+\lambda I)\alpha=y` by Cholesky.

    The prediction at new inputs is ``test_kernel @ coefficients``.

    Parameters
    ----------
    kernel : torch.Tensor
        K, [n, n].
    targets : torch.Tensor
        y, [n] or [n, k].
    ridge : float
        :math:`\lambda\ge0`.

    Returns
    -------
    torch.Tensor
        :math:`\alpha`, like `targets`.

    Raises
    ------
    TypeError, ValueError
        See the top of the module; also if :math:`K+\lambda I` is not
        positive definite.

    Examples
    --------
    >>> coefficients(torch.eye(2), torch.tensor([2.0, 4.0]), ridge=1.0)
    tensor([1., 2.])
    """
    factor = _cholesky(kernel, targets, ridge)
    return torch.cholesky_solve(
        targets.reshape(len(targets), -1), factor
    ).reshape(targets.shape)


@torch.no_grad()
def leave_one_out(
    kernel: torch.Tensor, targets: torch.Tensor, *, ridge: float = 0.0
) -> torch.Tensor:
    r"""Errors of kernel regression on each example when it is left out.

    :math:`y_i-f_{-i}(x_i)=\alpha_i\,/\,[(K+\lambda I)^{-1}]_{ii}`, exactly,
    without refitting. Parameters and errors are those of `coefficients`.

    Returns
    -------
    torch.Tensor
        Signed errors, like `targets`.

    Examples
    --------
    >>> kernel = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    >>> leave_one_out(kernel, torch.tensor([1.0, 2.0]))
    tensor([0.0000, 1.5000])
    """
    inverse = torch.cholesky_inverse(_cholesky(kernel, targets, ridge))
    scale = inverse.diagonal().reshape(-1, *[1] * (targets.ndim - 1))
    return inverse @ targets / scale


@torch.no_grad()
def gradient_flow(
    kernel: torch.Tensor,
    targets: torch.Tensor,
    times: torch.Tensor,
    test_kernel: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Predictions along gradient flow in a fixed kernel, exactly.

    The flow of :math:`\frac1{2n}\sum_i(f(x_i)-y_i)^2` from :math:`f_0=0` is

    .. math:: f_t=K_*K^{-1}\bigl(I-e^{-Kt/n}\bigr)y,

    found from the eigenvectors of K. From another start, pass
    :math:`y-f_0` and add :math:`f_0` of the test inputs.

    Parameters
    ----------
    kernel : torch.Tensor
        K, [n, n], positive semi-definite.
    targets : torch.Tensor
        y, [n] or [n, k].
    times : torch.Tensor
        :math:`t\ge0`, learning rate times step, [T].
    test_kernel : torch.Tensor, optional
        :math:`K_*` between test and training inputs, [m, n]; K itself, hence
        predictions on the training inputs, if left out.

    Returns
    -------
    torch.Tensor
        :math:`f_t`, [T, m] or [T, m, k].

    Raises
    ------
    TypeError, ValueError
        See the top of the module; also if K has an eigenvalue that is
        negative beyond rounding.

    Source
    ------
    Jacot et al. (2018), arXiv:1806.07572; Lee et al. (2019),
    arXiv:1902.06720.

    Examples
    --------
    >>> gradient_flow(torch.eye(1), torch.ones(1), torch.tensor([0.0, 1.0]))
    tensor([[0.0000],
            [0.6321]])
    """
    _check(kernel, targets)
    n = len(kernel)
    _checks.tensor("times", times, 1)
    _checks.alike("times", times, "kernel", kernel)
    if times.min() < 0:
        raise ValueError(f"times from {times.min():g}; allowed: from 0")
    if test_kernel is not None:
        _checks.tensor("test_kernel", test_kernel, 2)
        _checks.alike("test_kernel", test_kernel, "kernel", kernel)
        if test_kernel.shape[1] != n:
            raise ValueError(
                f"test_kernel of shape {list(test_kernel.shape)}; allowed: "
                f"{n} columns, one for each training input"
            )
    values, vectors, rounding = _eigenpairs(kernel)
    values = values.clamp(min=rounding.clamp(min=1e-30))
    # (1 - e^(-s t/n)) / s, which tends to t/n as s falls below rounding.
    gain = -torch.expm1(-times[:, None] * values / n) / values  # [T, n]
    modes = vectors.T @ targets.reshape(n, -1)  # [n, k]
    readout = (kernel if test_kernel is None else test_kernel) @ vectors
    curves = readout @ (gain[:, :, None] * modes)  # [T, m, k]
    return curves.reshape(len(times), len(readout), *targets.shape[1:])


@torch.no_grad()
def learning_curve(
    kernel: torch.Tensor,
    targets: torch.Tensor,
    sizes: ArrayLike,
    *,
    ridge: float = 0.0,
    noise: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Predict the errors on fewer samples from one kernel matrix.

    The ridge d at which the N given samples have the effective ridge
    :math:`\kappa` of n samples at ridge :math:`\delta` solves, with the
    eigenvalues :math:`\mu_j` of K and :math:`u_j=d/(\mu_j+d)`,

    .. math:: n=\sum_j(1-u_j)+\frac\delta d\sum_ju_j .

    Learnabilities depend on :math:`\kappa` alone. So the leave-one-out error
    at d, with the amplification of N samples exchanged for that of n, is

    .. math:: E_\mathrm{test}=E_\mathrm{loo}(d)\,
        \frac{N-\sum L^2}N\,\frac n{n-\sum L^2},\quad
        N-\sum L^2=\frac{(\sum_ju_j)^2}{\sum_ju_j^2},\quad
        E_\mathrm{train}=\Bigl(1-\frac1n\sum_j(1-u_j)\Bigr)^2
        E_\mathrm{test}.

    No eigenvalue of the population enters: those of K/N miss its tail, on
    which `spectra.learning_curve` then depends.

    Parameters
    ----------
    kernel : torch.Tensor
        K, [N, N], positive semi-definite, of samples that are independent
        and distributed as those of training and test. Its small eigenvalues
        count, so it must be float64.
    targets : torch.Tensor
        y, [N] or [N, k].
    sizes : array_like
        Numbers n of training samples, from 1 to N, any shape.
    ridge : float
        :math:`\delta\ge0`, what is added to the diagonal of the kernel
        matrix of n samples.
    noise : float
        Variance of noise that labels will have beyond that of `targets`, a
        label and output.

    Returns
    -------
    test, train : numpy.ndarray
        Squared error, summed over outputs and averaged over samples, in the
        shape of `sizes`. The test error is infinite at the peak, where n is
        the rank of K and nothing regularizes.

    Raises
    ------
    TypeError, ValueError
        See the top of the module; also if K has an eigenvalue that is
        negative beyond rounding.

    Source
    ------
    Simon et al. (2023), arXiv:2110.03922; Wei et al. (2022),
    arXiv:2203.06176, for generalized cross-validation in its place.

    Examples
    --------
    >>> kernel = torch.eye(4, dtype=torch.float64)
    >>> test, train = learning_curve(kernel, kernel[0] * 2, [2, 4], ridge=1.0)
    >>> test.round(6).tolist(), train.round(6).tolist()
    ([1.0, 1.0], [0.25, 0.25])
    """
    _check(kernel, targets)
    _checks.non_negative("ridge", ridge)
    _checks.non_negative("noise", noise)
    if kernel.dtype != torch.float64:
        raise ValueError(
            f"kernel is {kernel.dtype}; allowed: torch.float64, as float32 "
            "loses the small eigenvalues"
        )
    sizes = np.asarray(sizes, dtype=float)
    total = len(kernel)
    if not sizes.size or not ((sizes >= 1) & (sizes <= total)).all():
        raise ValueError(
            f"sizes={sizes.tolist()}; allowed: from 1 to {total}, the "
            "samples in kernel"
        )
    values, vectors, rounding = _eigenpairs(kernel)
    values[values <= rounding] = 0
    y = targets.reshape(total, -1)
    modes, squares = vectors.T @ y, vectors.square()
    curves = []
    for n in sizes.ravel():
        unlearned = _unlearned(values, float(n), ridge)  # u, [N]
        sum_u, square = unlearned.sum(), unlearned.square().sum()
        used = total - sum_u.item() if ridge else (values > 0).sum().item()
        unused = max(0.0, 1 - used / n)
        # n - sum L^2, as a sum of two terms that are not negative
        left = (
            n * unused + sum_u * (unlearned * (1 - unlearned)).sum() / square
        )
        factor = n / left if left > 0 else torch.tensor(math.inf)
        errors = vectors @ (unlearned[:, None] * modes)
        errors /= (squares @ unlearned)[:, None]  # leave-one-out, [N, k]
        bare = errors.square().sum(1).mean() * sum_u**2 / (square * total)
        bare += noise * y.shape[1]
        test = (bare * factor).item() if bare > 0 else 0.0
        curves.append((test, unused**2 * test if unused else 0.0))
    test, train = np.reshape(curves, (*sizes.shape, 2)).transpose(
        -1, *range(sizes.ndim)
    )
    return test, train


def _unlearned(values, n, ridge):
    """Return d / (values + d) for the ridge d of `learning_curve`."""
    positive = values[values > 0]
    if ridge == 0 and n >= len(positive):  # d = 0; only ratios of u matter
        if len(positive) < len(values):
            return (values == 0).to(values.dtype)
        return 1e-12 * positive.min() / values

    def spare(log):
        u = 1 / (values * math.exp(-log) + 1)
        return ((1 - u).sum() + ridge * math.exp(-log) * u.sum() - n).item()

    high = (values.sum().item() + ridge * len(values)) / n
    # At d = ridge the sum is N; without ridge, sum of d / values bounds u.
    low = ridge or (len(positive) - n) / (1 / positive).sum().item()
    log = brentq(spare, math.log(low) - 1, math.log(high) + 1, xtol=1e-13)
    return 1 / (values * math.exp(-log) + 1)


def _eigenpairs(kernel):
    """Return eigenvalues, eigenvectors, and what rounding makes of zero."""
    values, vectors = torch.linalg.eigh(kernel)
    rounding = len(kernel) * torch.finfo(kernel.dtype).eps * values.abs().max()
    if values[0] < -rounding:
        raise ValueError(
            f"kernel has the eigenvalue {values[0]:.3g}; allowed: positive "
            "semi-definite up to rounding"
        )
    return values, vectors, rounding


def _cholesky(kernel, targets, ridge):
    _check(kernel, targets)
    _checks.non_negative("ridge", ridge)
    kernel = kernel.clone()
    kernel.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(kernel)
    if failed:
        lowest = torch.linalg.eigvalsh(kernel)[0]
        raise ValueError(
            f"kernel + ridge I has the eigenvalue {lowest:.3g} "
            f"(ridge={ridge}); allowed: positive definite, which a larger "
            "ridge makes it"
        )
    return factor


def _check(kernel, targets):
    _checks.tensor("kernel", kernel, 2)
    ndim = 2 if getattr(targets, "ndim", 1) == 2 else 1
    _checks.tensor("targets", targets, ndim)
    _checks.alike("targets", targets, "kernel", kernel)
    n = len(targets)
    if kernel.shape != (n, n):
        raise ValueError(
            f"kernel of shape {list(kernel.shape)}; allowed: [{n}, {n}], as "
            f"targets has {n} rows"
        )
    bound = 1e3 * torch.finfo(kernel.dtype).eps * kernel.abs().max()
    if (kernel - kernel.T).abs().max() > bound:
        raise ValueError("kernel differs from its transpose; allowed: equal")
