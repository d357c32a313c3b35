"""Gradients and updates of stacked networks, the inside of `ensembles`.

Every tensor has the networks as its first dimension, and no operation mixes
them: what happens in one network, divergence included, stays there.
"""

import torch
from torch.func import functional_call, grad_and_value

# On a CPU, samples pass through a chunk together while their activations fit
# this many bytes, and never fewer than this many rows: parts cost calls.
ACTIVATIONS, ROWS = 2 * 2**20, 256


class SGD:
    """`torch.optim.SGD` without momentum.

    `rates` is [k, number of parameters], `decays` is [k].
    """

    def __init__(self, rates, decays, momentum):
        self.rates, self.decays, self.momentum = rates, decays, momentum
        self.decaying = bool(decays.any())
        self.state: dict[str, tuple[torch.Tensor, ...]] = {}

    def __call__(self, parameters, gradients, step):
        for rate, (name, parameter) in zip(
            self.rates.T, parameters.items(), strict=True
        ):
            shape = (-1, *[1] * (parameter.dim() - 1))
            rate, decay = rate.reshape(shape), self.decays.view(shape)
            self.move(name, parameter, gradients[name], rate, decay, step)

    def move(self, name, parameter, gradient, rate, decay, step):
        self.shrink(parameter, rate, decay)
        parameter.addcmul_(gradient, rate, value=-1)

    def shrink(self, parameter, rate, decay):
        if self.decaying:
            parameter.mul_(1 - rate * decay)


class Momentum(SGD):
    """`torch.optim.SGD` with momentum."""

    def move(self, name, parameter, gradient, rate, decay, step):
        if name not in self.state:
            self.state[name] = (torch.zeros_like(parameter),)
        (velocity,) = self.state[name]
        velocity.mul_(self.momentum).add_(gradient)
        if self.decaying:
            velocity.addcmul_(parameter, decay)
        parameter.addcmul_(velocity, rate, value=-1)


class Sign(SGD):
    """Sign descent: every weight moves by its rate; decoupled decay."""

    def move(self, name, parameter, gradient, rate, decay, step):
        super().move(name, parameter, gradient.sign(), rate, decay, step)


class AdamW(SGD):
    """`torch.optim.AdamW` with its default betas and eps."""

    def move(self, name, parameter, gradient, rate, decay, step):
        if name not in self.state:
            zeros = torch.zeros_like(parameter)
            self.state[name] = (zeros, zeros.clone())
        mean, square = self.state[name]
        self.shrink(parameter, rate, decay)
        mean.lerp_(gradient, 1 - 0.9)
        square.mul_(0.999).addcmul_(gradient, gradient, value=1 - 0.999)
        scale = (square / (1 - 0.999**step)).sqrt_().add_(1e-8)
        parameter.addcmul_(mean / scale, rate, value=-1 / (1 - 0.9**step))


UPDATES = {
    "sgd": SGD,
    "momentum": Momentum,
    "adamw": AdamW,
    "sign": Sign,
}


