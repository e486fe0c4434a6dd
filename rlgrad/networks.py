"""Models [R, ...]: from inputs to distributions, R replicas at a time.

A model returns a `torch.distributions.Distribution`. That is what the two problems have in common: a classifier
maximizes `model(x).log_prob(y)`, a policy `model(observation).log_prob(action)` weighted by the advantage.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["tanh", "relu"]
# the function, in place, and an input that it maps to exactly 1
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "tanh": (torch.tanh_, 20.0),
    "relu": (torch.relu_, 1.0),
}
MOST_WEIGHTS = 2**30  # of a layer, over all replicas: more would fill the memory before anything is said
Frozen = Callable[[np.ndarray], np.ndarray]  # [R, N, ...] -> [R, N, ...]


def frozen(network: nn.Module) -> Frozen:
    """Return the network with its current parameters as a numpy function, without a gradient. For the few observations
    of one time step that is several times as fast as torch. It computes the same as the network's own `forward`, which
    is called if a network has no numpy form.
    """
    if isinstance(network, nn.Sequential):
        parts = [frozen(part) for part in network]
        return lambda x: functools.reduce(lambda seen, part: part(seen), parts, x)
    if isinstance(network, Actable):
        return network.frozen()

    return plain(network)


def plain(network: nn.Module) -> Frozen:
    """Return the network's `forward` as a function of numpy arrays."""

    @torch.no_grad()
    def forward(x: np.ndarray) -> np.ndarray:
        return network(torch.as_tensor(x)).numpy(force=True)  # type: ignore[no-any-return]

    return forward


class Actable(nn.Module):
    """A network that has a fast numpy form for acting."""

    def frozen(self) -> Frozen:
        """Return `forward` with the current parameters, as a numpy function."""
        raise NotImplementedError


class Linear(nn.Module):
    """R affine maps side by side: [R, N, inputs] -> [R, N, outputs].

    weight [R, inputs, outputs], bias [R, 1, outputs]; both are zero at first. Raises ValueError above `MOST_WEIGHTS`.
    """

    def __init__(self, replicas: int, inputs: int, outputs: int):
        super().__init__()
        if (count := replicas * inputs * outputs) > MOST_WEIGHTS:
            message = f"a layer from {inputs:,} to {outputs:,} numbers in {replicas:,} replicas has {count:,} weights"
            raise ValueError(f"{message}, and {MOST_WEIGHTS:,} is the most: take smaller layers or fewer replicas")
        self.weight = nn.Parameter(torch.zeros(replicas, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(replicas, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class MLP(Actable):
    """R multilayer perceptrons side by side: [R, ..., inputs] -> [R, ..., outputs].

    Orthogonal weights, as in Saxe et al. 2014 (https://arxiv.org/abs/1312.6120), with gain √2 in the hidden layers and
    `output_gain` in the last: a small one makes a policy start out almost uniform. Biases start at zero.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int],
        streams: Sequence[np.random.Generator],
        activation: Activation = "tanh",
        output_gain: float | Tensor = 0.01,
    ):
        """output_gain: the gain of the last layer's weights: one number, or one per replica [R]."""
        super().__init__()
        sizes = [inputs, *hidden, outputs]
        last = output_gain.tolist() if isinstance(output_gain, Tensor) else [output_gain] * len(streams)
        gains = [*[[math.sqrt(2)] * len(streams)] * len(hidden), last]
        self.layers = nn.ModuleList(Linear(len(streams), a, b) for a, b in itertools.pairwise(sizes))
        self.inputs, (self.activation, self.one) = inputs, ACTIVATIONS[activation]
        with torch.no_grad():
            for layer, layer_gains in zip(self.layers, gains, strict=True):
                for weight, gain, rng in zip(layer.weight, layer_gains, streams, strict=True):  # type: ignore[arg-type]
                    weight.copy_(gain * orthogonal(weight.shape[0], weight.shape[1], rng))

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.products()
        seen = torch.cat([x, x.new_ones(()).expand(*x.shape[:-1], 1)], -1).flatten(1, -2).mT  # [R, inputs + 1, N]
        for weight in hidden:
            seen = self.activation(torch.bmm(weight, seen))
        return torch.bmm(last, seen).mT.reshape(*x.shape[:-1], -1)

    def products(self) -> list[Tensor]:
        """The layers as matrices, each [R, outputs, inputs + 1]. A bias is the weight of one more input, which is
        always 1; each hidden layer has one more unit, which passes the 1 on.

        So no layer needs another pass over its outputs to add a bias or to sum its gradient. In this order, [outputs,
        inputs] times [inputs, N], products and sums over few outputs are several times as fast.
        """
        *hidden, last = [torch.cat([layer.weight.mT, layer.bias.mT], 2) for layer in self.layers]  # type: ignore[list-item]
        result = []
        for weight in hidden:
            one = torch.zeros_like(weight[:, :1])
            one[:, :, -1] = self.one
            result.append(torch.cat([weight, one], 1))
        return [*result, last]

    def frozen(self) -> Frozen:
        """Return `forward` for x [R, N, inputs], as a numpy function."""
        *weights, last = [weight.numpy(force=True) for weight in self.products()]
        last = np.ascontiguousarray(last.swapaxes(1, 2))

        @functools.cache
        def memory(count: int) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray, Tensor]]]:
            """Arrays for the inputs and for each hidden layer's outputs, with its weights; every call reuses them."""
            units = [np.empty((*weight.shape[:2], count), last.dtype) for weight in weights]
            hidden = [(weight, one, torch.from_numpy(one)) for weight, one in zip(weights, units, strict=True)]
            return np.ones((len(last), self.inputs + 1, count), last.dtype), hidden

        @np.errstate(invalid="ignore")  # a later check reports observations that are not finite
        def forward(x: np.ndarray) -> np.ndarray:
            seen, layers = memory(x.shape[1])
            seen[:, :-1] = x.swapaxes(1, 2)
            for weight, result, as_tensor in layers:
                seen = np.matmul(weight, seen, out=result)
                self.activation(as_tensor)
            return np.matmul(seen.swapaxes(1, 2), last)  # type: ignore[no-any-return]

        return forward


