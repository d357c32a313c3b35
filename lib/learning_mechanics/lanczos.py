r"""Eigenvalues of a symmetric matrix known by its products with vectors.

That may be a tensor [p, p], or an operator of `curvature` or of your own:
anything with ``shape``, ``dtype``, ``device`` and ``@``.
"""

import math
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


class Basis:
    """An orthonormal basis of the Krylov space, grown by one product a step.

    Every new vector is orthogonalized against all the others: without it,
    rounding makes converged eigenvalues appear again.

    Parameters
    ----------
    operator : Operator
        The matrix, [p, p].
    start : torch.Tensor
        The first vector, [p], of any length but zero.
    generator : torch.Generator
        The random stream of a new start where the space is invariant.

    Raises
    ------
    FloatingPointError
        By a step whose product is not finite.
    """

    def __init__(
        self,
        operator: Operator,
        start: torch.Tensor,
        generator: torch.Generator,
    ):
        self.operator, self.generator = operator, generator
        # Rows are basis vectors; there is one more than products made.
        self.vectors = start.new_empty(min(32, len(start)), len(start))
        self.vectors[0] = start / norm(start)
        # Of the tridiagonal matrix; the last entry beside is the residual's.
        self.diagonal, self.beside = [], []

    def step(self) -> None:
        """Make one product, and a vector of it."""
        m = len(self.diagonal) + 1
        last = self.vectors[m - 1]
        image = self.operator @ last
        self.diagonal.append(dot(last, image))
        image.sub_(last, alpha=self.diagonal[-1])
        if m > 1:
            image.sub_(self.vectors[m - 2], alpha=self.beside[-1])
        beside = self._orthogonalize(image, m)
        if not math.isfinite(beside + self.diagonal[-1]):
            raise FloatingPointError(
                "operator gives a product that is not finite"
            )
        size = max(map(abs, [*self.diagonal, *self.beside, beside]))
        if (
            m == len(image)
            or beside <= 10 * torch.finfo(image.dtype).eps * size
        ):
            beside = 0.0  # the space is invariant: go on in another
        self.beside.append(beside)
        if m == len(image):
            return
        if beside == 0.0:
            image = random(self.operator, self.generator)
            self._orthogonalize(image, m)
        if m == len(self.vectors):
            room = image.new_empty(min(m, len(image) - m), len(image))
            self.vectors = torch.cat([self.vectors, room])
        torch.div(image, norm(image), out=self.vectors[m])

    def _orthogonalize(self, image: torch.Tensor, m: int) -> float:
        """Subtract from `image` its part in the space; return its norm."""
        basis, before, after = self.vectors[:m], math.inf, norm(image)
        # Where much cancels, what is left carries its rounding: once more.
        while after < 0.5 * before:
            image.addmv_(basis.T, basis @ image, alpha=-1)
            before, after = after, norm(image)
        return after

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eigenvalues of the projection, descending; vectors; residuals."""
        values, vectors = eigh_tridiagonal(self.diagonal, self.beside[:-1])
        values, vectors = values[::-1].copy(), vectors[:, ::-1].copy()
        return values, vectors, self.beside[-1] * np.abs(vectors[-1])

    def lift(self, vectors: np.ndarray) -> torch.Tensor:
        """From coordinates [m, k] in the basis to vectors [p, k]."""
        basis = self.vectors[: len(vectors)]
        return basis.T @ torch.as_tensor(vectors).to(basis)


class Eigenpairs(NamedTuple):
    """What `top_eigenpairs` returns.

    Attributes
    ----------
    values : numpy.ndarray
        Eigenvalues, largest first, [k].
    vectors : torch.Tensor
        Unit eigenvectors, one a column, [p, k].
    bounds : numpy.ndarray
        Norms of the residuals, [k]: but for rounding, an eigenvalue lies
        within the bound of each value.
    products : int
        Products with the operator that were needed.
    """

    values: np.ndarray
    vectors: torch.Tensor
    bounds: np.ndarray
    products: int


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
    :math:`r^2/g` if all other eigenvalues are at least g away. That these are
    the k largest is as sure as that the random start has a part along each
    eigenvector; of a repeated eigenvalue at least one copy is found. In
    float32, rounding moves the eigenvalues of a network with a million
    weights by up to 1e-5 of themselves.

    Parameters
    ----------
    operator : Operator
        A symmetric matrix, [p, p].
    k : int
        From 1 to p.
    generator : torch.Generator
        The random stream of the start.
    tolerance : float
        Stop when each residual is below this part of its value's size.
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
    bounds.

    Examples
    --------
    >>> matrix = torch.diag(torch.arange(1.0, 101.0))
    >>> found = top_eigenpairs(
    ...     matrix, 2, generator=torch.Generator().manual_seed(0))
    >>> found.values.round(2).tolist()
    [100.0, 99.0]
    """
    _checks.square("operator", operator)
    _checks.positive("tolerance", tolerance)
    size = operator.shape[0]
    _checks.integer("k", k, 1, size)
    _checks.integer("limit", limit, k)
    basis = Basis(operator, random(operator, generator), generator)
    for products in range(1, min(limit, size) + 1):
        basis.step()
        if products < k:
            continue
        values, vectors, bounds = basis.ritz()
        values, vectors, bounds = values[:k], vectors[:, :k], bounds[:k]
        if products == size or np.all(bounds <= tolerance * abs(values)):
            return Eigenpairs(values, basis.lift(vectors), bounds, products)
    raise ArithmeticError(
        f"{limit} products leave the bounds {bounds} on {values}; a larger "
        "limit or tolerance may help"
    )


