"""Many networks trained at once, each as if it were alone.

A loop over small networks spends its time on everything but arithmetic. Here
the weights of networks of one shape are stacked, and one batched matrix
product serves them all. Stacks are cut into chunks whose weights and
activations fit the cache, and a chunk is trained to its end before the next
begins.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch.func import functional_call, stack_module_state

from learning_mechanics import _stacked, runtime
from learning_mechanics import networks as nets

CACHE = 6 * 2**20  # bytes that a chunk may occupy on a CPU
OWN = ("activation", "multipliers")  # of an MLP, not in its `repr`
LOSSES = ("squared error", "cross entropy")


class Stack:
    """Networks of one shape, stacked, as a measurement sees them.

    Attributes
    ----------
    parameters : dict of str to torch.Tensor
        Each parameter of all networks, [k, ...].
    """

    def __init__(self, modules: Sequence[torch.nn.Module]):
        stacked, buffers = stack_module_state(list(modules))
        if buffers:
            raise ValueError(
                f"networks have buffers {sorted(buffers)}, which one batched "
                "call cannot update; allowed: networks without buffers"
            )
        self.module = modules[0]
        self.parameters = {
            name: value.detach().clone() for name, value in stacked.items()
        }

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map shared inputs [n, n_in] to the outputs of all, [k, n, ...]."""
        return torch.vmap(
            lambda parameters: functional_call(
                self.module, parameters, (inputs,)
            )
        )(self.parameters)

    def write_back(self, modules: Sequence[torch.nn.Module]) -> None:
        """Copy the parameters into the networks they came from."""
        with torch.no_grad():
            for index, module in enumerate(modules):
                for name, parameter in module.named_parameters():
                    parameter.copy_(self.parameters[name][index])


