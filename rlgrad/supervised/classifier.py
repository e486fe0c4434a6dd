"""A linear model: from examples to a distribution over labels."""

from torch import Tensor, nn
from torch.distributions import Distribution

from rlgrad.networks import Linear
from rlgrad.supervised.families import family_of


class LinearClassifier(nn.Module):
    """A generalised linear model: x [R, N, D] -> distribution over labels [R, N].

    Two classes need one score (Bernoulli), K > 2 classes K of them (Categorical: multinomial logistic regression), and
    labels that are numbers one, their `classes` being 1.
    """

    def __init__(self, replicas: int, features: int, classes: int, family: str = "logistic"):
        super().__init__()
        self.classes, self.family = classes, family_of(family, classes)
        self.linear = Linear(replicas, features, 1 if classes == 2 else classes)

    def forward(self, x: Tensor) -> Distribution:
        return self.predict(self.linear(x))

    def predict(self, scores: Tensor) -> Distribution:
        """Of labels [R, N], from what the linear model says of them: [R, N, 1], or [R, N, K] if K > 2."""
        return self.family.distribution(scores)
