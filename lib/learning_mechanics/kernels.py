r"""Kernels of infinitely wide networks, and regression with a kernel.

A fully connected network of `depth` hidden layers in the NTK
parametrization, with pre-activations

.. math:: h^{(1)}=\tfrac{\sigma_w}{\sqrt d}W_1x+\sigma_bb_1,\qquad
    h^{(l+1)}=\tfrac{\sigma_w}{\sqrt{N}}W_{l+1}\phi(h^{(l)})+\sigma_bb_{l+1},

standard normal weights and biases, hidden width :math:`N\to\infty` and
output :math:`h^{(\mathrm{depth}+1)}`, has the kernels

.. math:: K^{(1)}&=\sigma_w^2\,x\cdot x'/d+\sigma_b^2,&
    K^{(l+1)}&=\sigma_w^2\,\mathbb E[\phi(u)\phi(v)]+\sigma_b^2,\\
    \Theta^{(1)}&=K^{(1)},&
    \Theta^{(l+1)}&=K^{(l+1)}
        +\sigma_w^2\,\mathbb E[\phi'(u)\phi'(v)]\,\Theta^{(l)},

where u and v are Gaussian with the covariance :math:`K^{(l)}` of the two
inputs. Matrices are filled in square tiles that stay in the processor's
cache through all layers; of a symmetric one only the upper half is computed.
No gradient flows through a kernel.
"""

import functools
import math
import warnings
from collections.abc import Callable

import torch
from scipy.special import roots_hermitenorm

from learning_mechanics import _checks

# A few tiles, shared by the cores, stay in their second-level caches; an
# accelerator takes the whole matrix as one.
TILE_BYTES = 512 * 1024

# Nodes of the Gauss-Hermite rule, and the degrees that it resolves. With
# more nodes the outermost weights leave the range of float64.
NODES, DEGREES = 256, 192

Activation = str | Callable[[torch.Tensor], torch.Tensor]


def nngp(
    inputs: torch.Tensor,
    others: torch.Tensor | None = None,
    *,
    depth: int,
    activation: Activation,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
) -> torch.Tensor:
    r"""Covariance of the outputs of an infinitely wide network at the start.

    Parameters
    ----------
    inputs : torch.Tensor
        [n, d], float32 or float64.
    others : torch.Tensor, optional
        [m, d]; `inputs` again if left out, which takes half the time and
        makes the matrix exactly symmetric.
    depth : int
        Number of hidden layers, at least 0.
    activation : str or callable
        ``"relu"`` and ``"erf"`` have closed forms. Any elementwise function
        of a tensor that autograd can follow, such as ``torch.tanh``, goes by
        its Hermite series, with coefficients from Gauss-Hermite quadrature
        with 256 nodes.
    weight_variance, bias_variance : float
        :math:`\sigma_w^2>0` and :math:`\sigma_b^2\ge0`.

    Returns
    -------
    torch.Tensor
        :math:`K^{(\mathrm{depth}+1)}`, [n, m], like `inputs`.

    Raises
    ------
    TypeError
        If an input is not a tensor of float32 or float64.
    ValueError
        If shapes, devices or types of the inputs differ, they are empty or
        not finite, or another argument is out of its range.

    Warns
    -----
    UserWarning
        If the Hermite series, cut at degree 192, leaves out more than 1e-8
        of a mean square: the activation has a kink, or the variance of its
        input is large (beyond 4 for tanh).

    Source
    ------
    Lee et al. (2018), arXiv:1711.00165; Cho and Saul (2009) for ReLU,
    Williams (1997) for erf; Daniely et al. (2016), arXiv:1602.05897, for the
    series.

    Examples
    --------
    >>> x = torch.eye(2, dtype=torch.float64)
    >>> nngp(x, depth=1, activation="relu", weight_variance=2.0)
    tensor([[1.0000, 0.3183],
            [0.3183, 1.0000]], dtype=torch.float64)
    """
    return _network(
        inputs, others, depth, activation, weight_variance, bias_variance
    )