def train(
    networks: Sequence[torch.nn.Module],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    learning_rate: float | Sequence[float] | torch.Tensor,
    steps: int,
    loss: str = "squared error",
    optimizer: str = "sgd",
    momentum: float = 0.9,
    weight_decay: float | Sequence[float] = 0.0,
    batch_size: int | None = None,
    generators: Sequence[torch.Generator] | None = None,
    measure: dict[str, Callable[[Stack], torch.Tensor]] | None = None,
    every: int = 1,
) -> dict[str, np.ndarray]:
    r"""Train all networks in place; record what `measure` reads.

    Parameters
    ----------
    networks : sequence of torch.nn.Module
        m networks, of any shapes. `networks.MLP` goes through batched matrix
        products, other modules through ``torch.func``.
    inputs, targets : torch.Tensor
        Shared by all: [n, ...], int64 if they are tokens, and targets of
        the outputs' shape, or for ``cross entropy`` int64 labels in the
        shape of the outputs without their last dimension.
    learning_rate : float or array_like
        One for all, one a network, [m], or one for each parameter of each
        network, [m, p], in the order of ``named_parameters()``.
    steps : int
        Number of updates, at least 1.
    loss : str
        ``squared error``, :math:`\frac1{2n}\sum\|y-f\|^2`, or
        ``cross entropy``, averaged over samples.
    optimizer : str
        ``sgd``, ``momentum``, ``adamw`` or ``sign``; those that
        ``torch.optim`` has are the same here. Gradient flow is ``sgd`` by
        small steps.
    momentum : float
        Of ``momentum``; ``adamw`` has betas (0.9, 0.999) and eps 1e-8.
    weight_decay : float or array_like
        One for all, or one a network, [m]; decoupled for ``adamw``.
    batch_size : int, optional
        Samples a step; every network goes through its own permutations of
        the data, dropping an incomplete last batch. All data if left out.
    generators : sequence of torch.Generator, optional
        One a network, on the CPU: its data order. Needed with `batch_size`.
    measure : dict of callables
        Each takes a `Stack` of k networks and returns [k, ...], on step 0,
        on every `every`-th step and on the last.
    every : int
        Steps between two readings, at least 1.

    Returns
    -------
    dict of numpy.ndarray
        ``step`` [r], ``loss`` [m, r] (of the batch of that step), and one
        array [m, r, ...] a measurement. A network that diverges has
        non-finite entries; the others do not notice.

    Raises
    ------
    TypeError
        If `inputs` or `targets` are no tensors.
    ValueError
        If an argument has a wrong shape, device, dtype or value; names it.

    Examples
    --------
    >>> stream = torch.Generator().manual_seed(0)
    >>> many = [nets.MLP(nets.gaussian_weights([1, 4, 1], scale=1.0,
    ...                                        generator=stream))
    ...         for _ in range(3)]
    >>> x = torch.linspace(-1, 1, 8).double()[:, None]
    >>> record = train(many, x, 2 * x, learning_rate=0.1, steps=500)
    >>> record["loss"].shape, bool((record["loss"][:, -1] < 1e-6).all())
    ((3, 501), True)
    """
    networks = list(networks)
    _check(networks, inputs, targets, loss, steps, every, batch_size, measure)
    rates = _rates(learning_rate, networks)
    decays = _per_network("weight_decay", weight_decay, len(networks))
    if optimizer not in _stacked.UPDATES:
        raise ValueError(
            f"optimizer={optimizer!r}; allowed: {', '.join(_stacked.UPDATES)}"
        )
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum={momentum}; allowed: 0 to below 1")
    if batch_size and len(generators or ()) != len(networks):
        raise ValueError(
            f"generators: {len(generators or ())} for {len(networks)} "
            "networks; allowed: one a network with batch_size"
        )
    chunks = _chunks(networks, batch_size or len(inputs))
    record: dict[str, np.ndarray] = {}
    with runtime.progress(
        description="ensemble", total=len(chunks) * (steps + 1)
    ) as bar:
        for chunk in chunks:
            members = [networks[i] for i in chunk]
            stack = Stack(members)
            like = next(iter(stack.parameters.values()))
            update = _stacked.UPDATES[optimizer](
                rates[chunk].expand(-1, len(stack.parameters)).to(like),
                decays[chunk].to(like),
                momentum,
            )
            orders = batch_size and [
                _order(generators[i], len(inputs), batch_size) for i in chunk
            ]
            engine = (
                _stacked.Batched
                if nets.is_layered(stack.module)
                else _stacked.Vectorized
            )
            gradient = engine(stack, loss, shared=not batch_size)
            readings: dict[str, list] = {
                name: [] for name in ("loss", *(measure or {}))
            }
            taken = []
            for step in range(steps + 1):
                batch = (inputs, targets)
                if orders:
                    index = torch.stack([next(order) for order in orders])
                    index = index.to(inputs.device)  # [k, batch_size]
                    batch = (inputs[index], targets[index])
                losses = gradient(*batch)
                if step % every == 0 or step == steps:
                    taken.append(step)
                    readings["loss"].append(losses.cpu().numpy().copy())
                    for name, read in (measure or {}).items():
                        reading = read(stack).detach().cpu().numpy()
                        readings[name].append(reading.copy())
                if step < steps:
                    update(stack.parameters, gradient.gradients, step + 1)
                bar.update(1)
            stack.write_back(members)
            for name, values in readings.items():
                values = np.stack(values, axis=1)  # [k, readings, ...]
                if name not in record:
                    record[name] = np.empty(
                        (len(networks), *values.shape[1:]), values.dtype
                    )
                record[name][chunk] = values
    return {"step": np.array(taken)} | record


