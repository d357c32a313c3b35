r"""Curvature of a loss: products, extreme eigenvalues, density, sharpness.

A matrix of second derivatives is never formed. `Hessian`, `GaussNewton` and
`Preconditioned` are known by their products with flat vectors [p]; what works
on them works on a symmetric tensor as well.
"""

import math
from collections.abc import Callable, Iterable
from itertools import compress
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal

from learning_mechanics import _checks


class Operator(Protocol):
    """A symmetric matrix [p, p] known by its products with vectors [p]."""

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    def __matmul__(self, vector: torch.Tensor) -> torch.Tensor:
        """Return the product with a vector, [p]."""


class _Derivative:
    """What the operators made by differentiation share: flat vectors."""

    def __init__(self, parameters: Iterable[torch.Tensor]):
        self.parameters = _check_parameters(parameters)
        self.dtype = self.parameters[0].dtype
        self.device = self.parameters[0].device
        size = sum(w.numel() for w in self.parameters)
        self.shape = (size, size)

    def _split(self, vector: torch.Tensor) -> list[torch.Tensor]:
        _check_vector("vector", vector, self)
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
        [p], flat, in the order of `parameters`.

    Raises
    ------
    TypeError
        If something other than a tensor stands for a parameter or the loss.
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
        _check_vector("diagonal", diagonal, operator)
        if not bool(((diagonal > 0) & diagonal.isfinite()).all()):
            raise ValueError(
                f"diagonal has entries from {diagonal.min().item()} to "
                f"{diagonal.max().item()}; allowed: positive finite numbers"
            )
        self.operator = operator
        self.shape, self.dtype = tuple(operator.shape), operator.dtype
        self.device = operator.device
        self._factor = diagonal.detach().rsqrt()

    def __matmul__(self, vector: torch.Tensor) -> torch.Tensor:
        """Return the product with a vector, [p]."""
        return self._factor * (self.operator @ (self._factor * vector))


class Eigenpairs(NamedTuple):
    """What `top_eigenpairs` returns.

    Attributes
    ----------
    values : numpy.ndarray
        Eigenvalues, largest first, [k].
    vectors : torch.Tensor
        Unit eigenvectors, one a column, [p, k].
    bounds : numpy.ndarray
        Largest error of each value but for rounding, [k].
    products : int
        Products with the operator that were needed.
    """

    values: np.ndarray
    vectors: torch.Tensor
    bounds: np.ndarray
    products: int


