r"""Gaussian averages of activations, the inside of `kernels`.

One hidden layer takes covariances to :math:`E[\phi(u)\phi(v)]`, and for the
tangent kernel to :math:`E[\phi'(u)\phi'(v)]` as well. What depends on one
input alone is found first: `one_input` takes variances [n] to
:math:`E[\phi^2]`, :math:`E[\phi'^2]` and what the pairs need. Then `pairs`
works on tiles, in place: it turns the covariance in `kernel` into
:math:`E[\phi\phi]` / `gain` and writes :math:`E[\phi'\phi']` / `gain` into
`slope`, if `tangent` is true.
"""

import functools
import math

import torch
from scipy.special import roots_hermitenorm

from learning_mechanics import _checks
from learning_mechanics._tiles import inverse, scale_, sine

# Nodes of the Gauss-Hermite rule, and the degrees that it resolves. With
# more nodes the outermost weights leave the range of float64.
NODES, DEGREES = 256, 192


class ReLU:
    """The closed form of Cho and Saul (2009)."""

    gain = 0.5 / math.pi

    def one_input(self, q, tangent):
        root = q.sqrt()
        return q / 2, torch.full_like(q, 0.5), [inverse(root), root]

    def pairs(self, kernel, slope, spare, left, right, tangent):
        scale_(kernel, -left[0], right[0]).clamp_(-1, 1)  # minus the cosine
        torch.acos(kernel, out=slope)  # pi - angle
        sine(kernel, spare).addcmul_(kernel, slope, value=-1)
        torch.mul(spare, left[1][:, None], out=kernel).mul_(right[1])


class Erf:
    """The closed form of Williams (1997)."""

    gain = 2 / math.pi

    def one_input(self, q, tangent):
        square = 2 / math.pi * torch.asin(2 * q / (1 + 2 * q))
        slope = 4 / math.pi * torch.rsqrt(1 + 4 * q)
        return square, slope, [torch.sqrt(2 / (1 + 2 * q))]

    def pairs(self, kernel, slope, spare, left, right, tangent):
        if tangent:
            spare.copy_(right[0].expand_as(spare)).mul_(left[0][:, None])
            kernel.mul_(spare)
            one = kernel.new_ones(())
            torch.addcmul(one, kernel, kernel, value=-1, out=slope)
            slope.rsqrt_().mul_(spare)
        else:
            scale_(kernel, left[0], right[0])
        kernel.asin_()


class Series:
    """Any activation, by its Hermite series: Daniely et al. (2016)."""

    gain = 1.0

    def __init__(self, activation):
        self.activation = activation

    def one_input(self, q, tangent):
        square, values = self._coefficients(q, derivative=False)
        slope, slopes = square, values
        if tangent:
            slope, slopes = self._coefficients(q, derivative=True)
        return square, slope, [inverse(q.sqrt()), values, slopes]

    def pairs(self, kernel, slope, spare, left, right, tangent):
        scale_(kernel, left[0], right[0]).clamp_(-1, 1)
        if tangent:
            _sum_(slope, kernel, left[2], right[2])
        _sum_(spare, kernel, left[1], right[1])
        kernel.copy_(spare)

    def _coefficients(self, q, derivative):
        """Return the mean square [n] and the coefficients [n, k]."""
        nodes, basis = _hermite()  # [NODES], [NODES, NODES]
        points = nodes * q.double().cpu().sqrt()[:, None]
        with torch.enable_grad():
            points.requires_grad_(derivative)
            values = self.activation(points)
            if derivative:
                (values,) = torch.autograd.grad(values.sum(), points)
        # The basis holds the roots of the weights on both of its sides.
        coefficients = values.detach() * basis[0] @ basis.T
        squares = coefficients.square()
        if not torch.isfinite(squares).all():
            raise ValueError(
                "activation gives non-finite values; allowed: an activation "
                f"that is finite for Gaussian input of variance {q.max():.3g}"
            )
        beyond = squares.flip(1).cumsum(1).flip(1)
        beyond /= beyond[:, :1].clamp(min=1e-300).clone()
        beyond = beyond.max(0).values  # the largest share from degree k on
        eps = torch.finfo(q.dtype).eps
        count = int((beyond[:DEGREES] > eps / 10).sum())
        if beyond[count] > max(1e-8, 10 * eps):
            _checks.warn(
                "kernels",
                "the Hermite series of activation leaves out "
                f"≈{beyond[count]:.1g} of the mean square of its "
                + ("derivative" if derivative else "value"),
            )
        return squares.sum(1).to(q), coefficients[:, :count].to(q)


CLOSED_FORMS = {"relu": ReLU(), "erf": Erf()}


def _sum_(total, cosine, left, right):
    """Sum left[:, k] right[:, k] cosine^k into `total`, by Horner's rule."""
    total.zero_()
    for k in reversed(range(min(left.shape[1], right.shape[1]))):
        total.mul_(cosine).addr_(left[:, k], right[:, k])


@functools.cache
def _hermite() -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes, and orthonormal Hermite polynomials times sqrt(weights) there."""
    nodes, weights = roots_hermitenorm(NODES)
    nodes = torch.from_numpy(nodes)
    roots = torch.from_numpy(weights / weights.sum()).sqrt()
    basis = [roots, nodes * roots]
    for k in range(1, NODES - 1):
        above = nodes * basis[k] - k**0.5 * basis[k - 1]
        basis.append(above / (k + 1) ** 0.5)
    return nodes, torch.stack(basis)
