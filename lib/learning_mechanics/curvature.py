"""Second derivatives of a loss, known by their products with vectors.

No matrix is formed: `Hessian`, `GaussNewton` and `Preconditioned` multiply
flat vectors [p], which is all that `lanczos` and `sharpness` ask of them.
"""

from collections.abc import Callable, Iterable
from itertools import compress

import torch

from learning_mechanics import _checks
from learning_mechanics.lanczos import Operator


class _Derivative:
    """What the operators made by differentiation share: flat vectors."""

    def __init__(self, parameters: Iterable[torch.Tensor]):
        self.parameters = _check_parameters(parameters)
        self.dtype = self.parameters[0].dtype
        self.device = self.parameters[0].device
        size = sum(w.numel() for w in self.parameters)
        self.shape = (size, size)

    def _split(self, vector: torch.Tensor) -> list[torch.Tensor]:
        _checks.fits("vector", vector, self)
        parts = vector.split([w.numel() for w in self.parameters])
        return [
            part.view_as(w)
            for part, w in zip(parts, self.parameters, strict=True)
        ]

    def _pull(self, outputs, directions, *, create_graph=False):
        """Flat gradient of sum(outputs * directions), or zeros."""
        kept = [output.requires_grad for output in outputs]
        if not any(kept):
            return torch.zeros(
                self.shape[0], dtype=self.dtype, device=self.device
            )
        gradients = torch.autograd.grad(
            list(compress(outputs, kept)),
            self.parameters,
            list(compress(directions, kept)),
            retain_graph=True,
            create_graph=create_graph,
            materialize_grads=True,
        )
        return _flatten(gradients)


class Hessian(_Derivative):
    r"""The matrix :math:`H=\nabla^2\mathcal L` at the present weights.

    The gradient is differentiated from one graph, built once and kept: a
    product costs about two gradients, and no forward pass.

    Parameters
    ----------
    loss : callable
        Returns the loss, a scalar tensor, at the present weights.
    parameters : iterable of torch.Tensor
        The weights, float32 or float64, on one device; p numbers together.

    Attributes
    ----------
    value : float
        The loss.
    gradient : torch.Tensor
        [p], in the order of `parameters`.

    Raises
    ------
    TypeError
        If a parameter is no tensor of float32 or float64, or the loss none.
    ValueError
        If there are no parameters; if one needs no gradient or has no
        influence on the loss; if types or devices differ; if the loss is not
        a finite scalar.
    RuntimeError
        By a product, after weights that it needs were changed in place: the
        matrix belongs to the weights it was made at.

    Examples
    --------
    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> hessian = Hessian(lambda: w[0] ** 2 * w[1], [w])
    >>> hessian @ torch.tensor([1.0, 0.0])
    tensor([4., 2.])
    """

    def __init__(
        self,
        loss: Callable[[], torch.Tensor],
        parameters: Iterable[torch.Tensor],
    ):
        super().__init__(parameters)
        with torch.enable_grad():
            value = _check_scalar("loss", loss())
            self._gradients = _gradients(value, self.parameters)
        _check_used("loss", self._gradients)
        self.value = value.item()
        self.gradient = _flatten(self._gradients).detach()

    def __matmul__(self, vector: torch.Tensor) -> torch.Tensor:
        """Return the product with a vector, [p]."""
        return self._pull(self._gradients, self._split(vector))

    def third(self, vector: torch.Tensor) -> torch.Tensor:
        r"""Return :math:`\nabla(u^\top H u)` for a constant vector u.

        For the unit eigenvector of a simple eigenvalue this is the gradient
        of the eigenvalue; for the top one, of the sharpness, along which
        oscillations at the edge of stability push the weights.

        Parameters
        ----------
        vector : torch.Tensor
            u, [p].

        Returns
        -------
        torch.Tensor
            [p].

        Source
        ------
        Damian, Nichani and Lee (2023), arXiv:2209.15594; central flows:
        Cohen et al. (2025), arXiv:2410.24206.

        Examples
        --------
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> hessian = Hessian(lambda: w[0] ** 2 * w[1], [w])
        >>> hessian.third(torch.tensor([1.0, 0.0]))
        tensor([0., 2.])
        """
        parts = self._split(vector.detach())
        with torch.enable_grad():
            product = self._pull(self._gradients, parts, create_graph=True)
        return self._pull([product], [vector.detach()])