class Batched:
    """Gradients of stacked MLPs by batched matrix products."""

    def __init__(self, stack, loss: str, shared: bool):
        self.shared = shared
        module = stack.module
        depth = len(module.weights)
        self.activation = module.activation
        self.multipliers = module.multipliers or (1.0,) * depth
        self.loss = loss
        self.gradients = {
            name: torch.empty_like(value)
            for name, value in stack.parameters.items()
        }
        values = list(stack.parameters.values())
        self.weights, self.biases = values[:depth], values[depth:]
        slopes = list(self.gradients.values())
        self.weight_slopes, self.bias_slopes = slopes[:depth], slopes[depth:]
        self.hidden: list[torch.Tensor] = []
        self.deltas: list[torch.Tensor] = []

    def _buffers(self, rows: int) -> None:
        if not self.hidden or self.hidden[0].shape[1] != rows:
            self.hidden, self.deltas = (
                [w.new_empty(len(w), rows, w.shape[1]) for w in self.weights]
                for _ in range(2)
            )

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        k = len(self.weights[0])
        if self.shared:
            x, y = x.expand(k, *x.shape), y.expand(k, *y.shape)
        n = x.shape[1]
        size = 2 * k * sum(w.shape[1] for w in self.weights)
        fit = max(ROWS, ACTIVATIONS // (size * x.element_size()))
        rows = n if x.is_cuda else min(n, fit)
        total = 0.0
        for i in range(0, n, rows):
            part = slice(i, i + rows)
            total = total + self._accumulate(x[:, part], y[:, part], n, i > 0)
        return total

    def _accumulate(self, x, y, n, more):
        self._buffers(x.shape[1])
        slopes = []
        below = x
        for layer, out in enumerate(self.hidden):
            _product(
                out,
                below,
                self.weights[layer].mT,
                self.multipliers[layer],
                self.biases[layer][:, None] if self.biases else None,
            )
            if out is not self.hidden[-1]:
                slopes.append(_activate(self.activation, out))
            below = out
        losses, delta = _outer(self.loss, below, y, n, self.deltas[-1])
        for layer in reversed(range(len(self.weights))):
            below = self.hidden[layer - 1] if layer else x
            slope = self.weight_slopes[layer]
            scale = self.multipliers[layer]
            add = slope if more else None
            _product(slope, delta.mT, below, scale, add)
            if self.biases:
                if not more:
                    self.bias_slopes[layer].zero_()
                self.bias_slopes[layer].add_(delta.sum(1))
            if layer:
                back = self.deltas[layer - 1]
                _product(back, delta, self.weights[layer], scale)
                slopes[layer - 1](back, below)
                delta = back
        return losses


def _product(out, left, right, scale, add=None):
    """Write scale * left @ right + add into `out`, in one kernel."""
    torch.baddbmm(
        out if add is None else add,
        left,
        right,
        beta=0 if add is None else 1,  # with 0, what `out` held is ignored
        alpha=scale,
        out=out,
    )


def _activate(activation, hidden):
    """Apply the activation in place; return how to apply its slope.

    The slope takes (delta, activated) and multiplies delta in place.
    """
    if activation is None:
        return lambda delta, activated: delta
    if activation is torch.relu:
        hidden.clamp_(min=0)
        backward = torch.ops.aten.threshold_backward.grad_input
        return lambda delta, activated: backward(
            delta, activated, 0, grad_input=delta
        )
    if activation is torch.tanh:
        hidden.tanh_()
        return lambda delta, activated: (
            torch.ops.aten.tanh_backward.grad_input(
                delta, activated, grad_input=delta
            )
        )
    with torch.enable_grad():
        before = hidden.detach().clone().requires_grad_()
        after = activation(before)
        (slope,) = torch.autograd.grad(after.sum(), before)
    hidden.copy_(after.detach())
    return lambda delta, activated: delta.mul_(slope)


def _outer(loss, outputs, targets, n, delta):
    """Return each network's loss, and d loss / d outputs in `delta`."""
    if loss == "squared error":
        torch.sub(outputs, targets, out=delta)
        losses = delta.square().sum((1, 2)) / (2 * n)
        return losses, delta.div_(n)
    logs = outputs.log_softmax(-1)
    chosen = logs.gather(-1, targets[..., None])
    torch.exp(logs, out=delta)
    one = delta.new_ones(()).expand_as(chosen)
    delta.scatter_add_(-1, targets[..., None], -one)
    return -chosen.sum((1, 2)) / n, delta.div_(n)


class Vectorized:
    """Gradients of any stacked module by ``torch.func``."""

    def __init__(self, stack, loss: str, shared: bool):
        def one(parameters, x, y):
            outputs = functional_call(stack.module, parameters, (x,))
            if loss == "squared error":
                return (outputs - y).square().sum() / (2 * len(x))
            return torch.nn.functional.cross_entropy(
                outputs.flatten(0, -2), y.flatten()
            )

        data = None if shared else 0
        self.call = torch.vmap(grad_and_value(one), (0, data, data))
        self.parameters = stack.parameters
        self.gradients: dict[str, torch.Tensor] = {}

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.gradients, losses = self.call(self.parameters, x, y)
        return losses