def _chunks(networks: list[torch.nn.Module], samples: int) -> list[list[int]]:
    """Group networks of one shape, and cut the groups to the cache."""
    groups: dict[tuple, list[int]] = {}
    for i, network in enumerate(networks):
        shapes = tuple(tuple(p.shape) for p in network.parameters())
        own = (getattr(network, name, None) for name in OWN)
        key = (type(network), repr(network), *own, shapes)
        groups.setdefault(key, []).append(i)
    chunks = []
    for group in groups.values():
        size = len(group)
        parameters = list(networks[group[0]].parameters())
        if nets.is_layered(networks[group[0]]) and not parameters[0].is_cuda:
            numbers = 2 * sum(
                p.numel() + min(samples, _stacked.ROWS) * len(p)
                for p in parameters
            )
            fit = CACHE // (numbers * parameters[0].element_size())
            # As many for each thread: none waits for another.
            threads = torch.get_num_threads()
            size = max(fit // threads, 1) * threads
        chunks += [group[i : i + size] for i in range(0, len(group), size)]
    return chunks


def _order(
    generator: torch.Generator, samples: int, batch_size: int
) -> Iterator[torch.Tensor]:
    """Yield the batches of permutation after permutation."""
    while True:
        order = torch.randperm(samples, generator=generator)
        yield from order.split(batch_size)[: samples // batch_size]


def _rates(values, networks) -> torch.Tensor:
    """Return learning rates, [m, 1] or [m, p]."""
    values = torch.as_tensor(values, dtype=torch.float64)
    if values.dim() < 2:
        return _per_network("learning_rate", values, len(networks))[:, None]
    counts = sorted({len(list(n.parameters())) for n in networks})
    if [values.shape[1]] != counts:
        raise ValueError(
            f"learning_rate has shape {tuple(values.shape)}, networks have "
            f"{counts} parameters; allowed: one column a parameter"
        )
    return torch.stack(
        [_per_network("learning_rate", v, len(networks)) for v in values.T], 1
    )


def _per_network(name: str, values, count: int) -> torch.Tensor:
    values = torch.as_tensor(values, dtype=torch.float64)
    if values.shape not in ((), (count,)):
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}; allowed: one number, or "
            f"one for each of the {count} networks"
        )
    if not (values.isfinite().all() and (values >= 0).all()):
        raise ValueError(
            f"{name}={values.tolist()}; allowed: finite values of at least 0"
        )
    return values.expand(count)


def _check(
    networks, inputs, targets, loss, steps, every, batch_size, measure
) -> None:
    if not networks:
        raise ValueError("networks is empty; allowed: at least one")
    if steps < 1 or every < 1:
        raise ValueError(f"steps={steps}, every={every}; allowed: at least 1")
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r}; allowed: {', '.join(LOSSES)}")
    if taken := {"step", "loss"} & set(measure or {}):
        raise ValueError(f"measure has {sorted(taken)}; allowed: other names")
    for name, values in (("inputs", inputs), ("targets", targets)):
        if not isinstance(values, torch.Tensor):
            raise TypeError(
                f"{name} is {type(values).__name__}; allowed: torch.Tensor"
            )
    if len(inputs) == 0 or len(inputs) != len(targets):
        raise ValueError(
            f"inputs has {len(inputs)} samples and targets {len(targets)}; "
            "allowed: equally many, at least one"
        )
    if batch_size is not None and not 1 <= batch_size <= len(inputs):
        raise ValueError(
            f"batch_size={batch_size}; allowed: 1 to {len(inputs)}"
        )
    for name, values in (("inputs", inputs), ("targets", targets)):
        if not values.isfinite().all():
            raise ValueError(f"{name} contains NaN or infinite values")
    if not all(p.requires_grad for n in networks for p in n.parameters()):
        raise ValueError(
            "networks have parameters that require no gradient; allowed: "
            "networks all of whose parameters are trained"
        )
    expected = {(p.dtype, p.device) for n in networks for p in n.parameters()}
    dtype = next(networks[0].parameters()).dtype
    kind = torch.int64 if inputs.dtype == torch.int64 else dtype
    if expected != {(dtype, inputs.device)} or inputs.dtype != kind:
        raise ValueError(
            f"inputs are {inputs.dtype} on {inputs.device}, networks "
            f"{sorted(expected, key=str)}; allowed: one dtype on one device, "
            "or tokens in int64"
        )
    wanted = dtype if loss == "squared error" else torch.int64
    if (targets.dtype, targets.device) != (wanted, inputs.device):
        raise ValueError(
            f"targets are {targets.dtype} on {targets.device}; allowed with "
            f"{loss}: {wanted} on {inputs.device}"
        )
    try:
        with torch.no_grad():
            outputs = networks[0](inputs[:1]).shape[1:]
    except (IndexError, RuntimeError) as error:
        raise ValueError(
            f"inputs has shape {tuple(inputs.shape)}, which the networks "
            f"cannot take: {error}; allowed: [n, ...] as their first layer "
            "needs"
        ) from error
    wanted = outputs if loss == "squared error" else outputs[:-1]
    if targets.shape[1:] != wanted:
        raise ValueError(
            f"targets has shape {tuple(targets.shape)}; allowed with {loss}: "
            f"[n, {', '.join(map(str, wanted))}]"
        )