class Density(NamedTuple):
    r"""What `spectral_density` returns.

    Attributes
    ----------
    grid, density : numpy.ndarray
        Points :math:`t` and the smoothed density there, [1000]; the
        density's integral over all t is 1.
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
        spectrum's range (of its largest size if there is but one value). The
        grid reaches five :math:`\sigma` beyond the spectrum.

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
    _checks.square("operator", operator)
    _checks.positive("width", width)
    _checks.integer("probes", probes, 1)
    _checks.integer("steps", steps, 1)
    nodes, weights = [], []
    for _ in range(probes):
        basis = Basis(operator, random(operator, generator), generator)
        for _ in range(min(steps, operator.shape[0])):
            basis.step()
            if basis.beside[-1] == 0:  # an invariant space: all is known
                break
        values, vectors, _ = basis.ritz()
        nodes.append(values)
        weights.append(vectors[0] ** 2 / probes)
    nodes, weights = np.concatenate(nodes), np.concatenate(weights)
    deviation = width * (np.ptp(nodes) or np.abs(nodes).max())
    if deviation == 0:
        raise ValueError("operator is zero; allowed: a matrix with a spectrum")
    grid = np.linspace(
        nodes.min() - 5 * deviation, nodes.max() + 5 * deviation, 1000
    )
    bells = np.exp(-(((grid[:, None] - nodes) / deviation) ** 2) / 2)
    density = bells @ weights / (deviation * math.sqrt(2 * math.pi))
    return Density(grid, density, nodes, weights)


def random(operator: Operator, generator: torch.Generator) -> torch.Tensor:
    """Return a vector [p] of standard normal numbers, like the operator."""
    return torch.randn(
        operator.shape[0],
        generator=generator,
        dtype=operator.dtype,
        device=generator.device,
    ).to(operator.device)


def norm(vector: torch.Tensor) -> float:
    """Return the Euclidean length, summed in float64."""
    return math.sqrt(dot(vector, vector))


def dot(left: torch.Tensor, right: torch.Tensor) -> float:
    """Return the inner product, summed in float64."""
    # In float32, a BLAS that sums a million terms in order loses four digits.
    return (left * right).sum(dtype=torch.float64).item()
