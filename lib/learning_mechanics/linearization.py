r"""Networks to first order in their weights.

Around the weights :math:`\theta_0` a network is
:math:`f(x)\approx f_0(x)+J(x)(\theta-\theta_0)`, a linear model with the
Jacobian :math:`J=\partial f/\partial\theta` as its features. All of its
training by squared error is in the tangent kernel
:math:`\Theta(x,x')=J(x)J(x')^\top`, [c, c] for c outputs.
"""

import copy
import itertools

import torch
from torch import nn
from torch.func import functional_call, jacrev, jvp, vmap

from learning_mechanics import _checks
from learning_mechanics import networks as nets

JACOBIAN_BYTES = 2**28  # that a block of Jacobians may occupy


def ntk(
    network: nn.Module,
    inputs: torch.Tensor,
    others: torch.Tensor | None = None,
    *,
    traced: bool = True,
) -> torch.Tensor:
    r"""Empirical tangent kernel :math:`J(x)J(x')^\top` at the present weights.

    Of a `networks.MLP` the Jacobian is never formed. With the layers' inputs
    :math:`z_l` and :math:`d_l=\partial f/\partial h_l` by pre-activations,

    .. math:: \Theta(x,x')=\sum_l\bigl(m_l^2\,z_l\cdot z_l'
        +[\text{bias}]\bigr)\;d_l\,d_l'^\top ,

    so that a few products of matrices with n rows suffice. Other networks go
    by the Jacobian, in blocks of samples.

    Parameters
    ----------
    network : torch.nn.Module
        Maps [n, ...] to [n, c], each sample by itself. Every parameter that
        requires a gradient counts.
    inputs, others : torch.Tensor
        [n, ...] and, optionally, [m, ...]; without others the inputs again.
    traced : bool
        Sum over outputs, :math:`\sum_c\Theta_{cc}`, or keep all pairs.

    Returns
    -------
    torch.Tensor
        [n, m], or [n, m, c, c] if not traced.

    Raises
    ------
    TypeError, ValueError
        If the network is no module, or its outputs are no matrix; if inputs
        are empty, not finite, or unlike its weights; if the kernel is not
        finite.

    Source
    ------
    Jacot, Gabriel and Hongler (2018), arXiv:1806.07572; the layer products:
    Novak, Sohl-Dickstein and Schoenholz (2022), arXiv:2206.08720.

    Examples
    --------
    >>> network = nets.MLP([torch.tensor([[3.0, 4.0]])])  # f = 3 x + 4 y
    >>> ntk(network, torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
    tensor([[5., 2.],
            [2., 1.]])
    """
    c = _check(network, "inputs", inputs)
    if others is not None:
        _check(network, "others", others)
        if others.shape[1:] != inputs.shape[1:]:
            raise ValueError(
                f"others of shape {list(others.shape)}; allowed: as inputs, "
                f"[m, {', '.join(map(str, inputs.shape[1:]))}]"
            )
    if nets.is_layered(network):
        kernel = _by_layers(network, inputs, others, traced)
    else:
        kernel = _by_jacobian(network, inputs, others, traced, c)
    if not kernel.isfinite().all():
        raise ValueError(
            "network has a tangent kernel that is not finite; allowed: finite "
            "outputs and derivatives"
        )
    return kernel


class TangentKernel:
    r"""The tangent kernel [nc, nc] as an operator, for `lanczos`.

    A product with a vector is one pass backward, :math:`J^\top u`, and one
    forward, :math:`J(J^\top u)`; nothing of the size of the kernel or of the
    Jacobian is formed. Sample and output are flattened in this order. If all
    outputs have the same kernel, as those of a single layer, each eigenvalue
    comes c times, of which `lanczos` finds at least one.

    Parameters
    ----------
    network : torch.nn.Module
        As for `ntk`.
    inputs : torch.Tensor
        [n, ...].

    Raises
    ------
    TypeError, ValueError
        As `ntk`.

    Examples
    --------
    >>> from learning_mechanics import lanczos
    >>> network = nets.MLP([torch.tensor([[3.0, 4.0]])])
    >>> kernel = TangentKernel(network, torch.eye(2))
    >>> kernel @ torch.tensor([1.0, 2.0])
    tensor([1., 2.])
    >>> pairs = lanczos.top_eigenpairs(
    ...     kernel, 1, generator=torch.Generator().manual_seed(0))
    >>> pairs.values.round(4).tolist()
    [1.0]
    """

    def __init__(self, network: nn.Module, inputs: torch.Tensor):
        _check(network, "inputs", inputs)
        self._parameters = _trained(network)
        with torch.enable_grad():
            self._outputs = network(inputs).flatten()
            # J v is the derivative of v^T J^T w by w, which is linear.
            self._weight = torch.zeros_like(self._outputs, requires_grad=True)
            self._pulled = torch.autograd.grad(
                self._outputs,
                self._parameters,
                self._weight,
                create_graph=True,
                materialize_grads=True,
            )

        self.shape = 2 * self._outputs.shape
        self.dtype, self.device = self._outputs.dtype, self._outputs.device

    def __matmul__(self, vector: torch.Tensor) -> torch.Tensor:
        """Return the product with a vector, [nc]."""
        _checks.fits("vector", vector, self)
        gradient = torch.autograd.grad(
            self._outputs,
            self._parameters,
            vector,
            retain_graph=True,
            materialize_grads=True,
        )
        (product,) = torch.autograd.grad(
            self._pulled, self._weight, gradient, retain_graph=True
        )
        return product


