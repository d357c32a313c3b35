"""The largest eigenvalue of a Hessian, followed while weights are trained."""

from typing import NamedTuple

import numpy as np
import torch

from learning_mechanics import _checks, lanczos


class Sharpness(NamedTuple):
    """One measurement of a `Tracker`.

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


class Tracker:
    r"""Measures sharpness again and again, each time from the last result.

    The largest eigenvalue on the space of a few vectors, a Ritz value, grows
    with the space. A measurement starts from the two leading vectors of the
    last, and adds the residual of the first until that is below the
    tolerance. A part of the third vector and some noise are mixed into the
    second, for an eigenvalue that overtakes the followed one to be seen; it
    may be seen a few measurements late.

    Parameters
    ----------
    generator : torch.Generator
        The random stream of the first start and of the noise.
    tolerance : float
        Largest residual, as a part of the value.

    Raises
    ------
    ValueError
        If `tolerance` is not positive.

    Source
    ------
    Cohen et al. (2021), arXiv:2103.00065; for a `curvature.Preconditioned`
    matrix, Cohen et al. (2022), arXiv:2207.14484.

    Examples
    --------
    >>> tracker = Tracker(generator=torch.Generator().manual_seed(0))
    >>> matrix = torch.diag(torch.arange(1.0, 101.0)) / 100
    >>> round(tracker.measure(matrix).value, 2)
    1.0
    >>> tracker.measure(matrix * 1.01).products <= 4
    True
    """

    THIRD, NOISE = 0.3, 0.02  # lengths mixed into the second vector
    LIMIT = 100  # products

    def __init__(self, *, generator: torch.Generator, tolerance: float = 0.01):
        _checks.positive("tolerance", tolerance)
        self.generator, self.tolerance = generator, tolerance
        self._last = None

    def measure(self, operator: lanczos.Operator) -> Sharpness:
        """Measure the largest eigenvalue of a symmetric matrix.

        Parameters
        ----------
        operator : lanczos.Operator
            [p, p]; most often a `curvature.Hessian` at the present weights.

        Returns
        -------
        Sharpness
            The value with its bound, the vector, the number of products.

        Raises
        ------
        ValueError
            If the matrix does not fit the one before.
        ArithmeticError
            If 100 products do not reach the tolerance, as where the largest
            eigenvalue is next to nothing beside the most negative one.
        FloatingPointError
            If a product is not finite.
        """
        _checks.square("operator", operator)
        basis, images, columns = [], [], []
        pending = self._starts(operator)
        while pending:
            vector = pending.pop(0)
            for known in 2 * basis:  # once more, for what rounding left
                vector = vector - lanczos.dot(known, vector) * known
            basis.append(vector / lanczos.norm(vector))
            images.append(operator @ basis[-1])
            columns.append([lanczos.dot(v, images[-1]) for v in basis])
            values, vectors = _ritz(columns)
            coordinates = torch.as_tensor(vectors[:, :3]).to(vector)
            last = torch.stack(basis, 1) @ coordinates
            image = torch.stack(images, 1) @ coordinates[:, 0]
            residual = image - values[0] * last[:, 0]
            bound = lanczos.norm(residual)
            if len(basis) == len(vector):  # all is known
                break
            if pending or bound <= self.tolerance * abs(values[0]):
                continue
            if len(basis) == self.LIMIT:
                raise ArithmeticError(
                    f"{self.LIMIT} products leave the bound {bound:.2g} on "
                    f"{values[0]:.2g}; a larger tolerance may help"
                )
            pending.append(residual)
        self._last = last
        return Sharpness(float(values[0]), bound, last[:, 0], len(basis))

    def _starts(self, operator):
        """Return the two vectors from which a measurement starts."""
        noise = lanczos.random(operator, self.generator)
        if self._last is None:
            return [noise, lanczos.random(operator, self.generator)]
        _checks.fits("the last eigenvector", self._last[:, 0], operator)
        first, *others = self._last.T
        second = noise * (self.NOISE / lanczos.norm(noise))
        for length, vector in zip((1, self.THIRD), others, strict=False):
            second = second + length * vector
        return [first, second]


def _ritz(columns: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, descending, and vectors of a matrix by its upper half."""
    matrix = np.zeros((len(columns),) * 2)
    for j, column in enumerate(columns):
        matrix[: j + 1, j] = column
    if not np.isfinite(matrix).all():
        raise FloatingPointError("operator gives a product that is not finite")
    values, vectors = np.linalg.eigh(matrix, UPLO="U")
    return values[::-1], vectors[:, ::-1].copy()
