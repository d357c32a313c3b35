"""Networks with every weight in sight.

A network here is a list of weight matrices and an activation. How the
weights are drawn is a separate, explicit step: theories of training are
theories of the start.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import nn

from learning_mechanics import _checks, tasks


class MLP(nn.Module):
    r"""A network without biases, linear if no activation is given.

    .. math:: f(x) = W_L\,\phi(W_{L-1}\cdots\phi(W_1 x))

    Parameters
    ----------
    weights : sequence of torch.Tensor
        :math:`W_1,\dots,W_L`, where :math:`W_l` has shape
        [width of layer l, width of layer l - 1]. They are copied.
    activation : callable, optional
        Applied to every hidden layer, e.g. ``torch.tanh``.

    Raises
    ------
    ValueError
        If there are no weights, or two neighbours do not fit.

    Examples
    --------
    >>> network = MLP([torch.ones(3, 2), torch.ones(1, 3)])
    >>> network(torch.tensor([[1.0, 2.0]])).item()
    9.0
    """

    def __init__(
        self,
        weights: Sequence[torch.Tensor],
        activation: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ):
        super().__init__()
        if not weights:
            raise ValueError("weights is empty; allowed: at least one matrix")
        for below, above in itertools.pairwise(weights):
            if below.shape[0] != above.shape[1]:
                raise ValueError(
                    f"weights of shapes {tuple(below.shape)} and "
                    f"{tuple(above.shape)} follow each other; allowed: the "
                    "rows of one equal the columns of the next"
                )
        self.weights = nn.ParameterList(w.detach().clone() for w in weights)
        self.activation = activation

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map inputs [n, n_in] to outputs [n, n_out]."""
        *hidden, readout = self.weights
        for weight in hidden:
            inputs = inputs @ weight.T
            if self.activation is not None:
                inputs = self.activation(inputs)
        return inputs @ readout.T

    def product(self) -> torch.Tensor:
        """Return the matrix product of all weights, [n_out, n_in]."""
        product, *above = self.weights
        for weight in above:
            product = weight @ product
        return product


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
    if len(widths) < 2:
        raise ValueError(f"widths={list(widths)}; allowed: at least two")
    _checks.positive("scale", scale)
    return [
        torch.randn(n_out, n_in, generator=generator, dtype=torch.float64)
        * (scale / n_in**0.5)
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
