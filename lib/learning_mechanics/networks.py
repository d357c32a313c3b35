"""Multilayer perceptrons with every weight in sight.

A multilayer perceptron is a list of weight matrices and an activation. How
the weights are drawn is a separate, explicit step: theories of training are
theories of the start.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from learning_mechanics import _checks, parametrizations, tasks


class MLP(nn.Module):
    r"""A multilayer perceptron, linear if no activation is given.

    .. math:: h_l = m_l\,W_l\,\phi(h_{l-1}) + b_l,\qquad f(x) = h_L(x),

    where :math:`x` itself stands for :math:`\phi(h_0)`.

    Parameters
    ----------
    weights : sequence of torch.Tensor
        :math:`W_1,\dots,W_L`, where :math:`W_l` has shape
        [width of layer l, width of layer l - 1]. They are copied.
    activation : callable, optional
        Applied to every hidden layer, e.g. ``torch.tanh``.
    biases : sequence of torch.Tensor, optional
        :math:`b_1,\dots,b_L`, each [width of layer l]. They are copied.
    multipliers : sequence of float, optional
        :math:`m_1,\dots,m_L`, constants that are not trained; 1 if left out.

    Attributes
    ----------
    weights : torch.nn.ParameterList
        The matrices.
    biases : torch.nn.ParameterList or None
        The biases, if there are any.
    multipliers : tuple of float or None
        The multipliers, if there are any.
    layers : tuple of parametrizations.Layer or None
        How the weights scale, if they were drawn by `mlp`.

    Raises
    ------
    ValueError
        If there are no weights, two neighbours do not fit, or biases or
        multipliers do not fit the weights.

    Examples
    --------
    >>> network = MLP([torch.ones(3, 2), torch.ones(1, 3)],
    ...               multipliers=[1.0, 1 / 3])
    >>> network(torch.tensor([[1.0, 2.0]])).item()
    3.0
    """

    layers: tuple[parametrizations.Layer, ...] | None = None

    def __init__(
        self,
        weights: Sequence[torch.Tensor],
        activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
        *,
        biases: Sequence[torch.Tensor] | None = None,
        multipliers: Sequence[float] | None = None,
    ):
        super().__init__()
        _check_fit(weights, biases, multipliers)
        self.weights = nn.ParameterList(w.detach().clone() for w in weights)
        self.biases = None
        if biases is not None:
            self.biases = nn.ParameterList(b.detach().clone() for b in biases)
        self.multipliers = None
        if multipliers is not None:
            self.multipliers = tuple(map(float, multipliers))
        self.activation = activation

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map inputs [n, n_in] to outputs [n, n_out]."""
        hidden = inputs
        for layer, weight in enumerate(self.weights):
            if layer and self.activation is not None:
                hidden = self.activation(hidden)
            hidden = hidden @ weight.T
            if self.multipliers:
                hidden = self.multipliers[layer] * hidden
            if self.biases:
                hidden = hidden + self.biases[layer]
        return hidden

    def product(self) -> torch.Tensor:
        """Return the product of all weights and multipliers, [n_out, n_in]."""
        product, *above = self.weights
        for weight in above:
            product = weight @ product
        return math.prod(self.multipliers or ()) * product