class GaussNewton(_Derivative):
    r"""The matrix :math:`G=J^\top\,\nabla_f^2\ell\;J` at the present weights.

    :math:`J=\partial f/\partial\theta` is the Jacobian of the outputs. What
    is left out of the Hessian is the curvature of the outputs themselves.

    Parameters
    ----------
    outputs : callable
        Returns the network's outputs f at the present weights, any shape.
    loss : callable
        Maps outputs to the loss :math:`\ell`, a scalar tensor.
    parameters : iterable of torch.Tensor
        The weights, float32 or float64, on one device; p numbers together.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `Hessian`.

    Source
    ------
    Products without the matrix: Schraudolph (2002), Neural Computation 14.

    Examples
    --------
    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> matrix = GaussNewton(lambda: w[0] * w[1], lambda f: f**2 / 2, [w])
    >>> matrix @ torch.tensor([1.0, 0.0])  # J = (2, 1)
    tensor([4., 2.])
    """

    def __init__(
        self,
        outputs: Callable[[], torch.Tensor],
        loss: Callable[[torch.Tensor], torch.Tensor],
        parameters: Iterable[torch.Tensor],
    ):
        super().__init__(parameters)
        with torch.enable_grad():
            self._outputs = outputs()
            if not isinstance(self._outputs, torch.Tensor):
                raise TypeError(
                    f"outputs gives {type(self._outputs).__name__}; allowed: "
                    "a tensor"
                )
            self._leaf = self._outputs.detach().requires_grad_()
            value = _check_scalar("loss", loss(self._leaf))
            if not value.requires_grad:
                raise ValueError(
                    "loss does not depend on the outputs; allowed: a "
                    "differentiable function of them"
                )
            (self._slope,) = torch.autograd.grad(
                value, self._leaf, create_graph=True
            )
            # J v is the derivative of v^T J^T w by w, which is linear.
            self._weight = torch.zeros_like(self._leaf, requires_grad=True)
            self._pulled = _gradients(
                self._outputs, self.parameters, self._weight
            )
        _check_used("outputs", self._pulled)
        self.value = value.item()

    def __matmul__(self, vector: torch.Tensor) -> torch.Tensor:
        """Return the product with a vector, [p]."""
        (change,) = torch.autograd.grad(
            self._pulled, self._weight, self._split(vector), retain_graph=True
        )
        if not self._slope.requires_grad:  # the loss is linear in f
            return torch.zeros_like(vector)
        (change,) = torch.autograd.grad(
            self._slope,
            self._leaf,
            change,
            retain_graph=True,
            materialize_grads=True,
        )
        return self._pull([self._outputs], [change])


class Preconditioned:
    r"""The matrix :math:`P^{-1/2}HP^{-1/2}` for a diagonal P.

    It is symmetric and has the eigenvalues of :math:`P^{-1}H`. For Adam
    without bias correction :math:`P=\sqrt{\nu}+\varepsilon` with the running
    second moment :math:`\nu`; its largest eigenvalue is the preconditioned
    sharpness.

    Parameters
    ----------
    operator : Operator
        H, [p, p].
    diagonal : torch.Tensor
        The diagonal of P, [p], positive.

    Raises
    ------
    ValueError
        If `diagonal` does not fit or is not positive and finite.

    Source
    ------
    Cohen et al. (2022), arXiv:2207.14484.

    Examples
    --------
    >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> Preconditioned(matrix, torch.tensor([4.0, 1.0])) @ torch.ones(2)
    tensor([1.0000, 3.5000])
    """

    def __init__(self, operator: Operator, diagonal: torch.Tensor):
        _checks.fits("diagonal", diagonal, operator)
        extremes = [diagonal.min().item(), diagonal.max().item()]
        _checks.positive("least and largest of diagonal", extremes)
        self.operator = operator
        self.shape, self.dtype = tuple(operator.shape), operator.dtype
        self.device = operator.device
        self._factor = diagonal.detach().rsqrt()

    def __matmul__(self, vector: torch.Tensor) -> torch.Tensor:
        """Return the product with a vector, [p]."""
        return self._factor * (self.operator @ (self._factor * vector))


def _gradients(output, parameters, direction=None):
    """Differentiable gradients, None where there is no influence."""
    if not output.requires_grad:
        return [None] * len(parameters)
    return torch.autograd.grad(
        output, parameters, direction, create_graph=True, allow_unused=True
    )


def _flatten(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _check_parameters(parameters) -> list[torch.Tensor]:
    parameters = list(parameters)
    if not parameters:
        raise ValueError("parameters is empty; allowed: at least one tensor")
    for i, weight in enumerate(parameters):
        name = f"parameters[{i}]"
        _checks.real(name, weight)
        _checks.alike(name, weight, "parameters[0]", parameters[0])
        if not weight.requires_grad:
            raise ValueError(
                f"{name} has requires_grad=False; allowed: tensors that "
                "require gradients"
            )
    return parameters


def _check_scalar(name: str, value) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise TypeError(
            f"{name} gives {type(value).__name__}; allowed: a scalar tensor"
        )
    if value.numel() != 1 or not bool(value.isfinite().all()):
        raise ValueError(
            f"{name} gives {value.detach()}; allowed: one finite number"
        )
    return value


def _check_used(name: str, gradients) -> None:
    unused = [i for i, part in enumerate(gradients) if part is None]
    if unused:
        raise ValueError(
            f"{name} does not depend on parameters {unused}; allowed: "
            "parameters that it depends on"
        )