class _Lanczos:
    """An orthonormal basis of the Krylov space, grown by one product a step.

    Every new vector is orthogonalized twice against all the others: without
    it, rounding makes converged eigenvalues appear again.
    """

    def __init__(self, operator, start, generator):
        self.operator, self.generator = operator, generator
        # Rows are basis vectors; there is one more than products made.
        self.basis = start.new_empty(min(16, len(start)), len(start))
        self.basis[0] = start / math.sqrt(_dot(start, start))
        self.diagonal, self.beside = [], []

    def step(self) -> None:
        m = len(self.diagonal) + 1
        basis = self.basis[:m]
        image = self.operator @ basis[-1]
        self.diagonal.append(_dot(basis[-1], image))
        for _ in range(2):
            image.addmv_(basis.T, basis @ image, alpha=-1)
        beside = math.sqrt(_dot(image, image))
        if not math.isfinite(beside + self.diagonal[-1]):
            raise FloatingPointError(
                "operator gives a product that is not finite"
            )
        size = max(map(abs, self.diagonal + self.beside))
        if m == len(image) or beside <= 10 * torch.finfo(
            image.dtype
        ).eps * max(size, beside):
            beside = 0.0  # the space is invariant: go on in another
        self.beside.append(beside)
        if m == len(image):
            return
        if beside == 0.0:
            image = _random(self.operator, self.generator)
            for _ in range(2):
                image.addmv_(basis.T, basis @ image, alpha=-1)
        if m == len(self.basis):
            room = min(m, len(image) - m)
            self.basis = torch.cat(
                [self.basis, image.new_empty(room, len(image))]
            )
        self.basis[m] = image / math.sqrt(_dot(image, image))

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eigenvalues of the projection, descending; vectors; residuals."""
        values, vectors = eigh_tridiagonal(self.diagonal, self.beside[:-1])
        values, vectors = values[::-1], vectors[:, ::-1]
        return values, vectors, self.beside[-1] * np.abs(vectors[-1])

    def lift(self, vectors: np.ndarray) -> torch.Tensor:
        """From coordinates [m, k] in the basis to vectors [p, k]."""
        basis = self.basis[: len(vectors)]
        coordinates = torch.as_tensor(vectors.copy()).to(basis)
        return basis.T @ coordinates


def top_eigenpairs(
    operator: Operator,
    k: int,
    *,
    generator: torch.Generator,
    tolerance: float = 1e-5,
    limit: int = 500,
) -> Eigenpairs:
    r"""Find the k largest eigenvalues by Lanczos iteration.

    A Ritz value :math:`\vartheta` with the residual
    :math:`r=\|Hu-\vartheta u\|` is within r of an eigenvalue, and within
    :math:`r^2/g` if no other eigenvalue is nearer to it than g. The distance
    g is read off the other Ritz values, less their own residuals: this, like
    the claim that the largest ones were found, holds unless the random start
    is orthogonal to an eigenvector. Of a repeated eigenvalue at least one
    copy is found. The bound knows nothing of rounding: float32 products of a
    network with a million weights move an eigenvalue by up to 1e-5 of itself.

    Parameters
    ----------
    operator : Operator
        A symmetric matrix, [p, p].
    k : int
        From 1 to p.
    generator : torch.Generator
        The random stream of the start.
    tolerance : float
        Stop when each bound is below this part of its eigenvalue's size.
    limit : int
        Most products; the basis takes this many vectors [p] of memory.

    Returns
    -------
    Eigenpairs
        Values, vectors, bounds and the number of products.

    Raises
    ------
    ValueError
        If `k`, `tolerance` or `limit` is out of range.
    ArithmeticError
        If `limit` products do not reach the tolerance.
    FloatingPointError
        If a product is not finite.

    Source
    ------
    Lanczos (1950); Parlett, The Symmetric Eigenvalue Problem (1998), for the
    bounds of residual and gap.

    Examples
    --------
    >>> matrix = torch.diag(torch.arange(1.0, 101.0))
    >>> found = top_eigenpairs(
    ...     matrix, 2, generator=torch.Generator().manual_seed(0))
    >>> found.values.round(2).tolist()
    [100.0, 99.0]
    """
    _check_operator(operator)
    _checks.positive("tolerance", tolerance)
    size = operator.shape[0]
    if not 1 <= k <= size:
        raise ValueError(f"k={k}; allowed: from 1 to {size}")
    if limit < k:
        raise ValueError(f"limit={limit}; allowed: at least k={k}")
    lanczos = _Lanczos(operator, _random(operator, generator), generator)
    for products in range(1, min(limit, size) + 1):
        lanczos.step()
        if products < k:
            continue
        values, vectors, residuals = lanczos.ritz()
        bounds = _bounds(values, residuals)[:k]
        if products == size or np.all(bounds <= tolerance * abs(values[:k])):
            return Eigenpairs(
                values[:k].copy(),
                lanczos.lift(vectors[:, :k]),
                bounds,
                products,
            )
    raise ArithmeticError(
        f"{limit} products leave the bounds {bounds} on {values[:k]}; a "
        "larger limit or tolerance may help"
    )


class Estimate(NamedTuple):
    """One measurement of `Sharpness`.

    Attributes
    ----------
    value : float
        The largest eigenvalue.
    bound : float
        Norm of the residual: an eigenvalue lies within it of `value`.
    vector : torch.Tensor
        The unit eigenvector's estimate, [p].
    products : int
        Products with the operator that were needed.
    """

    value: float
    bound: float
    vector: torch.Tensor
    products: int


class Sharpness:
    r"""The largest eigenvalue, followed while the weights are trained.

    Every measurement is a Lanczos iteration that starts from the eigenvector
    found by the last, and stops when the residual is below the tolerance. A
    part of the second vector and some noise are mixed in, for an eigenvalue
    that overtakes the followed one to be seen; it may be seen a few
    measurements late.

    Parameters
    ----------
    generator : torch.Generator
        The random stream of the first start and of the noise.
    tolerance : float
        Largest residual, as a part of the value.

    Raises
    ------
    ValueError
        If `tolerance` is not positive, or a measurement's operator does not
        fit the one before.

    Source
    ------
    Cohen et al. (2021), arXiv:2103.00065; with a `Preconditioned` operator,
    Cohen et al. (2022), arXiv:2207.14484.

    Examples
    --------
    >>> sharpness = Sharpness(generator=torch.Generator().manual_seed(0))
    >>> matrix = torch.diag(torch.arange(1.0, 101.0)) / 100
    >>> round(sharpness.measure(matrix).value, 2)
    1.0
    >>> sharpness.measure(matrix * 1.01).products <= 4
    True
    """

    second, noise = 0.3, 0.02  # lengths mixed into the start

    def __init__(self, *, generator: torch.Generator, tolerance: float = 0.01):
        _checks.positive("tolerance", tolerance)
        self.generator, self.tolerance = generator, tolerance
        self._start = None

    def measure(self, operator: Operator) -> Estimate:
        """Return the largest eigenvalue of `operator`, [p, p]."""
        _check_operator(operator)
        start = _random(operator, self.generator)
        if self._start is not None:
            _check_vector("the last eigenvector", self._start, operator)
            start *= self.noise / math.sqrt(_dot(start, start))
            start += self._start
        lanczos = _Lanczos(operator, start, self.generator)
        products, value, bound = 0, 0.0, math.inf
        # One product shows one value: two are the least to choose from.
        while products < min(2, len(start)) or bound > self.tolerance * abs(
            value
        ):
            lanczos.step()
            values, vectors, residuals = lanczos.ritz()
            products, value, bound = len(values), values[0], residuals[0]
        pair = lanczos.lift(vectors[:, :2])
        self._start = pair[:, 0] + self.second * pair[:, -1]
        return Estimate(float(value), float(bound), pair[:, 0], products)


class Density(NamedTuple):
    r"""What `spectral_density` returns.

    Attributes
    ----------
    grid, density : numpy.ndarray
        Points :math:`t` and the smoothed density there, [m]; the density's
        integral over all t is 1.
    nodes, weights : numpy.ndarray
        The quadrature before smoothing, [probes * steps] each, or fewer if
        the space was exhausted: :math:`\sum_i w_i\,\vartheta_i^q` estimates
        :math:`\mathrm{tr}\,H^q/p`.
    """

    grid: np.ndarray
    density: np.ndarray
    nodes: np.ndarray
    weights: np.ndarray


def spectral_density(
    operator: Operator,
    *,
    generator: torch.Generator,
    probes: int = 10,
    steps: int = 50,
    width: float = 0.01,
    points: int = 1000,
) -> Density:
    r"""Estimate the density of eigenvalues by stochastic Lanczos quadrature.

    From a random unit vector v, `steps` products give nodes
    :math:`\vartheta_i` and weights :math:`w_i` that integrate polynomials up
    to degree ``2 * steps - 1`` exactly against the spectral measure of v,
    whose mean over v is the density:

    .. math:: \rho(t)=\frac1p\sum_j\delta(t-\lambda_j)
              \approx\Bigl\langle\sum_i w_i\,
              \mathcal N(t;\vartheta_i,\sigma^2)\Bigr\rangle_v .

    Parameters
    ----------
    operator : Operator
        A symmetric matrix, [p, p].
    generator : torch.Generator
        The random stream of the probes.
    probes, steps : int
        Number of random vectors, and of products for each.
    width : float
        Standard deviation :math:`\sigma` of the smoothing, as a part of the
        spectrum's range (of its largest size if there is but one value).
    points : int
        Number of grid points, at least 2; the grid reaches five
        :math:`\sigma` beyond the spectrum.

    Returns
    -------
    Density
        The grid, the density, and the quadrature behind it.

    Raises
    ------
    ValueError
        If an argument is out of range, or the matrix is zero.
    FloatingPointError
        If a product is not finite.

    Source
    ------
    Ghorbani, Krishnan and Xiao (2019), arXiv:1901.10159.

    Examples
    --------
    >>> matrix = torch.diag(torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]))
    >>> found = spectral_density(
    ...     matrix, generator=torch.Generator().manual_seed(0), probes=400)
    >>> float(found.weights[found.nodes < 0.5].sum().round(1))
    0.8
    """
    _check_operator(operator)
    _checks.positive("width", width)
    for name, number, least in (
        ("probes", probes, 1),
        ("steps", steps, 1),
        ("points", points, 2),
    ):
        if number < least:
            raise ValueError(f"{name}={number}; allowed: at least {least}")
    nodes, weights = [], []
    for _ in range(probes):
        start = _random(operator, generator)
        lanczos = _Lanczos(operator, start, generator)
        for _ in range(min(steps, operator.shape[0])):
            lanczos.step()
            if lanczos.beside[-1] == 0:  # an invariant space: all is known
                break
        values, vectors, _ = lanczos.ritz()
        nodes.append(values)
        weights.append(vectors[0] ** 2 / probes)
    nodes, weights = np.concatenate(nodes), np.concatenate(weights)
    deviation = width * (np.ptp(nodes) or np.abs(nodes).max())
    if deviation == 0:
        raise ValueError("operator is zero; allowed: a matrix with a spectrum")
    grid = np.linspace(
        nodes.min() - 5 * deviation, nodes.max() + 5 * deviation, points
    )
    bells = np.exp(-(((grid[:, None] - nodes) / deviation) ** 2) / 2)
    density = bells @ weights / (deviation * math.sqrt(2 * math.pi))
    return Density(grid, density, nodes, weights)


def _bounds(values: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    if len(values) == 1:  # no neighbour is known
        return residuals
    distance = np.abs(values[:, None] - values) - residuals
    np.fill_diagonal(distance, np.inf)
    gap = distance.min(1)
    part = np.divide(
        residuals, gap, out=np.ones_like(gap), where=gap > residuals
    )
    return residuals * part


def _dot(left: torch.Tensor, right: torch.Tensor) -> float:
    # In float32, a BLAS that sums a million terms in order loses four digits.
    return (left * right).sum(dtype=torch.float64).item()


def _random(operator, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(
        operator.shape[0],
        generator=generator,
        dtype=operator.dtype,
        device=generator.device,
    ).to(operator.device)


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
        if not isinstance(weight, torch.Tensor):
            raise TypeError(
                f"parameters[{i}] is a {type(weight).__name__}; allowed: "
                "tensors"
            )
        if weight.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"parameters[{i}] is {weight.dtype}; allowed: float32 or "
                "float64"
            )
        first = parameters[0]
        if (weight.dtype, weight.device) != (first.dtype, first.device):
            raise ValueError(
                f"parameters[{i}] is {weight.dtype} on {weight.device}; "
                f"allowed: as parameters[0], {first.dtype} on {first.device}"
            )
        if not weight.requires_grad:
            raise ValueError(
                f"parameters[{i}] has requires_grad=False; allowed: tensors "
                "that require gradients"
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


def _check_operator(operator) -> None:
    if len(operator.shape) != 2 or operator.shape[0] != operator.shape[1]:
        raise ValueError(
            f"operator has shape {tuple(operator.shape)}; allowed: [p, p]"
        )


def _check_vector(name: str, vector: torch.Tensor, operator) -> None:
    allowed = (operator.shape[:1], operator.dtype, operator.device)
    if (tuple(vector.shape), vector.dtype, vector.device) != (
        tuple(allowed[0]),
        *allowed[1:],
    ):
        raise ValueError(
            f"{name} has shape {list(vector.shape)}, {vector.dtype} on "
            f"{vector.device}; allowed: {list(allowed[0])}, {allowed[1]} on "
            f"{allowed[2]}"
        )