class AnyMLP(MLP):
    """An MLP with any activation function, tensor -> tensor, without the faster forms."""

    def __init__(self, activation: Callable[[Tensor], Tensor], *arguments: Any, **options: Any):
        """arguments, options: as for an MLP."""
        super().__init__(*arguments, **options)
        self.any = activation

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        seen = x.flatten(1, -2)
        for layer in hidden:
            seen = self.any(layer(seen))
        return last(seen).reshape(*x.shape[:-1], -1)  # type: ignore[no-any-return]

    def frozen(self) -> Frozen:
        return plain(self)


def orthogonal(rows: int, columns: int, rng: np.random.Generator) -> Tensor:
    """A random [rows, columns] matrix whose shorter side is orthonormal, uniformly distributed among these."""
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))  # without this the distribution is not uniform (Mezzadri 2007)
    return torch.as_tensor(q if rows >= columns else q.T)


Filters = Sequence[tuple[int, int, int]]  # for each layer: number of filters, their size, stride
NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # Mnih et al. 2015 (https://doi.org/10.1038/nature14236)
SMALL, LARGE = ((16, 3, 2), (32, 3, 2)), 36  # SMALL: for pictures with a side shorter than LARGE pixels


class Convolutions(nn.Module):
    """R small stacks of convolutions with ReLU, called for one replica at a time: [N, C, H, W] -> [N, features].

    If the strides do not divide a side evenly, zeros are added right and below, so that every pixel is used. One call
    per replica is as fast as one grouped convolution, and a replica's bits do not depend on the number of replicas.
    """

    def __init__(self, shape: Sequence[int], streams: Sequence[np.random.Generator], filters: Filters | None = None):
        """shape: channels, height, width. filters: None chooses them by the size of the pictures."""
        super().__init__()
        depth, *sides = shape
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        self.steps: list[tuple[int, list[int]]] = []  # stride and zeros (left, right, above, below) of each layer
        for count, size, stride in filters or (NATURE if min(sides) >= LARGE else SMALL):
            drawn = [math.sqrt(2) * orthogonal(size * size * depth, count, rng).T for rng in streams]
            weight = torch.stack(drawn).reshape(len(streams), count, depth, size, size)
            self.weights.append(nn.Parameter(weight.to(torch.get_default_dtype())))
            self.biases.append(nn.Parameter(torch.zeros(len(streams), count)))
            steps = [max(0, math.ceil((side - size) / stride)) for side in sides]
            below, right = (n * stride + size - side for n, side in zip(steps, sides, strict=True))
            self.steps.append((stride, [0, right, 0, below]))
            depth, sides = count, [n + 1 for n in steps]
        self.features = depth * math.prod(sides)

    def forward(self, seen: Tensor, replica: int) -> Tensor:
        seen = seen.contiguous(memory_format=torch.channels_last)
        for weight, bias, (stride, zeros) in zip(self.weights, self.biases, self.steps, strict=True):
            seen = functional.pad(seen, zeros) if any(zeros) else seen
            seen = functional.conv2d(seen, weight[replica], bias[replica], stride).relu()
        return seen.flatten(1)
