r"""Regression with a kernel: its fit, its errors, its training.

A kernel is the matrix K of its values between the n training inputs,
symmetric and float32 or float64, wherever it came from. A tensor of another
type raises a TypeError; shapes, types and devices that do not fit each other,
values that are not finite or out of their range, a ValueError.
"""

import torch

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
    values, vectors = torch.linalg.eigh(kernel)
    rounding = n * torch.finfo(kernel.dtype).eps * values.abs().max()
    if values[0] < -rounding:
        raise ValueError(
            f"kernel has the eigenvalue {values[0]:.3g}; allowed: positive "
            "semi-definite up to rounding"
        )
    values = values.clamp(min=rounding.clamp(min=1e-30))
    # (1 - e^(-s t/n)) / s, which tends to t/n as s falls below rounding.
    gain = -torch.expm1(-times[:, None] * values / n) / values  # [T, n]
    modes = vectors.T @ targets.reshape(n, -1)  # [n, k]
    readout = (kernel if test_kernel is None else test_kernel) @ vectors
    curves = readout @ (gain[:, :, None] * modes)  # [T, m, k]
    return curves.reshape(len(times), len(readout), *targets.shape[1:])


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