def ntk(
    inputs: torch.Tensor,
    others: torch.Tensor | None = None,
    *,
    depth: int,
    activation: Activation,
    weight_variance: float = 1.0,
    bias_variance: float = 0.0,
) -> torch.Tensor:
    r"""Tangent kernel of an infinitely wide network, constant in training.

    Parameters
    ----------
    inputs, others, depth, activation, weight_variance, bias_variance
        As for `nngp`. All weights and biases are trained.

    Returns
    -------
    torch.Tensor
        :math:`\Theta^{(\mathrm{depth}+1)}`, [n, m], like `inputs`.

    Raises
    ------
    TypeError, ValueError
        As `nngp`.

    Warns
    -----
    UserWarning
        As `nngp`.

    Source
    ------
    Jacot et al. (2018), arXiv:1806.07572.

    Examples
    --------
    >>> x = torch.eye(2, dtype=torch.float64)
    >>> ntk(x, depth=1, activation="relu", weight_variance=2.0)
    tensor([[2.0000, 0.3183],
            [0.3183, 2.0000]], dtype=torch.float64)
    """
    return _network(
        inputs,
        others,
        depth,
        activation,
        weight_variance,
        bias_variance,
        tangent=True,
    )


@torch.no_grad()
def arc_cosine(
    inputs: torch.Tensor, others: torch.Tensor | None = None, *, order: int
) -> torch.Tensor:
    r"""Arc-cosine kernel, that of random features that are powers of a ReLU.

    :math:`k_q(x,x')=2\,\mathbb E[(w\cdot x)_+^q(w\cdot x')_+^q]
    =\frac1\pi|x|^q|x'|^qJ_q(\theta)` with standard normal w and

    .. math:: J_0=\pi-\theta,\quad
        J_1=\sin\theta+(\pi-\theta)\cos\theta,\quad
        J_2=3\sin\theta\cos\theta+(\pi-\theta)(1+2\cos^2\theta).

    Parameters
    ----------
    inputs, others : torch.Tensor
        As for `nngp`. A zero vector counts as orthogonal to all others.
    order : int
        q: 0, 1 or 2.

    Returns
    -------
    torch.Tensor
        [n, m], like `inputs`.

    Raises
    ------
    TypeError, ValueError
        As `nngp`, or if `order` is not one of the three.

    Source
    ------
    Cho and Saul (2009), Kernel Methods for Deep Learning.

    Examples
    --------
    >>> arc_cosine(torch.eye(2), order=0)
    tensor([[1.0000, 0.5000],
            [0.5000, 1.0000]])
    """
    others = _check_inputs(inputs, others)
    if order not in (0, 1, 2):
        raise ValueError(f"order={order}; allowed: 0, 1 or 2")
    lengths = _squares(inputs).sqrt(), _squares(others).sqrt()
    inverses = _inverse(lengths[0]), _inverse(lengths[1])
    powers = tuple(length**order for length in lengths)

    def fill(rows, columns, cosine, angle, sine):
        # With the cosine negated, acos is pi - theta.
        _scale_(cosine, -inverses[0][rows], inverses[1][columns])
        torch.acos(cosine.clamp_(-1, 1), out=angle)
        _sine(cosine, sine)
        if order == 1:
            angle = sine.addcmul_(cosine, angle, value=-1)
        elif order == 2:
            sine.mul_(cosine).mul_(-3)
            angle *= cosine.square_().mul_(2).add_(1)
            angle += sine
        return _scale_(angle, powers[0][rows] / math.pi, powers[1][columns])

    # J is pi, pi and 3 pi at angle zero.
    diagonal = (3 if order == 2 else 1) * powers[0].square()
    return _tiled(inputs, others, fill, 3, diagonal)


def rbf(
    inputs: torch.Tensor,
    others: torch.Tensor | None = None,
    *,
    length: float,
) -> torch.Tensor:
    r"""Gaussian kernel :math:`e^{-|x-x'|^2/2\ell^2}`.

    Parameters
    ----------
    inputs, others : torch.Tensor
        As for `nngp`.
    length : float
        :math:`\ell>0`, in units of the inputs.

    Returns
    -------
    torch.Tensor
        [n, m], like `inputs`.

    Raises
    ------
    TypeError, ValueError
        As `nngp`, or if `length` is not positive.

    Examples
    --------
    >>> rbf(torch.tensor([[0.0], [1.0]]), length=1.0)
    tensor([[1.0000, 0.6065],
            [0.6065, 1.0000]])
    """
    _checks.positive("length", length)
    return _radial(
        inputs, others, lambda tile: tile.mul_(-0.5 / length**2).exp_()
    )


def laplace(
    inputs: torch.Tensor,
    others: torch.Tensor | None = None,
    *,
    length: float,
) -> torch.Tensor:
    r"""Exponential kernel :math:`e^{-|x-x'|/\ell}`.

    Distances come from inner products: those between different rows are
    exact to about :math:`\sqrt\epsilon` of the inputs' size.

    Parameters
    ----------
    inputs, others : torch.Tensor
        As for `nngp`.
    length : float
        :math:`\ell>0`, in units of the inputs.

    Returns
    -------
    torch.Tensor
        [n, m], like `inputs`.

    Raises
    ------
    TypeError, ValueError
        As `nngp`, or if `length` is not positive.

    Examples
    --------
    >>> laplace(torch.tensor([[0.0], [2.0]]), length=1.0)
    tensor([[1.0000, 0.1353],
            [0.1353, 1.0000]])
    """
    _checks.positive("length", length)
    return _radial(
        inputs, others, lambda tile: tile.sqrt_().mul_(-1 / length).exp_()
    )


