r"""Convolutional networks, residual networks and transformers.

Every network has an explicit parametrization, relative to a base network in
which it is the standard one; `parametrizations.rates` and
`parametrizations.groups` give the learning rates. There are no biases, no
buffers and no trained normalizations, and every operation is a plain one:
`ensembles` can stack the networks, ``torch.func`` and double backward can
differentiate them. Weights are drawn in float64.

In a residual network of L blocks, branches are added to the stream with a
multiplier :math:`\beta=(L/L_0)^{-\alpha}`, where :math:`L_0` is the depth of
the base and :math:`\alpha` is called `exponent`. Under ``mup`` the learning
rates of the weights in branches have a factor more, so that all blocks
together move the stream equally at every depth. A block moves it by
:math:`\eta\beta^2` under SGD, by :math:`\eta\beta` under Adam, and L blocks
by L times as much: the factors are :math:`(L/L_0)^{2\alpha-1}` and
:math:`(L/L_0)^{\alpha-1}`.

Source
------
For :math:`\alpha=1/2`: Yang et al. (2023), arXiv:2310.02244, and Bordelon et
al. (2023), arXiv:2309.16620; for :math:`\alpha=1`: Dey et al. (2025),
arXiv:2505.01618.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from learning_mechanics import _checks, parametrizations

Activation = Callable[[torch.Tensor], torch.Tensor]
Dimension = tuple[int, int]  # a number of neurons, and that of the base


class Weight(nn.Module):
    """A trained tensor times a constant multiplier.

    Attributes
    ----------
    weight : torch.nn.Parameter
        [n_out, n_in], or [n_out, n_in, 3, 3] for a convolution.
    layer : parametrizations.Layer
        How it scales.
    """

    def __init__(self, layer, shape, generator):
        super().__init__()
        self.layer = layer
        start = torch.randn(shape, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(layer.std * start)

    def extra_repr(self) -> str:
        """Show what tells two networks of equal shapes apart."""
        return f"{list(self.weight.shape)}, multiplier={self.layer.multiplier}"


class Linear(Weight):
    """Map [..., n_in] to [..., n_out]."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return m W x."""
        return self.layer.multiplier * (inputs @ self.weight.T)


class Embedding(Weight):
    """Map integers [...] below n_in to vectors [..., n_out]."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return m times the columns of W that the tokens name."""
        return self.layer.multiplier * functional.embedding(
            tokens, self.weight.T
        )


class Convolution(Weight):
    """Map images [n, n_in, h, w] to [n, n_out, h, w] by 3 x 3 pixels."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return m W * x, with zeros around the image."""
        return self.layer.multiplier * functional.conv2d(
            images, self.weight, padding=1
        )


class Network(nn.Module):
    """What the architectures share."""

    @property
    def layers(self) -> tuple[parametrizations.Layer, ...]:
        """How the weights scale, in the order of ``named_parameters()``."""
        return tuple(m.layer for m in self.modules() if isinstance(m, Weight))


