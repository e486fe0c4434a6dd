"""Models of labels: from examples to a distribution over labels."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn
from torch.distributions import Distribution

from rlgrad.networks import MLP, Activation, Linear
from rlgrad.supervised.families import family_of


class LinearClassifier(nn.Module):
    """A generalised linear model: x [R, N, D] -> distribution over labels [R, N].

    Two classes have one score (Bernoulli), K > 2 classes have K scores (Categorical: multinomial logistic regression),
    and labels that are numbers have one; then `classes` is 1.
    """

    def __init__(self, replicas: int, features: int, classes: int, family: str = "logistic"):
        super().__init__()
        self.classes, self.family = classes, family_of(family, classes)
        self.linear = Linear(replicas, features, 1 if classes == 2 else classes)

    def forward(self, x: Tensor) -> Distribution:
        return self.predict(self.scores(x))

    def scores(self, x: Tensor) -> Tensor:
        """The scores [R, N, 1], or [R, N, K] if K > 2."""
        found: Tensor = self.linear(x)
        return found

    @property
    def weights(self) -> list[nn.Parameter]:
        """The parameters that are penalised: [R, D, K]."""
        return [self.linear.weight]

    def predict(self, scores: Tensor) -> Distribution:
        """The distribution of labels [R, N], by their scores [R, N, 1], or [R, N, K] if K > 2."""
        return self.family.distribution(scores)


class NetworkClassifier(LinearClassifier):
    """A `LinearClassifier` with a multilayer perceptron instead of the linear map."""

    def __init__(
        self,
        features: int,
        classes: int,
        family: str,
        hidden: Sequence[int],
        activation: Activation,
        streams: Sequence[np.random.Generator],
    ):
        nn.Module.__init__(self)
        self.classes, self.family = classes, family_of(family, classes)
        self.network = MLP(features, 1 if classes == 2 else classes, hidden, streams, activation, output_gain=1.0)

    def scores(self, x: Tensor) -> Tensor:
        return self.network(x)  # type: ignore[no-any-return]

    @property
    def weights(self) -> list[nn.Parameter]:
        return [layer.weight for layer in self.network.layers]  # type: ignore[misc]