@torch.no_grad()
def ridge_regression(
    kernel: torch.Tensor, targets: torch.Tensor, *, ridge: float = 0.0
) -> torch.Tensor:
    r"""Coefficients :math:`\alpha=(K+\lambda I)^{-1}y` by Cholesky.

    The prediction at new inputs is ``test_kernel @ coefficients``.

    Parameters
    ----------
    kernel : torch.Tensor
        K, [n, n], symmetric.
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
    TypeError
        If a tensor is not float32 or float64.
    ValueError
        If :math:`K+\lambda I` is not positive definite, or the arguments
        do not fit each other.

    Examples
    --------
    >>> ridge_regression(torch.eye(2), torch.tensor([2.0, 4.0]), ridge=1.0)
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
    without refitting.

    Parameters
    ----------
    kernel, targets, ridge
        As for `ridge_regression`.

    Returns
    -------
    torch.Tensor
        Signed errors, like `targets`.

    Raises
    ------
    TypeError, ValueError
        As `ridge_regression`.

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
        K of the training inputs, [n, n], symmetric positive semi-definite.
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
    TypeError
        If a tensor is not float32 or float64.
    ValueError
        If K has an eigenvalue that is negative beyond rounding, or the
        arguments do not fit each other.

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
    _check_regression(kernel, targets)
    n = len(kernel)
    _check_tensor("times", times, 1)
    _check_peers(kernel=kernel, times=times)
    if times.min() < 0:
        raise ValueError(f"times from {times.min():g}; allowed: from 0")
    if test_kernel is not None:
        _check_tensor("test_kernel", test_kernel, 2)
        _check_peers(kernel=kernel, test_kernel=test_kernel)
        if test_kernel.shape[1] != n:
            raise ValueError(
                f"test_kernel of shape {tuple(test_kernel.shape)}; allowed: "
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


@torch.no_grad()
def _network(
    inputs: torch.Tensor,
    others: torch.Tensor | None,
    depth: int,
    activation: Activation,
    weight_variance: float,
    bias_variance: float,
    tangent: bool = False,
) -> torch.Tensor:
    others = _check_inputs(inputs, others)
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
        raise ValueError(f"depth={depth!r}; allowed: an integer from 0")
    if not callable(activation) and activation not in ("relu", "erf"):
        raise ValueError(
            f"activation={activation!r}; allowed: 'relu', 'erf' or a function"
        )
    _checks.positive("weight_variance", weight_variance)
    if not 0 <= bias_variance < math.inf:
        raise ValueError(
            f"bias_variance={bias_variance}; allowed: finite, at least 0"
        )
    factor = weight_variance / inputs.shape[1]
    sides = (inputs,) if others is inputs else (inputs, others)
    # What depends on one input only is found first, layer by layer.
    variances = [factor * _squares(side) + bias_variance for side in sides]
    diagonal, layers = variances[0], []
    for _ in range(depth):
        found = [_one_input(activation, q, tangent) for q in variances]
        layers.append((found[0][2], found[-1][2]))
        variances = [weight_variance * f[0] + bias_variance for f in found]
        growth = weight_variance * found[0][1] * diagonal if tangent else 0
        diagonal = variances[0] + growth
    step, gain = _CLOSED_FORMS.get(activation, (_series_, 1.0))
    gain *= weight_variance

    def fill(rows, columns, kernel, slope, spare, theta):
        kernel.mul_(factor).add_(bias_variance)
        theta.copy_(kernel)
        for left, right in layers:
            left = [vector[rows] for vector in left]
            right = [vector[columns] for vector in right]
            step(kernel, slope, spare, left, right, tangent)
            kernel.mul_(gain).add_(bias_variance)
            if tangent:
                torch.addcmul(kernel, theta, slope, value=gain, out=theta)
        return theta if tangent else kernel

    return _tiled(inputs, others, fill, 4, diagonal)


def _one_input(
    activation: Activation, q: torch.Tensor, tangent: bool
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """E[phi^2], E[phi'^2] at the variances q [n], and what a step needs."""
    if activation == "relu":
        root = q.sqrt()
        return q / 2, torch.full_like(q, 0.5), [_inverse(root), root]
    if activation == "erf":
        square = 2 / math.pi * torch.asin(2 * q / (1 + 2 * q))
        slope = 4 / math.pi * torch.rsqrt(1 + 4 * q)
        return square, slope, [torch.sqrt(2 / (1 + 2 * q))]
    square, values = _hermite(activation, q, derivative=False)
    if not tangent:
        return square, square, [_inverse(q.sqrt()), values]
    slope, slopes = _hermite(activation, q, derivative=True)
    return square, slope, [_inverse(q.sqrt()), values, slopes]


# A step turns the covariance in `kernel` into E[phi phi] / gain, and writes
# E[phi' phi'] / gain into `slope`, both in place.


def _relu_(kernel, slope, spare, left, right, tangent):
    inverse, root = left[0], left[1]
    _scale_(kernel, -inverse, right[0]).clamp_(-1, 1)  # minus the cosine
    torch.acos(kernel, out=slope)  # pi - angle
    _sine(kernel, spare).addcmul_(kernel, slope, value=-1)
    torch.mul(spare, root[:, None], out=kernel).mul_(right[1])


def _erf_(kernel, slope, spare, left, right, tangent):
    if tangent:
        spare.copy_(right[0].expand_as(spare)).mul_(left[0][:, None])
        kernel.mul_(spare)
        torch.addcmul(_one(kernel), kernel, kernel, value=-1, out=slope)
        slope.rsqrt_().mul_(spare)
    else:
        _scale_(kernel, left[0], right[0])
    kernel.asin_()


def _series_(kernel, slope, spare, left, right, tangent):
    _scale_(kernel, left[0], right[0]).clamp_(-1, 1)
    if tangent:
        _horner_(slope, kernel, left[2], right[2])
    _horner_(spare, kernel, left[1], right[1])
    kernel.copy_(spare)


_CLOSED_FORMS = {"relu": (_relu_, 0.5 / math.pi), "erf": (_erf_, 2 / math.pi)}


def _horner_(total, cosine, left, right):
    """Sum of left[:, k] right[:, k] cosine^k into `total`."""
    total.zero_()
    for k in reversed(range(min(left.shape[1], right.shape[1]))):
        total.mul_(cosine).addr_(left[:, k], right[:, k])


def _hermite(
    activation: Activation, q: torch.Tensor, derivative: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean square [n] and Hermite coefficients [n, k] at the variances q."""
    nodes, basis = _hermite_basis()  # [NODES], [NODES, NODES]
    points = nodes * q.double().cpu().sqrt()[:, None]
    with torch.enable_grad():
        points.requires_grad_(derivative)
        values = activation(points)
        if derivative:
            (values,) = torch.autograd.grad(values.sum(), points)
    # The basis holds the square roots of the weights on both of its sides.
    coefficients = values.detach() * basis[0] @ basis.T
    squares = coefficients.square()
    if not torch.isfinite(squares).all():
        raise ValueError(
            "activation gives non-finite values; allowed: an activation "
            f"that is finite for Gaussian input of variance {q.max():.3g}"
        )
    beyond = squares.flip(1).cumsum(1).flip(1)
    beyond /= beyond[:, :1].clamp(min=1e-300).clone()
    beyond = beyond.max(0).values  # the largest share from degree k on
    eps = torch.finfo(q.dtype).eps
    count = int((beyond[:DEGREES] > eps / 10).sum())
    if beyond[count] > max(1e-8, 10 * eps):
        warnings.warn(
            f"the Hermite series of activation leaves out {beyond[count]:.1g}"
            f" of its {'derivative' if derivative else 'value'}'s mean square",
            stacklevel=5,
        )
    return squares.sum(1).to(q), coefficients[:, :count].to(q)


@functools.cache
def _hermite_basis() -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes, and orthonormal Hermite polynomials times sqrt(weights) there."""
    nodes, weights = roots_hermitenorm(NODES)
    nodes = torch.from_numpy(nodes)
    roots = torch.from_numpy(weights / weights.sum()).sqrt()
    basis = [roots, nodes * roots]
    for k in range(1, NODES - 1):
        above = nodes * basis[k] - k**0.5 * basis[k - 1]
        basis.append(above / (k + 1) ** 0.5)
    return nodes, torch.stack(basis)


@torch.no_grad()
def _radial(inputs, others, profile):
    """Profile (in place) of the squared distances; 1 where they are zero."""
    others = _check_inputs(inputs, others)
    # Distances do not see a shift, and rounding is smallest near the mean.
    center = inputs.mean(0)
    shifted = inputs - center
    others = shifted if others is inputs else others - center
    left, right = _squares(shifted)[:, None], _squares(others)

    def fill(rows, columns, tile):
        tile.mul_(-2).add_(left[rows]).add_(right[columns]).clamp_(min=0)
        return profile(tile)

    return _tiled(shifted, others, fill, 1, torch.ones_like(right))


def _tiled(inputs, others, fill, count, diagonal):
    """Fill [n, m] by tiles.

    `fill` is given the two slices, a tile of inner products and `count - 1`
    scratch tiles, and returns the one that holds the result.
    """
    n, m = len(inputs), len(others)
    side = max(n, m)
    if inputs.device.type == "cpu":
        side = min(side, math.isqrt(TILE_BYTES // inputs.element_size()))
    kernel = inputs.new_empty(n, m)
    buffers = [inputs.new_empty(side * side) for _ in range(count)]
    for i in range(0, n, side):
        rows = slice(i, min(i + side, n))
        for j in range(i if others is inputs else 0, m, side):
            columns = slice(j, min(j + side, m))
            shape = rows.stop - i, columns.stop - j
            tiles = [b[: math.prod(shape)].view(shape) for b in buffers]
            torch.mm(inputs[rows], others[columns].T, out=tiles[0])
            tile = fill(rows, columns, *tiles)
            if others is inputs and i == j:
                tile.triu_().add_(tile.triu(1).T)
            elif others is inputs:
                kernel[columns, rows] = tile.T
            kernel[rows, columns] = tile
    if others is inputs:
        kernel.diagonal().copy_(diagonal)
    return kernel


def _squares(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.square().sum(1)


def _inverse(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values > 0, 1 / values, 0)


def _one(tile: torch.Tensor) -> torch.Tensor:
    return tile.new_ones(())


def _sine(cosine: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(
        _one(cosine), cosine, cosine, value=-1, out=out
    ).sqrt_()


def _scale_(tile, left, right):
    return tile.mul_(left[:, None]).mul_(right)


def _cholesky(
    kernel: torch.Tensor, targets: torch.Tensor, ridge: float
) -> torch.Tensor:
    _check_regression(kernel, targets)
    if not 0 <= ridge < math.inf:
        raise ValueError(f"ridge={ridge}; allowed: finite, at least 0")
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


def _check_tensor(name: str, value: torch.Tensor, ndim: int) -> None:
    if not isinstance(value, torch.Tensor) or value.dtype not in (
        torch.float32,
        torch.float64,
    ):
        given = getattr(value, "dtype", type(value).__name__)
        raise TypeError(
            f"{name} is {given}; allowed: a tensor of float32 or float64"
        )
    if value.ndim != ndim or not value.numel():
        raise ValueError(
            f"{name} of shape {tuple(value.shape)}; allowed: {ndim} axes, "
            "none of them empty"
        )
    if not torch.isfinite(value).all():
        raise ValueError(f"{name} has NaN or infinity; allowed: finite values")


def _check_peers(**tensors: torch.Tensor) -> None:
    (first, a), (second, b) = tensors.items()
    if a.device != b.device or a.dtype != b.dtype:
        raise ValueError(
            f"{second} is {b.dtype} on {b.device}; allowed: as {first}, "
            f"{a.dtype} on {a.device}"
        )


def _check_inputs(
    inputs: torch.Tensor, others: torch.Tensor | None
) -> torch.Tensor:
    _check_tensor("inputs", inputs, 2)
    if others is None:
        return inputs
    _check_tensor("others", others, 2)
    _check_peers(inputs=inputs, others=others)
    if inputs.shape[1] != others.shape[1]:
        raise ValueError(
            f"others of shape {tuple(others.shape)}; allowed: "
            f"{inputs.shape[1]} columns, as inputs"
        )
    return others


def _check_regression(kernel: torch.Tensor, targets: torch.Tensor) -> None:
    _check_tensor("kernel", kernel, 2)
    ndim = 2 if getattr(targets, "ndim", 1) == 2 else 1
    _check_tensor("targets", targets, ndim)
    _check_peers(kernel=kernel, targets=targets)
    n = len(targets)
    if kernel.shape != (n, n):
        raise ValueError(
            f"kernel of shape {tuple(kernel.shape)}; allowed: [{n}, {n}], as "
            f"targets has {n} rows"
        )
    bound = 1e3 * torch.finfo(kernel.dtype).eps * kernel.abs().max()
    if (kernel - kernel.T).abs().max() > bound:
        raise ValueError("kernel differs from its transpose; allowed: equal")