class CNN(Network):
    r"""A convolutional network for images of any size.

    `depth` convolutions by 3 x 3 pixels, each followed by the activation, and
    the first `n_pools` also by averages over 2 x 2 pixels; then the mean over
    all pixels and a linear readout.

    Parameters
    ----------
    n_in, n_out : int
        Channels of the image, and outputs.
    width, depth : int
        Channels of every hidden layer, and convolutions.
    n_pools : int
        Halvings of the image, from 0 to `depth`.
    activation : callable
        E.g. ``torch.tanh``.
    parametrization : str
        ``standard``, ``ntk`` or ``mup``, as in `parametrizations.layer`.
    base : int
        Width at which the parametrizations agree.
    scale : float
        Scale of the start, as in `parametrizations.layer`.
    generator : torch.Generator
        The random stream, on the CPU.

    Raises
    ------
    ValueError
        If an argument is not allowed, or an image is too small to be halved
        `n_pools` times.

    Examples
    --------
    >>> network = CNN(1, 16, 2, 10, n_pools=2, activation=torch.tanh,
    ...               parametrization="mup", base=8,
    ...               generator=torch.Generator().manual_seed(0))
    >>> network(torch.zeros(5, 1, 8, 8).double()).shape
    torch.Size([5, 10])
    >>> parametrizations.rates(network, "adam").tolist()
    [1.0, 0.5, 1.0]
    """

    def __init__(
        self,
        n_in: int,
        width: int,
        depth: int,
        n_out: int,
        *,
        n_pools: int,
        activation: Activation,
        parametrization: str,
        base: int,
        scale: float = 1.0,
        generator: torch.Generator,
    ):
        super().__init__()
        _check_sizes(n_in=n_in, width=width, depth=depth, n_out=n_out)
        _checks.integer("base", base, 1)
        _checks.integer("n_pools", n_pools, 0, depth)
        draw = _Draw(parametrization, scale, generator)
        hidden = (width, base)
        channels = [_fixed(n_in)] + [hidden] * depth
        self.n_pools, self.activation = n_pools, activation
        self.convolutions = nn.ModuleList(
            draw.convolution(below, hidden) for below in channels[:-1]
        )
        self.readout = draw.linear(hidden, _fixed(n_out), readout=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images [n, n_in, h, w] to outputs [n, n_out]."""
        if images.ndim != 4 or min(images.shape[2:]) < 2**self.n_pools:
            raise ValueError(
                f"images of shape {list(images.shape)}; allowed: "
                f"[n, n_in, h, w] with at least {2**self.n_pools} pixels a "
                "side"
            )
        hidden = images
        for i, convolution in enumerate(self.convolutions):
            hidden = self.activation(convolution(hidden))
            if i < self.n_pools:
                hidden = functional.avg_pool2d(hidden, 2)
        return self.readout(hidden.mean((-2, -1)))

    def extra_repr(self) -> str:
        """Show what tells two networks of equal shapes apart."""
        return f"n_pools={self.n_pools}"


class ResidualMLP(Network):
    r"""A residual network with one matrix a block.

    .. math:: h_0=W_0x,\qquad h_{l}=h_{l-1}+\beta\,W_l\,\phi(h_{l-1}),\qquad
              f(x)=W_{L+1}\,\phi(h_L)

    Parameters
    ----------
    n_in, n_out : int
        Inputs and outputs.
    width, depth : int
        Neurons of the stream, and number of blocks L.
    activation : callable
        E.g. ``torch.tanh``.
    parametrization : str
        ``standard``, ``ntk`` or ``mup``, as in `parametrizations.layer`.
    base : tuple of int
        Width and depth at which the parametrizations agree and the branches
        have multiplier 1.
    exponent : float
        :math:`\alpha` of :math:`\beta=(L/L_0)^{-\alpha}`: 0.5 or 1.
    scale : float
        Scale of the start, as in `parametrizations.layer`.
    generator : torch.Generator
        The random stream, on the CPU.

    Raises
    ------
    ValueError
        If an argument is not allowed.

    Examples
    --------
    >>> network = ResidualMLP(64, 32, 4, 10, activation=torch.tanh,
    ...                       parametrization="mup", base=(16, 1),
    ...                       exponent=0.5,
    ...                       generator=torch.Generator().manual_seed(0))
    >>> network.beta
    0.5
    >>> parametrizations.rates(network, "adam").tolist()
    [1.0, 0.25, 0.25, 0.25, 0.25, 1.0]
    """

    def __init__(
        self,
        n_in: int,
        width: int,
        depth: int,
        n_out: int,
        *,
        activation: Activation,
        parametrization: str,
        base: tuple[int, int],
        exponent: float,
        scale: float = 1.0,
        generator: torch.Generator,
    ):
        super().__init__()
        _check_sizes(n_in=n_in, width=width, depth=depth, n_out=n_out)
        draw = _Draw(parametrization, scale, generator)
        draw.in_branches(depth, base, exponent)
        stream = (width, base[0])
        self.activation, self.beta = activation, draw.beta
        self.embedding = draw.linear(_fixed(n_in), stream)
        self.blocks = nn.ModuleList(
            draw.linear(stream, stream, branch=True) for _ in range(depth)
        )
        self.readout = draw.linear(stream, _fixed(n_out), readout=True)

    def stream(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Map inputs [n, n_in] to all of h, L + 1 tensors [n, width]."""
        stream = [self.embedding(inputs)]
        for block in self.blocks:
            branch = block(self.activation(stream[-1]))
            stream.append(stream[-1] + self.beta * branch)
        return stream

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map inputs [n, n_in] to outputs [n, n_out]."""
        return self.readout(self.activation(self.stream(inputs)[-1]))

    def extra_repr(self) -> str:
        """Show what tells two networks of equal shapes apart."""
        return f"beta={self.beta}"


class Transformer(Network):
    r"""A decoder-only transformer, normalized before every branch.

    A block adds to the stream :math:`\beta` times causal attention and then
    :math:`\beta` times a perceptron of 4 `width` hidden neurons. Positions
    are embedded like tokens. With :math:`d` the dimension of a head, the
    logits of attention are :math:`q\cdot k/\sqrt d`; under ``mup``, where
    queries and keys align in training, :math:`q\cdot k\,\sqrt{d_0}/d`.

    Parameters
    ----------
    n_in, n_out : int
        Kinds of tokens, or numbers at every position, and outputs there.
    width, depth, n_heads : int
        Neurons of the stream, blocks, and heads, which divide the width. The
        base has as many heads.
    length : int
        Most positions.
    tokens : bool
        Whether inputs are integers below `n_in`, or vectors.
    activation : callable
        Of the perceptrons, e.g. ``torch.nn.functional.gelu``.
    parametrization : str
        ``standard``, ``ntk`` or ``mup``, as in `parametrizations.layer`.
    base : tuple of int
        Width and depth at which the parametrizations agree and the branches
        have multiplier 1.
    exponent : float
        :math:`\alpha` of :math:`\beta=(L/L_0)^{-\alpha}`: 0.5 or 1.
    scale : float
        Scale of the start, as in `parametrizations.layer`.
    generator : torch.Generator
        The random stream, on the CPU.

    Raises
    ------
    ValueError
        If an argument is not allowed or inputs have a wrong shape.

    Source
    ------
    The scaling of attention: Yang et al. (2022), arXiv:2203.03466. The form
    is that of GPT-2 without biases, dropout and trained normalization.

    Examples
    --------
    >>> network = Transformer(
    ...     65, 32, 2, 65, n_heads=4, length=16, tokens=True,
    ...     activation=functional.gelu, parametrization="mup",
    ...     base=(32, 2), exponent=1.0,
    ...     generator=torch.Generator().manual_seed(0))
    >>> network(torch.zeros(5, 16, dtype=torch.int64)).shape
    torch.Size([5, 16, 65])
    """

    def __init__(
        self,
        n_in: int,
        width: int,
        depth: int,
        n_out: int,
        *,
        n_heads: int,
        length: int,
        tokens: bool,
        activation: Activation,
        parametrization: str,
        base: tuple[int, int],
        exponent: float,
        scale: float = 1.0,
        generator: torch.Generator,
    ):
        super().__init__()
        _check_sizes(
            n_in=n_in,
            width=width,
            depth=depth,
            n_out=n_out,
            n_heads=n_heads,
            length=length,
        )
        if width % n_heads:
            raise ValueError(
                f"n_heads={n_heads}, width={width}; allowed: heads that "
                "divide the width"
            )
        draw = _Draw(parametrization, scale, generator)
        draw.in_branches(depth, base, exponent)
        stream = (width, base[0])
        self.length, self.activation = length, activation
        embed = draw.embedding if tokens else draw.linear
        self.embedding = embed(_fixed(n_in), stream)
        self.positions = draw.embedding(_fixed(length), stream)
        self.blocks = nn.ModuleList(
            Block(draw, stream, n_heads, activation) for _ in range(depth)
        )
        self.readout = draw.linear(stream, _fixed(n_out), readout=True)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map inputs [n, t] or [n, t, n_in] to outputs [n, t, n_out]."""
        ndim = 2 if isinstance(self.embedding, Embedding) else 3
        if inputs.ndim != ndim or inputs.shape[1] > self.length:
            raise ValueError(
                f"inputs of shape {list(inputs.shape)}; allowed: {ndim} axes, "
                f"[n, t{', n_in' * (ndim - 2)}] with t up to {self.length}"
            )
        if ndim == 2 and inputs.is_floating_point():
            raise ValueError(
                f"inputs are {inputs.dtype}; allowed for tokens: torch.int64"
            )
        positions = torch.arange(inputs.shape[1], device=inputs.device)
        stream = self.embedding(inputs) + self.positions(positions)
        for block in self.blocks:
            stream = block(stream)
        return self.readout(_normalize(stream))


class Block(nn.Module):
    """Attention and a perceptron, each added to the stream."""

    def __init__(self, draw, stream: Dimension, n_heads: int, activation):
        super().__init__()
        self.activation, self.beta = activation, draw.beta
        self.attention = Attention(draw, stream, n_heads)
        inner = (4 * stream[0], 4 * stream[1])
        self.up = draw.linear(stream, inner, branch=True)
        self.down = draw.linear(inner, stream, branch=True)

    def forward(self, stream: torch.Tensor) -> torch.Tensor:
        """Map the stream [n, t, width] to the next."""
        stream = stream + self.beta * self.attention(_normalize(stream))
        hidden = self.activation(self.up(_normalize(stream)))
        return stream + self.beta * self.down(hidden)

    def extra_repr(self) -> str:
        """Show what tells two networks of equal shapes apart."""
        return f"beta={self.beta}"


class Attention(nn.Module):
    """Causal attention, written out."""

    def __init__(self, draw, stream: Dimension, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.scale = math.sqrt(n_heads / stream[0])
        if draw.parametrization == "mup":
            self.scale *= math.sqrt(stream[1] / stream[0])
        self.query = draw.linear(stream, stream, branch=True)
        self.key = draw.linear(stream, stream, branch=True)
        self.value = draw.linear(stream, stream, branch=True)
        self.out = draw.linear(stream, stream, branch=True)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map [n, t, width] to [n, t, width]."""
        query, key, value = (  # [n, n_heads, t, d]
            weight(inputs).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for weight in (self.query, self.key, self.value)
        )
        logits = self.scale * (query @ key.mT)  # [n, n_heads, t, t]
        later = torch.ones_like(logits[0, 0], dtype=torch.bool).triu(1)
        attention = logits.masked_fill(later, -math.inf).softmax(-1)
        return self.out((attention @ value).transpose(1, 2).flatten(2))

    def extra_repr(self) -> str:
        """Show what tells two networks of equal shapes apart."""
        return f"n_heads={self.n_heads}, scale={self.scale}"


class _Draw:
    """Draws the weights of a network, and knows how they scale."""

    def __init__(self, parametrization: str, scale: float, generator):
        self.parametrization = parametrization
        self.scale, self.generator = scale, generator

    def in_branches(self, depth: int, base: tuple[int, int], exponent: float):
        """Set the multiplier of branches and the learning rates in them."""
        if not isinstance(base, Sequence) or len(base) != 2:
            raise ValueError(f"base={base}; allowed: a width and a depth")
        for size in base:
            _checks.integer("base", size, 1)
        if exponent not in (0.5, 1.0):
            raise ValueError(f"exponent={exponent}; allowed: 0.5, 1")
        deeper = depth / base[1]
        self.beta = deeper**-exponent
        mup = self.parametrization == "mup"
        self.sgd = deeper ** (2 * exponent - 1) if mup else 1.0
        self.adam = deeper ** (exponent - 1) if mup else 1.0

    def linear(self, n_in, n_out, *, readout=False, branch=False):
        layer = self._layer(n_in, n_out, readout=readout)
        if branch:
            layer = layer._replace(
                sgd=layer.sgd * self.sgd, adam=layer.adam * self.adam
            )
        return Linear(layer, (n_out[0], n_in[0]), self.generator)

    def embedding(self, n_in, n_out):
        # One token is present: the sum over inputs has a single term.
        layer = self._layer(_fixed(1), n_out)
        return Embedding(layer, (n_out[0], n_in[0]), self.generator)

    def convolution(self, n_in, n_out):
        layer = self._layer((9 * n_in[0], 9 * n_in[1]), n_out)
        return Convolution(layer, (n_out[0], n_in[0], 3, 3), self.generator)

    def _layer(self, n_in, n_out, *, readout=False):
        fans, base = zip(n_in, n_out, strict=True)
        return parametrizations.layer(
            self.parametrization, fans, base, readout=readout, scale=self.scale
        )


def _fixed(size: int) -> Dimension:
    """Return a dimension that does not grow with the width."""
    return size, size


def _normalize(stream: torch.Tensor) -> torch.Tensor:
    """Give every vector [..., width] mean 0 and mean square 1."""
    centred = stream - stream.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred * torch.rsqrt(variance + 1e-5)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        _checks.integer(name, size, 1)