class Linearized(nn.Module):
    r"""The network to first order, :math:`f_0(x)+J_0(x)(\theta-\theta_0)`.

    It is trained as any other network; the Jacobian stays that of the start.

    Parameters
    ----------
    network : torch.nn.Module
        Copied, and not changed. It needs forward-mode derivatives, which
        plain operations have.

    Attributes
    ----------
    weights : torch.nn.ParameterList
        :math:`\theta`: one for each parameter of the network that requires
        a gradient, in their order, equal to it at first.
    start : torch.nn.Module
        The network with the parameters :math:`\theta_0`, kept as buffers.

    Raises
    ------
    TypeError, ValueError
        If the network is no module, or no parameter requires a gradient.

    Examples
    --------
    >>> network = nets.MLP([torch.ones(1, 1), torch.ones(1, 1)])  # f = a b x
    >>> linear = Linearized(network)
    >>> with torch.no_grad():
    ...     for weight in linear.parameters():
    ...         _ = weight.add_(1.0)
    >>> x = torch.ones(1, 1)
    >>> network(x).item(), linear(x).item()  # 1, and 1 + 1 + 1
    (1.0, 3.0)
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        trained = _trained(network)
        self.weights = nn.ParameterList(p.detach().clone() for p in trained)
        # A parameter that two parts of the network share has two names.
        place = {p: i for i, p in enumerate(trained)}
        self._places = {
            name: place[p]
            for name, p in network.named_parameters(remove_duplicate=False)
            if p in place
        }
        self.start = copy.deepcopy(network).requires_grad_(False)
        # Buffers are moved and stored with the module, but not trained.
        for part in self.start.modules():
            part._buffers.update(part._parameters)
            part._parameters.clear()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map inputs [n, ...] to outputs [n, c]."""
        buffers = dict(self.start.named_buffers(remove_duplicate=False))
        start = {name: buffers[name] for name in self._places}
        change = {
            name: self.weights[i] - start[name]
            for name, i in self._places.items()
        }
        value, slope = jvp(
            lambda w: functional_call(
                self.start, w, (inputs,), tie_weights=False
            ),
            (start,),
            (change,),
        )
        return value + slope


def drift(before: torch.Tensor, after: torch.Tensor) -> float:
    r"""Relative change of a kernel, :math:`\|K_t-K_0\|_F/\|K_0\|_F`.

    Parameters
    ----------
    before, after : torch.Tensor
        :math:`K_0` and :math:`K_t`, of one shape.

    Returns
    -------
    float
        0 for a kernel that has not moved, as in the lazy limit.

    Raises
    ------
    TypeError, ValueError
        If the kernels are not alike, not finite, or the first is zero.

    Source
    ------
    Chizat, Oyallon and Bach (2019), arXiv:1812.07956; Lee et al. (2019),
    arXiv:1902.06720.

    Examples
    --------
    >>> drift(torch.eye(2), 1.5 * torch.eye(2))
    0.5
    """
    for name, kernel in (("before", before), ("after", after)):
        _checks.tensor(name, kernel, getattr(before, "ndim", 2))
    if before.shape != after.shape:
        raise ValueError(
            f"after has shape {list(after.shape)}; allowed: that of before, "
            f"{list(before.shape)}"
        )
    _checks.alike("after", after, "before", before)
    size = before.norm()
    _checks.positive("norm of before", size.item())
    return ((after - before).norm() / size).item()


def _trained(network) -> list[nn.Parameter]:
    if not isinstance(network, nn.Module):
        raise TypeError(
            f"network is {type(network).__name__}; allowed: a torch.nn.Module"
        )
    weights = [p for p in network.parameters() if p.requires_grad]
    if not weights:
        raise ValueError(
            "network has no parameter that requires a gradient; allowed: at "
            "least one"
        )
    return weights


