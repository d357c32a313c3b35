"""How multipliers, starts and learning rates change with the width.

A parametrization says for every weight of a network by which constant it is
multiplied, how large it is at the start, and how its learning rate differs
from the common one. `networks.mlp` and `architectures` take it by name;
`rates` and `groups` hand the learning rates to whatever trains the network.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from learning_mechanics import _checks

NAMES = ("standard", "ntk", "mup")


class Layer(NamedTuple):
    """How one weight scales.

    Attributes
    ----------
    multiplier : float
        Constant factor of the weight, not trained.
    std : float
        Standard deviation of its entries at the start.
    sgd, adam : float
        Its learning rate under SGD and Adam, as a multiple of the common one.
        SGD with momentum goes as SGD, sign descent and AdamW as Adam.
    """

    multiplier: float
    std: float
    sgd: float
    adam: float


def layer(
    name: str,
    fans: tuple[float, float],
    base: tuple[float, float],
    *,
    readout: bool = False,
    scale: float = 1.0,
) -> Layer:
    r"""Say how one weight scales, by a parametrization's name.

    With :math:`n` and :math:`n'` the fan-in and fan-out, :math:`n_0` and
    :math:`n_0'` those of a base network, :math:`r=n/n_0`,
    :math:`r'=n'/n'_0`, and :math:`\sigma` the scale,

    .. math::

       \begin{array}{lcccc}
       & \text{multiplier} & \text{std} & \text{SGD} & \text{Adam} \\
       \text{standard} & 1 & \sigma/\sqrt n & 1 & 1 \\
       \text{ntk} & \sigma/\sqrt n & 1 & n_0/\sigma^2 &
           \sqrt{n_0}/\sigma \\
       \text{mup} & 1 & \sigma/\sqrt n & r'/r & 1/r \\
       \text{mup, readout} & 1/r & \sigma/\sqrt{n_0} & r\,r' & 1
       \end{array}

    A multiplier :math:`c` times as large, a start :math:`1/c` times as large
    and rates :math:`1/c^2` (SGD) or :math:`1/c` (Adam, but for its epsilon)
    times as large train the same function. So all three are the same network
    at the base. Away from it, only ``mup`` changes the features equally at
    every width; under SGD, ``ntk`` makes them freeze. The kernel of
    `kernels.ntk` belongs to one learning rate for all weights, without the
    factors of ``ntk``, which are there to agree with the base.

    Parameters
    ----------
    name : str
        ``standard``, ``ntk`` or ``mup`` (maximal update, :math:`\mu P`).
    fans : tuple of float
        Fan-in and fan-out: terms in the sum over inputs, and outputs.
    base : tuple of float
        The same of the base network. Numbers that do not grow with the
        width, such as the network's inputs, are equal in both.
    readout : bool
        Whether the weight leads from the last hidden layer to the outputs.
    scale : float
        :math:`\sigma`; 1 keeps the size of the signal in a linear network.

    Returns
    -------
    Layer
        Multiplier, standard deviation, and factors of the learning rate.

    Raises
    ------
    ValueError
        If the name is unknown, `fans` or `base` are no pair, or a number is
        not positive.

    Source
    ------
    Yang and Hu (2021), arXiv:2011.14522, for the space of parametrizations
    and its symmetry; Jacot, Gabriel and Hongler (2018), arXiv:1806.07572, for
    ``ntk``; Yang et al. (2022), arXiv:2203.03466, for ``mup`` relative to a
    base, in the form of their package.

    Examples
    --------
    >>> layer("mup", (1024, 10), (64, 10), readout=True)
    Layer(multiplier=0.0625, std=0.125, sgd=16.0, adam=1.0)
    >>> layer("mup", (1024, 1024), (64, 64))
    Layer(multiplier=1.0, std=0.03125, sgd=1.0, adam=0.0625)
    """
    if name not in NAMES:
        raise ValueError(
            f"parametrization={name!r}; allowed: {', '.join(NAMES)}"
        )
    for argument, values in (("fans", fans), ("base", base)):
        if np.shape(values) != (2,):
            raise ValueError(
                f"{argument}={values!r}; allowed: a fan-in and a fan-out"
            )
    for argument, values in (("fans", fans), ("base", base), ("scale", scale)):
        _checks.positive(argument, values)
    root, base_root = math.sqrt(fans[0]), math.sqrt(base[0])
    wider, wider_out = fans[0] / base[0], fans[1] / base[1]
    if name == "standard":
        return Layer(1.0, scale / root, 1.0, 1.0)
    if name == "ntk":
        return Layer(scale / root, 1.0, base[0] / scale**2, base_root / scale)
    if readout:
        return Layer(1 / wider, scale / base_root, wider * wider_out, 1.0)
    return Layer(1.0, scale / root, wider_out / wider, 1 / wider)


def rates(network: nn.Module, optimizer: str) -> torch.Tensor:
    """Return each parameter's learning rate in units of the common one.

    Parameters
    ----------
    network : torch.nn.Module
        Drawn by `networks.mlp`, or one of `architectures`.
    optimizer : str
        ``sgd``, also with momentum, or ``adam``, for AdamW and sign descent
        as well.

    Returns
    -------
    torch.Tensor
        float64 [p], in the order of ``network.named_parameters()``. Times
        the common rate, it is a row of ``learning_rate`` in
        `ensembles.train`.

    Raises
    ------
    ValueError
        If the optimizer is unknown, or the network does not know how its
        weights scale.

    Examples
    --------
    >>> from learning_mechanics import networks
    >>> network = networks.mlp(
    ...     [784, 256, 256, 10], torch.tanh, parametrization="mup", base=64,
    ...     generator=torch.Generator().manual_seed(0))
    >>> rates(network, "adam").tolist(), rates(network, "sgd").tolist()
    ([1.0, 0.25, 1.0], [4.0, 1.0, 4.0])
    """
    if optimizer not in ("sgd", "adam"):
        raise ValueError(f"optimizer={optimizer!r}; allowed: sgd, adam")
    layers = getattr(network, "layers", None)
    if layers is None:
        raise ValueError(
            f"network is a {type(network).__name__} without layers; allowed: "
            "one drawn by networks.mlp, or one of architectures"
        )
    return torch.tensor(
        [getattr(layer, optimizer) for layer in layers], dtype=torch.float64
    )


def groups(
    network: nn.Module, optimizer: str, learning_rate: float
) -> list[dict]:
    """Return parameter groups for an optimizer of ``torch.optim``.

    Parameters
    ----------
    network, optimizer
        As in `rates`.
    learning_rate : float
        The common rate.

    Returns
    -------
    list of dict
        One group a parameter, with ``params`` and ``lr``.

    Raises
    ------
    ValueError
        As `rates`, or if the learning rate is not positive.

    Examples
    --------
    >>> from learning_mechanics import networks
    >>> network = networks.mlp(
    ...     [2, 8, 1], torch.tanh, parametrization="mup", base=4,
    ...     generator=torch.Generator().manual_seed(0))
    >>> optimizer = torch.optim.SGD(groups(network, "sgd", 0.1))
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.2, 0.2]
    """
    _checks.positive("learning_rate", learning_rate)
    return [
        {"params": [parameter], "lr": learning_rate * rate}
        for parameter, rate in zip(
            network.parameters(),
            rates(network, optimizer).tolist(),
            strict=True,
        )
    ]