def mlp(
    widths: Sequence[int],
    activation: Callable[[torch.Tensor], torch.Tensor] | None,
    *,
    parametrization: str,
    base: int,
    scale: float = 1.0,
    generator: torch.Generator,
) -> MLP:
    r"""Draw a multilayer perceptron in a given parametrization.

    With one hidden layer, ``mup`` at base 1 is the mean-field network

    .. math:: f(x)=\frac1n\sum_{i=1}^n a_i\,\phi(w_i\cdot x),

    whose neurons are particles: the entries of :math:`a_i` are drawn
    with standard deviation 1, and learning rates under SGD are :math:`n`
    times the common one, for the gradients carry a factor :math:`1/n`. Any
    other base changes it by constants alone.

    Parameters
    ----------
    widths : sequence of int
        Layer widths from input to output, at least two.
    activation : callable or None
        Applied to every hidden layer.
    parametrization : str
        ``standard``, ``ntk`` or ``mup``, as in `parametrizations.layer`.
    base : int
        Width of all hidden layers at which the parametrizations agree.
    scale : float
        Scale of the start, as in `parametrizations.layer`.
    generator : torch.Generator
        The random stream, on the CPU. Networks of equal widths that are
        drawn from equal streams differ in their parametrization alone.

    Returns
    -------
    MLP
        float64, without biases.

    Raises
    ------
    ValueError
        If there are fewer than two widths or an argument is not allowed.

    Source
    ------
    The mean-field limit of two layers: Mei, Montanari and Nguyen (2018),
    arXiv:1804.06561; that ``mup`` is its like for any depth: Yang and Hu
    (2021), arXiv:2011.14522.

    Examples
    --------
    >>> stream = torch.Generator().manual_seed(0)
    >>> network = mlp([784, 256, 256, 10], torch.tanh, parametrization="mup",
    ...               base=64, generator=stream)
    >>> network.multipliers
    (1.0, 1.0, 0.25)
    """
    _check_widths(widths)
    _checks.integer("base", base, 1)
    # The numbers of inputs and of outputs do not grow.
    bases = [widths[0], *[base] * (len(widths) - 2), widths[-1]]
    layers = [
        parametrizations.layer(parametrization, fans, base_fans, scale=scale)
        for fans, base_fans in zip(
            itertools.pairwise(widths), itertools.pairwise(bases), strict=True
        )
    ]
    layers[-1] = parametrizations.layer(
        parametrization, widths[-2:], bases[-2:], readout=True, scale=scale
    )
    network = MLP(
        [
            layer.std * _normal((n_out, n_in), generator)
            for layer, (n_in, n_out) in zip(
                layers, itertools.pairwise(widths), strict=True
            )
        ],
        activation,
        multipliers=[layer.multiplier for layer in layers],
    )
    network.layers = tuple(layers)
    return network


def is_layered(network: nn.Module) -> bool:
    """Return whether a network is nothing but weights and slopes.

    Then products of matrices, layer by layer, give all of its derivatives.

    Parameters
    ----------
    network : torch.nn.Module
        Any.

    Returns
    -------
    bool
        True for an `MLP` that trains all of its parameters, none of them
        shared, and whose activation is elementwise and has none of its own.

    Examples
    --------
    >>> weights = [torch.ones(3, 2), torch.ones(1, 3)]
    >>> is_layered(MLP(weights, torch.tanh))
    True
    >>> is_layered(MLP(weights, nn.Softmax(-1)))
    False
    """
    if type(network) is not MLP:
        return False
    trained = [p for p in network.parameters() if p.requires_grad]
    own = [*network.weights, *(network.biases or ())]
    if list(map(id, own)) != list(map(id, trained)):
        return False
    return network.activation is None or all(
        _is_elementwise(network.activation, weight.detach()[:, 0])
        for weight in network.weights[:-1]
    )


def _is_elementwise(activation, hidden) -> bool:
    """Return whether its Jacobian at `hidden`, [w], looks diagonal."""
    with torch.enable_grad():
        hidden = hidden[None].requires_grad_()
        values = activation(hidden)
        probe = torch.linspace(1, 2, values.numel()).to(values).view_as(values)
        slope, along = (
            torch.autograd.grad(values, hidden, by, retain_graph=True)[0]
            for by in (torch.ones_like(values), probe)
        )
    return (along - slope * probe).abs().max() <= 1e-4 * along.abs().max()


def gaussian_weights(
    widths: Sequence[int], *, scale: float, generator: torch.Generator
) -> list[torch.Tensor]:
    r"""Draw independent Gaussian weights in the standard parametrization.

    Parameters
    ----------
    widths : sequence of int
        Layer widths from input to output, at least two.
    scale : float
        Entries of :math:`W_l` have variance ``scale**2 / widths[l - 1]``:
        1 keeps the size of the signal, much less than 1 starts the network
        near the saddle at zero.
    generator : torch.Generator
        The random stream.

    Returns
    -------
    list of torch.Tensor
        One matrix a layer, float64.

    Raises
    ------
    ValueError
        If there are fewer than two widths or `scale` is not positive.

    Examples
    --------
    >>> stream = torch.Generator().manual_seed(0)
    >>> first, second = gaussian_weights([4, 100, 3], scale=1.0,
    ...                                  generator=stream)
    >>> first.shape, second.shape
    (torch.Size([100, 4]), torch.Size([3, 100]))
    """
    _check_widths(widths)
    _checks.positive("scale", scale)
    return [
        _normal((n_out, n_in), generator) * (scale / n_in**0.5)
        for n_in, n_out in itertools.pairwise(widths)
    ]


