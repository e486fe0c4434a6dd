"""Models [R, ...]: from inputs to distributions, R replicas at a time.

A model returns a `torch.distributions.Distribution`. That is the kinship of the two problems: the classifier climbs
`model(x).log_prob(y)`, the policy `model(observation).log_prob(action)` weighted by the advantage.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution

Activation = Literal["tanh", "relu"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}


class Linear(nn.Module):
    """R affine maps side by side: [R, N, inputs] -> [R, N, outputs].

    weight [R, inputs, outputs], bias [R, 1, outputs]; both zero until somebody sets them.
    """

    def __init__(self, replicas: int, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(replicas, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(replicas, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class MLP(nn.Module):
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
        output_gain: float = 0.01,
    ):
        super().__init__()
        sizes = [inputs, *hidden, outputs]
        gains = [math.sqrt(2)] * len(hidden) + [output_gain]
        self.layers = nn.ModuleList(Linear(len(streams), a, b) for a, b in itertools.pairwise(sizes))
        self.activation = ACTIVATIONS[activation]
        with torch.no_grad():
            for layer, gain in zip(self.layers, gains, strict=True):
                for weight, rng in zip(layer.weight, streams, strict=True):  # type: ignore[arg-type]
                    weight.copy_(gain * orthogonal(weight.shape[0], weight.shape[1], rng))

    def forward(self, x: Tensor) -> Tensor:
        leading = x.shape[:-1]
        x = x.flatten(1, -2)  # [R, N, inputs]
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x).reshape(*leading, -1)  # type: ignore[no-any-return]


def orthogonal(rows: int, columns: int, rng: np.random.Generator) -> Tensor:
    """A random [rows, columns] matrix whose shorter side is orthonormal, uniformly distributed among these."""
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))  # without this the distribution is not uniform (Mezzadri 2007)
    return torch.from_numpy(q if rows >= columns else q.T)


class CategoricalPolicy(nn.Module):
    """A policy over finitely many actions: observation [R, ..., D] -> Categorical over actions [R, ...]."""

    def __init__(self, network: nn.Module, actions: int):
        super().__init__()
        self.network = network
        self.actions = actions

    def forward(self, observation: Tensor) -> Categorical:
        return Categorical(logits=self.network(observation), validate_args=False)

    def noise(self, rng: np.random.Generator, *shape: int) -> np.ndarray:
        """What `act` needs to draw actions [*shape], for one replica: [*shape, A] standard Gumbel variables."""
        exponential = rng.standard_exponential((*shape, self.actions), dtype=np.float32)
        return np.negative(np.log(np.maximum(exponential, np.finfo(np.float32).tiny)))

    def act(self, observation: Tensor, noise: Tensor | None = None) -> Tensor:
        """Actions [R, ...] as the policy draws them with this noise; without noise the most probable ones.

        The argmax of logits and Gumbel noise follows the softmax of the logits (Gumbel 1954), normalized or not.
        """
        logits: Tensor = self.network(observation)
        return (logits if noise is None else logits + noise).argmax(-1)


class LinearClassifier(nn.Module):
    """Logistic regression: x [R, N, D] -> distribution over labels [R, N].

    Two classes need one logit (Bernoulli), K > 2 classes K of them (Categorical: multinomial logistic regression).
    """

    def __init__(self, replicas: int, features: int, classes: int):
        super().__init__()
        self.classes = classes
        self.linear = Linear(replicas, features, 1 if classes == 2 else classes)

    def forward(self, x: Tensor) -> Distribution:
        logits = self.linear(x)
        if self.classes == 2:
            return Bernoulli(logits=logits.squeeze(-1), validate_args=False)
        return Categorical(logits=logits, validate_args=False)
