"""A linear classifier: from examples to a distribution over labels."""

from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution

from rlgrad.networks import Linear


class LinearClassifier(nn.Module):
    """Logistic regression: x [R, N, D] -> distribution over labels [R, N].

    Two classes need one logit (Bernoulli), K > 2 classes K of them (Categorical: multinomial logistic regression).
    """

    def __init__(self, replicas: int, features: int, classes: int):
        super().__init__()
        self.classes = classes
        self.linear = Linear(replicas, features, 1 if classes == 2 else classes)

    def forward(self, x: Tensor) -> Distribution:
        return self.predict(self.linear(x))

    def predict(self, logits: Tensor) -> Distribution:
        """Of labels [R, N], from what the linear model says of them: [R, N, 1], or [R, N, K] if K > 2."""
        if self.classes == 2:
            return Bernoulli(logits=logits.squeeze(-1), validate_args=False)
        return Categorical(logits=logits, validate_args=False)
