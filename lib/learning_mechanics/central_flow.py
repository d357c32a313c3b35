r"""The time-averaged path of gradient descent at the edge of stability.

Where the curvature along some directions has reached :math:`2/\eta`,
gradient descent oscillates along them. Let :math:`\Sigma` be the covariance
of these oscillations. The weights, averaged over them, move as

.. math:: \dot\theta=-\nabla\mathcal L
          -\tfrac12\nabla\langle H,\Sigma\rangle,

and :math:`\Sigma` is the one symmetric matrix for which no eigenvalue of the
Hessian rises above :math:`2/\eta`, none oscillates that is below, and none
with oscillations falls. Time is learning rate times step.

Source
------
Cohen et al. (2025), arXiv:2410.24206.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from learning_mechanics import _checks, curvature, runtime

REACH = 0.95  # of 2 / eta: above it, a direction counts as critical
TOLERANCE = 1e-3  # of an eigenpair's residual, as a part of 2 / eta


class CentralFlow(NamedTuple):
    r"""What `central_flow` returns, read every `every` steps of descent.

    Attributes
    ----------
    step : numpy.ndarray
        Steps of gradient descent, [m].
    weights : torch.Tensor
        Averaged weights, flat, [m, p].
    loss : numpy.ndarray
        The loss at the averaged weights, [m].
    excess : numpy.ndarray
        :math:`\frac12\langle H,\Sigma\rangle`: by how much oscillations raise
        the averaged loss above it, [m].
    sharpness : numpy.ndarray
        The largest eigenvalue at the averaged weights, [m].
    variances : list of numpy.ndarray
        Eigenvalues of :math:`\Sigma` from the largest, one for each critical
        direction, m arrays [k].
    """

    step: np.ndarray
    weights: torch.Tensor
    loss: np.ndarray
    excess: np.ndarray
    sharpness: np.ndarray
    variances: list[np.ndarray]


def central_flow(
    loss: Callable[[], torch.Tensor],
    parameters: Iterable[torch.Tensor],
    learning_rate: float,
    *,
    steps: int,
    every: int,
    substeps: int = 1,
    generator: torch.Generator,
) -> CentralFlow:
    r"""Integrate the averaged path of full-batch gradient descent.

    The force of the oscillations is found every `every` steps, from the
    critical directions there and how the gradient changes their curvature,
    and is then held. In between, weights take `substeps` Euler steps for
    each step of descent; along critical directions, where these would
    oscillate, they relax exactly.

    With many substeps this is the central flow. With one, it makes the steps
    that descent makes along all other directions, and with them its
    discretization error: it is gradient descent until the first direction
    becomes critical.

    Parameters
    ----------
    loss : callable
        Returns the loss, a scalar tensor, at the present weights.
    parameters : iterable of torch.Tensor
        The weights at the start, p numbers together; moved in place.
    learning_rate : float
        :math:`\eta` of the gradient descent.
    steps : int
        Its steps, at least 1.
    every : int
        Steps over which the force is held, a divisor of `steps`. Curvature
        must not change much in that time.
    substeps : int
        At least 1.
    generator : torch.Generator
        The random stream in which eigenvectors are searched.

    Returns
    -------
    CentralFlow
        The path.

    Raises
    ------
    ValueError
        If an argument is out of range, `every` does not divide `steps`, or
        the start is above the edge, where descent begins with a jump.
    FloatingPointError
        If the loss is not finite.
    ArithmeticError
        If no oscillation keeps the curvature at the edge.

    Source
    ------
    Cohen et al. (2025), arXiv:2410.24206.

    Examples
    --------
    Sharpness y rises at rate 1 until it is 2 / 0.1; the variance of x is 2.

    >>> x, y = (torch.tensor(v, requires_grad=True) for v in (0.0, 19.0))
    >>> path = central_flow(
    ...     lambda: y * x**2 / 2 - y, [x, y], 0.1, steps=40, every=4,
    ...     generator=torch.Generator().manual_seed(0))
    >>> path.sharpness.round(2)[[0, 1, -1]].tolist()
    [19.0, 19.4, 20.0]
    >>> path.variances[-1].round(2).tolist()
    [2.0]
    """
    _checks.positive("learning_rate", learning_rate)
    _checks.integer("every", every, 1)
    _checks.integer("steps", steps, every)
    _checks.integer("substeps", substeps, 1)
    if steps % every:
        raise ValueError(f"every={every}; allowed: divisors of steps={steps}")
    parameters = list(parameters)
    edge, time, rows = 2 / learning_rate, learning_rate * every, []
    vectors = None
    # An Euler step multiplies the distance from the floor of a valley of
    # curvature 2 / eta by 1 - 2 / substeps; the flow, by exp(-2 / substeps).
    relaxed = -math.expm1(-2 / substeps) * substeps / 2
    for step in runtime.progress(range(0, steps + 1, every), "central flow"):
        hessian = curvature.Hessian(loss, parameters)
        values, vectors = _eigenpairs(hessian, edge, generator, vectors)
        sharpness, k = values[0], int((values > REACH * edge).sum())
        if step == 0 and sharpness > edge:
            raise ValueError(
                f"learning_rate={learning_rate}; allowed: at most 2 / "
                f"{sharpness:.4g}, the sharpness at the start being below "
                "the edge"
            )
        values, unstable = values[:k], vectors[:, :k]
        sigma, force = _oscillation(hessian, values, unstable, edge, time)
        weights = parameters_to_vector(parameters).detach()
        rows.append(
            (
                step,
                weights,
                hessian.value,
                sigma.diagonal() @ values / 2,
                sharpness,
                np.linalg.eigvalsh(sigma)[::-1],
            )
        )
        for _ in range(every * substeps if step < steps else 0):
            gradient = torch.autograd.grad(loss(), parameters)
            slope = parameters_to_vector(gradient) + force
            stiff = unstable @ (unstable.T @ slope)
            slope = slope - (1 - relaxed) * stiff
            weights = weights - learning_rate / substeps * slope
            vector_to_parameters(weights, parameters)
    step, weights, *curves, variances = zip(*rows, strict=True)
    return CentralFlow(
        np.array(step),
        torch.stack(weights),
        *map(np.array, curves),
        list(variances),
    )


def covariance(room: np.ndarray, feedback: np.ndarray) -> np.ndarray:
    r"""Covariance of the oscillations that hold curvature at the edge.

    Without oscillations, curvature along the critical directions would come
    nearer to the edge by -A; a covariance X takes it back by :math:`B[X]`. It
    is the symmetric matrix with

    .. math:: X\succeq0,\qquad A+B[X]\succeq0,\qquad \langle X,A+B[X]\rangle=0,

    which minimizes :math:`\tfrac12\langle X,B[X]\rangle+\langle A,X\rangle`
    over the positive semidefinite ones. It is found by Newton's method with
    a logarithmic barrier, to about nine digits of the largest entry (five,
    where X and :math:`A+B[X]` vanish along the same direction).

    Parameters
    ----------
    room : numpy.ndarray
        A, symmetric, [k, k].
    feedback : numpy.ndarray
        :math:`B[X]_{ij}=\sum_{kl}B_{ijkl}X_{kl}`, symmetric and positive
        semidefinite, [k, k, k, k].

    Returns
    -------
    numpy.ndarray
        X, [k, k].

    Raises
    ------
    ValueError
        If the shapes do not fit.
    ArithmeticError
        If there is no such X: no oscillation lowers some curvature.

    Source
    ------
    The problem: Cohen et al. (2025), arXiv:2410.24206. The method: Boyd and
    Vandenberghe, Convex Optimization (2004), chapters 9 and 11.

    Examples
    --------
    >>> feedback = np.einsum("ik,jl->ijkl", np.eye(2), np.eye(2))
    >>> covariance(np.diag([-3.0, 1.0]), feedback).round(6) + 0.0
    array([[3., 0.],
           [0., 0.]])
    """
    k = len(room)
    if room.shape != (k, k) or feedback.shape != (k, k, k, k):
        raise ValueError(
            f"room has shape {room.shape} and feedback {feedback.shape}; "
            "allowed: [k, k] and [k, k, k, k]"
        )
    if not k or np.linalg.eigvalsh(room)[0] >= 0:
        return np.zeros((k, k))
    # Coordinates: an orthonormal basis of the symmetric matrices.
    m = np.arange(k * (k + 1) // 2)
    i, j = np.triu_indices(k)
    basis = np.zeros((len(m), k, k))
    basis[m, i, j] = basis[m, j, i] = np.where(i == j, 1, math.sqrt(0.5))
    basis = basis.reshape(len(m), -1)
    a = basis @ room.ravel()
    b = basis @ feedback.reshape(k * k, k * k) @ basis.T
    units = np.abs(a).max(), np.trace(b) / len(m)
    a, b, x = a / units[0], b / (units[1] or 1.0), basis @ np.eye(k).ravel()
    # On the barrier's path X (A + B[X]) = barrier * I.
    for barrier in np.logspace(0, -10, 21):
        for _ in range(50):
            inverse = np.linalg.inv((x @ basis).reshape(k, k))
            slope = a + b @ x - barrier * (basis @ inverse.ravel())
            bend = basis @ np.kron(inverse, inverse) @ basis.T
            move = np.linalg.solve(b + barrier * bend, -slope)
            decrement = math.sqrt(max(0.0, -slope @ move / barrier))
            # Damped, it stays inside and converges from anywhere.
            x = x + move / (1 + decrement * (decrement > 0.25))
            if decrement < 1e-3 or np.abs(x).max() > 1e9:
                break
    rest = a + b @ x
    least = np.linalg.eigvalsh((rest @ basis).reshape(k, k))[0]
    if not max(-least, abs(x @ rest)) < 1e-6:
        raise ArithmeticError(
            "no oscillation holds the curvature at the edge: "
            f"room={room.tolist()}; allowed: feedback in each direction "
            "without room"
        )
    return (x @ basis).reshape(k, k) * (units[0] / units[1])


def _eigenpairs(hessian, edge, generator, start=None):
    """Return eigenpairs above REACH * edge and the next one below.

    The space is a block Krylov space, which tells eigenvalues apart that
    coincide, as they do at the edge; it grows from the last eigenvectors.
    """
    size = hessian.shape[0]
    fresh = _random(hessian, generator)
    if start is not None:  # what is new may lie in any direction
        fresh = torch.cat([start, 0.1 * fresh], 1)
    basis = images = fresh[:, :0]
    while True:
        fresh = fresh[:, : size - basis.shape[1]]
        for _ in range(2):  # again, for what cancellation left over
            fresh = torch.linalg.qr(fresh - basis @ (basis.T @ fresh))[0]
        products = [hessian @ column for column in fresh.T]
        basis = torch.cat([basis, fresh], 1)
        images = torch.cat([images, torch.stack(products, 1)], 1)
        values, mix = torch.linalg.eigh(basis.T @ images)
        count = int((values > REACH * edge).sum()) + 1
        values, mix = values.flip(0)[:count], mix.flip(1)[:, :count]
        vectors = basis @ mix
        fresh = images @ mix - vectors * values
        fresh = fresh[:, fresh.norm(dim=0) > TOLERANCE * edge]
        if not fresh.shape[1] and len(values) < count:
            fresh = _random(hessian, generator)
        if basis.shape[1] == size or not fresh.shape[1]:
            return values.cpu().double().numpy(), vectors


def _oscillation(hessian, values, vectors, edge, time):
    """Return the covariance [k, k] and its force on the weights, [p]."""
    k = len(values)
    if not k:
        return np.zeros((0, 0)), torch.zeros_like(hessian.gradient)
    # The gradients of u_i' H u_j, by polarization.
    slopes = hessian.gradient.new_empty(k, k, len(vectors))
    for i in range(k):
        slopes[i, i] = hessian.third(vectors[:, i])
    for i, j in itertools.combinations(range(k), 2):
        both = hessian.third(vectors[:, i] + vectors[:, j])
        slopes[i, j] = (both - slopes[i, i] - slopes[j, j]) / 2
        slopes[j, i] = slopes[i, j]
    room = np.diag((edge - values) / time)
    room = room + (slopes @ hessian.gradient).cpu().double().numpy()
    flat = slopes.flatten(0, 1)
    feedback = (flat @ flat.T / 2).cpu().double().numpy().reshape(k, k, k, k)
    sigma = covariance(room, feedback)
    return sigma, torch.as_tensor(sigma.ravel()).to(flat) @ flat / 2


def _random(hessian, generator):
    vector = torch.randn(
        hessian.shape[0], 1, generator=generator, dtype=hessian.dtype
    )
    return (vector / vector.norm()).to(hessian.device)
