r"""Kernels of infinitely wide networks, and a few others.

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
inputs.

Every kernel takes inputs [n, d], float32 or float64, and others [m, d], and
returns the matrix [n, m] of its values. Without others these are the inputs
again, which takes half the time and makes the matrix exactly symmetric. No
gradient flows through. Inputs that are no such tensors raise a TypeError;
inputs that are empty, not finite or do not fit each other, and arguments out
of their range, a ValueError.
"""

import math
from collections.abc import Callable

import torch

from learning_mechanics import _checks, _layers, _tiles

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
    inputs, others : torch.Tensor
        [n, d] and, optionally, [m, d].
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
        :math:`K^{(\mathrm{depth}+1)}`, [n, m].

    Raises
    ------
    TypeError, ValueError
        See the top of the module; also if the activation is not finite.

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

    Parameters, errors and warnings are those of `nngp`. All weights and
    biases are trained.

    Returns
    -------
    torch.Tensor
        :math:`\Theta^{(\mathrm{depth}+1)}`, [n, m].

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
def _network(
    inputs,
    others,
    depth,
    activation,
    weight_variance,
    bias_variance,
    tangent=False,
):
    others = _check_inputs(inputs, others)
    _checks.integer("depth", depth, 0)
    if not callable(activation) and activation not in _layers.CLOSED_FORMS:
        raise ValueError(
            f"activation={activation!r}; allowed: "
            f"{', '.join(_layers.CLOSED_FORMS)} or a function"
        )
    _checks.positive("weight_variance", weight_variance)
    _checks.non_negative("bias_variance", bias_variance)
    layer = _layers.CLOSED_FORMS.get(activation) or _layers.Series(activation)
    factor = weight_variance / inputs.shape[1]
    sides = (inputs,) if others is inputs else (inputs, others)
    # What depends on one input only is found first, layer by layer.
    variances = [factor * _squares(side) + bias_variance for side in sides]
    diagonal, singles = variances[0], []
    for _ in range(depth):
        found = [layer.one_input(q, tangent) for q in variances]
        singles.append((found[0][2], found[-1][2]))
        variances = [weight_variance * f[0] + bias_variance for f in found]
        growth = weight_variance * found[0][1] * diagonal if tangent else 0
        diagonal = variances[0] + growth
    gain = weight_variance * layer.gain

    def step(rows, columns, kernel, slope, spare, theta):
        kernel.mul_(factor).add_(bias_variance)
        theta.copy_(kernel)
        for left, right in singles:
            left = [vector[rows] for vector in left]
            right = [vector[columns] for vector in right]
            layer.pairs(kernel, slope, spare, left, right, tangent)
            kernel.mul_(gain).add_(bias_variance)
            if tangent:
                torch.addcmul(kernel, theta, slope, value=gain, out=theta)
        return theta if tangent else kernel

    return _tiles.fill(inputs, others, step, 4, diagonal)


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

    A zero vector counts as orthogonal to all others.

    Parameters
    ----------
    inputs, others : torch.Tensor
        [n, d] and, optionally, [m, d].
    order : int
        q: 0, 1 or 2.

    Returns
    -------
    torch.Tensor
        [n, m].

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
    _checks.integer("order", order, 0, 2)
    lengths = [_squares(side).sqrt() for side in (inputs, others)]
    inverses = [_tiles.inverse(length) for length in lengths]
    powers = [length**order for length in lengths]

    def step(rows, columns, cosine, angle, sine):
        # With the cosine negated, acos is pi - theta.
        _tiles.scale_(cosine, -inverses[0][rows], inverses[1][columns])
        torch.acos(cosine.clamp_(-1, 1), out=angle)
        _tiles.sine(cosine, sine)
        if order == 1:
            angle = sine.addcmul_(cosine, angle, value=-1)
        elif order == 2:
            sine.mul_(cosine).mul_(-3)
            angle *= cosine.square_().mul_(2).add_(1)
            angle += sine
        left = powers[0][rows] / math.pi
        return _tiles.scale_(angle, left, powers[1][columns])

    # J is pi, pi and 3 pi at angle zero.
    diagonal = (3 if order == 2 else 1) * powers[0].square()
    return _tiles.fill(inputs, others, step, 3, diagonal)


def rbf(
    inputs: torch.Tensor, others: torch.Tensor | None = None, *, length: float
) -> torch.Tensor:
    r"""Gaussian kernel :math:`e^{-|x-x'|^2/2\ell^2}`.

    Parameters
    ----------
    inputs, others : torch.Tensor
        [n, d] and, optionally, [m, d].
    length : float
        :math:`\ell>0`, in units of the inputs.

    Returns
    -------
    torch.Tensor
        [n, m].

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
    inputs: torch.Tensor, others: torch.Tensor | None = None, *, length: float
) -> torch.Tensor:
    r"""Exponential kernel :math:`e^{-|x-x'|/\ell}`, with parameters of `rbf`.

    Distances come from inner products: those between different rows are
    exact to about :math:`\sqrt\epsilon` of the inputs' size.

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
def _radial(inputs, others, profile):
    """Profile (in place) of the squared distances; 1 where they are zero."""
    others = _check_inputs(inputs, others)
    # Distances do not see a shift, and rounding is smallest near the mean.
    center = inputs.mean(0)
    shifted = inputs - center
    others = shifted if others is inputs else others - center
    left, right = _squares(shifted)[:, None], _squares(others)

    def step(rows, columns, tile):
        tile.mul_(-2).add_(left[rows]).add_(right[columns]).clamp_(min=0)
        return profile(tile)

    return _tiles.fill(shifted, others, step, 1, torch.ones_like(right))


def _squares(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.square().sum(1)


def _check_inputs(inputs, others):
    """Return `others`, or `inputs` in their place."""
    _checks.tensor("inputs", inputs, 2)
    if others is None:
        return inputs
    _checks.tensor("others", others, 2)
    _checks.alike("others", others, "inputs", inputs)
    if inputs.shape[1] != others.shape[1]:
        raise ValueError(
            f"others of shape {list(others.shape)}; allowed: "
            f"{inputs.shape[1]} columns, as inputs"
        )
    return others