def _check(network, name: str, inputs: torch.Tensor) -> int:
    """Check inputs against the network; return its number of outputs."""
    weights = _trained(network)
    mlp = isinstance(network, nets.MLP)
    if mlp or getattr(inputs, "dtype", None) != torch.int64:  # no tokens
        ndim = 2 if mlp else max(getattr(inputs, "ndim", 2), 2)
        _checks.tensor(name, inputs, ndim)
        for weight in weights:
            _checks.alike(name, inputs, "the network's weights", weight)
    if mlp and inputs.shape[1] != network.weights[0].shape[1]:
        raise ValueError(
            f"{name} of shape {list(inputs.shape)}; allowed: "
            f"{network.weights[0].shape[1]} columns, as the first weights"
        )
    with torch.no_grad():
        outputs = network(inputs[:1])
    _checks.tensor(f"what the network makes of {name}", outputs, 2)
    return outputs.shape[1]


@torch.no_grad()
def _by_layers(network, inputs, others, traced):
    """Tangent kernel of an MLP by products of layers."""
    left, right = _signals(network, inputs, traced), itertools.repeat(None)
    if others is not None:
        right = _signals(network, others, traced)
    total = 0.0
    for (z, d), other, scale in zip(
        left, right, reversed(_scales(network)), strict=False
    ):
        z_other, d_other = other or (z, d)
        below = (z @ z_other.T).mul_(scale**2)
        if network.biases is not None:
            below += 1.0
        above = d @ d_other.T
        if not traced:
            n, m = below.shape
            above = above.view(n, len(d) // n, m, -1).transpose(1, 2)
            below = below[..., None, None]
        total = total + above * below
    return total


def _signals(network, inputs, traced):
    """Yield z and d of each layer, from the readout down.

    z [n, w] enters the layer. Products of rows of d are those of the
    derivatives of the outputs by what leaves it: [n c, w'], or if traced
    [n, k], summed over outputs.
    """
    weights = list(map(torch.mul, network.weights, _scales(network)))
    entering, slopes, hidden = [], [], inputs
    for layer, weight in enumerate(weights):
        if layer:
            hidden, slope = _activate(network.activation, hidden)
            slopes.append(slope)
        entering.append(hidden)
        hidden = hidden @ weight.T
        if network.biases is not None:
            hidden += network.biases[layer]
    slopes.append(None)  # nothing follows the readout
    n, c = hidden.shape
    d = torch.eye(c).to(hidden)[None]  # [1 or n, c, w], before the slopes
    for layer in reversed(range(len(entering))):
        slope = slopes.pop()
        full = d if slope is None else d * slope[:, None]
        if not traced:
            rows = full.expand(n, c, -1).flatten(0, 1)
        elif len(d) > 1:
            rows = full.flatten(1)
        else:  # alike for all inputs: a sum over outputs is a norm
            columns = d[0].norm(dim=0)
            rows = columns.expand(n, -1) if slope is None else columns * slope
        yield entering.pop(), rows
        if layer:
            d = full @ weights[layer]


def _activate(activation, hidden):
    """Return an activation's values and slopes, [n, w]."""
    if activation is None:
        return hidden, None
    with torch.enable_grad():
        hidden = hidden.detach().requires_grad_()
        values = activation(hidden)
        (slope,) = torch.autograd.grad(values.sum(), hidden)
    return values.detach(), slope


def _scales(network):
    return network.multipliers or (1.0,) * len(network.weights)


@torch.no_grad()
def _by_jacobian(network, inputs, others, traced, c):
    """Tangent kernel of any network, in blocks of samples."""
    weights = {
        name: p.detach()
        for name, p in network.named_parameters()
        if p.requires_grad
    }
    size = sum(w.numel() * w.element_size() for w in weights.values())
    block = max(JACOBIAN_BYTES // (c * size), 1)

    def one(x):
        return jacrev(
            lambda w: functional_call(network, w, (x[None],)).squeeze(0)
        )(weights)

    def jacobian(block):
        """Return [samples, c, p] for each parameter."""
        parts = vmap(one)(block).values()
        return [p.reshape(*p.shape[:2], -1) for p in parts]

    product = "ncp,mcp->nm" if traced else "ncp,mdp->nmcd"
    blocks = inputs.split(block)
    other_blocks = blocks if others is None else others.split(block)
    rows = []
    for i, x in enumerate(blocks):
        left = jacobian(x)
        row = []
        for j, y in enumerate(other_blocks):
            if others is None and j < i:
                kernel = rows[j][i]
                row.append(kernel.T if traced else kernel.permute(1, 0, 3, 2))
                continue
            same = others is None and j == i
            right = left if same else jacobian(y)
            parts = zip(left, right, strict=True)
            row.append(sum(torch.einsum(product, *pair) for pair in parts))
        rows.append(row)
    return torch.cat([torch.cat(row, 1) for row in rows])