def aligned_weights(
    left: torch.Tensor,
    start: torch.Tensor,
    right: torch.Tensor,
    *,
    n_hidden: int,
    depth: int,
    generator: torch.Generator,
) -> list[torch.Tensor]:
    r"""Balanced weights aligned with given singular vectors.

    :math:`W_L\cdots W_1 = U\,\mathrm{diag}(s_0)\,V^\top`, with every layer
    carrying :math:`s_0^{1/L}` of each mode through a random orthonormal
    basis of its hidden space.

    Parameters
    ----------
    left, right : torch.Tensor
        U [n_out, k] and V [n_in, k] with orthonormal columns.
    start : torch.Tensor
        Mode strengths :math:`s_0 > 0`, [k].
    n_hidden, depth : int
        Width of the hidden layers (at least k) and number of matrices L
        (at least 1).
    generator : torch.Generator
        The random stream of the hidden bases.

    Returns
    -------
    list of torch.Tensor
        L matrices.

    Raises
    ------
    ValueError
        If the shapes differ, or a size is out of range.

    Source
    ------
    The decoupled initial conditions of Saxe et al. (2014),
    arXiv:1312.6120.

    Examples
    --------
    >>> stream = torch.Generator().manual_seed(0)
    >>> weights = aligned_weights(
    ...     torch.eye(2), torch.tensor([0.5, 0.1]), torch.eye(2),
    ...     n_hidden=3, depth=3, generator=stream)
    >>> MLP(weights).product().detach().numpy().round(6).tolist()
    [[0.5, 0.0], [0.0, 0.1]]
    """
    k = len(start)
    if left.shape[1:] != (k,) or right.shape[1:] != (k,):
        raise ValueError(
            f"left {tuple(left.shape)} and right {tuple(right.shape)} do not "
            f"fit start of length {k}; allowed: {k} columns each"
        )
    _checks.positive("start", start)
    if depth < 1 or n_hidden < k:
        raise ValueError(
            f"depth={depth}, n_hidden={n_hidden}; allowed: depth >= 1 and "
            f"n_hidden >= {k}"
        )
    hidden = [
        tasks.orthonormal(n_hidden, k, generator) for _ in range(depth - 1)
    ]
    bases = [right.double(), *hidden, left.double()]
    layer = start.double() ** (1 / depth)
    return [
        above * layer @ below.T for below, above in itertools.pairwise(bases)
    ]


def _normal(shape, generator) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _check_widths(widths) -> None:
    if len(widths) < 2:
        raise ValueError(f"widths={list(widths)}; allowed: at least two")
    for width in widths:
        _checks.integer("widths", width, 1)


def _check_fit(weights, biases, multipliers) -> None:
    if not weights:
        raise ValueError("weights is empty; allowed: at least one matrix")
    for below, above in itertools.pairwise(weights):
        if below.shape[0] != above.shape[1]:
            raise ValueError(
                f"weights of shapes {tuple(below.shape)} and "
                f"{tuple(above.shape)} follow each other; allowed: the "
                "rows of one equal the columns of the next"
            )
    if biases is not None:
        shapes = [tuple(b.shape) for b in biases]
        allowed = [(len(w),) for w in weights]
        if shapes != allowed:
            raise ValueError(
                f"biases of shapes {shapes}; allowed: {allowed}, one entry "
                "a row of the weights"
            )
    if multipliers is not None:
        if len(multipliers) != len(weights):
            raise ValueError(
                f"multipliers={list(multipliers)}; allowed: {len(weights)} "
                "numbers, one a weight"
            )
        _checks.positive("multipliers", multipliers)
