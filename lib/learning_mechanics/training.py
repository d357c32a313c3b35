"""One visible loop of gradient descent that returns a record."""

from collections.abc import Callable

import numpy as np
import torch

from learning_mechanics import _checks, runtime


def squared_error(
    network: Callable[[torch.Tensor], torch.Tensor],
    inputs: torch.Tensor,
    targets: torch.Tensor,
) -> torch.Tensor:
    r"""Return :math:`\frac1{2n}\sum_i\|y_i-f(x_i)\|^2`.

    Parameters
    ----------
    network : callable
        Maps [n, n_in] to [n, n_out].
    inputs, targets : torch.Tensor
        [n, n_in] and [n, n_out].

    Returns
    -------
    torch.Tensor
        A scalar.

    Raises
    ------
    ValueError
        If the network's outputs and the targets differ in shape, type or
        device, or there are none.

    Examples
    --------
    >>> inputs = torch.tensor([[1.0], [3.0]])
    >>> squared_error(lambda x: x, inputs, torch.zeros(2, 1)).item()
    2.5
    """
    outputs = network(inputs)
    if outputs.shape != targets.shape or not len(targets):
        raise ValueError(
            f"targets has shape {tuple(targets.shape)}; allowed: that of the "
            f"network's outputs, {tuple(outputs.shape)}, and not empty"
        )
    _checks.alike("targets", targets, "the network's outputs", outputs)
    return (targets - outputs).square().sum() / (2 * len(targets))


def train(
    loss: Callable[[], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    measure: dict[str, Callable[[], torch.Tensor]] | None = None,
    every: int = 1,
) -> dict[str, np.ndarray]:
    """Minimize `loss` and record what `measure` reads on the way.

    Parameters
    ----------
    loss : callable
        Returns the loss, a scalar tensor, at the present weights.
    optimizer : torch.optim.Optimizer
        Holds the weights and the learning rate.
    steps : int
        Number of updates, at least 1.
    measure : dict of callables
        Each is called without gradients, on step 0, on every `every`-th
        step and on the last, and returns a number or a tensor of fixed
        shape. The names ``step`` and ``loss`` are taken.
    every : int
        Steps between two readings, at least 1.

    Returns
    -------
    dict of numpy.ndarray
        ``step`` [m], ``loss`` [m], and one array [m, ...] a measurement.
        The reading at step i precedes update i + 1.

    Raises
    ------
    ValueError
        If `steps` or `every` is no integer from 1, or a name is taken.
    FloatingPointError
        If the loss is not finite at a reading; names the step.

    Examples
    --------
    >>> w = torch.tensor(1.0, requires_grad=True)
    >>> record = train(lambda: w**2 / 2, torch.optim.SGD([w], lr=0.5),
    ...                steps=2, measure={"w": lambda: w})
    >>> record["w"].tolist(), record["step"].tolist()
    ([1.0, 0.5, 0.25], [0, 1, 2])
    """
    measure = measure or {}
    _checks.integer("steps", steps, 1)
    _checks.integer("every", every, 1)
    if taken := {"step", "loss"} & set(measure):
        raise ValueError(f"measure has {sorted(taken)}; allowed: other names")
    record = {name: [] for name in ("step", "loss", *measure)}
    for step in runtime.progress(range(steps + 1), "training"):
        optimizer.zero_grad()
        value = loss()
        if step % every == 0 or step == steps:
            record["step"].append(step)
            record["loss"].append(value.item())
            if not np.isfinite(record["loss"][-1]):
                raise FloatingPointError(
                    f"the loss is {record['loss'][-1]} at step {step}; a "
                    "smaller learning rate may help"
                )
            with torch.no_grad():
                for name, read in measure.items():
                    reading = torch.as_tensor(read())
                    record[name].append(reading.cpu().numpy().copy())
        if step < steps:
            value.backward()
            optimizer.step()
    return {name: np.array(values) for name, values in record.items()}
