"""A classifier, or a regression, with hidden layers: the likelihood of labels under a multilayer perceptron.

It has one more layer than logistic regression for every width in `hidden`. Objective, direction, data and judgement are
the same, but there is no closed form, and there can be several optima.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from rlgrad.networks import Activation
from rlgrad.problems.logistic import Likelihood, LikelihoodSettings
from rlgrad.streams import Purpose, stream
from rlgrad.supervised.classifier import NetworkClassifier
from rlgrad.supervised.data import Dataset
from rlgrad.trainable import Trainable


class Settings(LikelihoodSettings):
    """A multilayer perceptron with a probability for each class."""

    problem: Literal["classifier"] = "classifier"
    hidden: tuple[PositiveInt, ...] = (32,)
    """widths of the hidden layers; []: a linear classifier"""
    activation: Activation = "tanh"
    """activation function of the hidden layers"""

    def build(self, **objects: Any) -> "Classifier":
        self.check_order()
        return Classifier(self, self.dataset())


class Classifier(Likelihood):
    """The likelihood of the labels under a network."""

    def __init__(self, written: Settings, dataset: Dataset):
        settings = written.spread()
        drawn = [stream(seed, Purpose.INITIAL) for seed in settings.seeds]
        form = dataset.classes, settings.family, settings.hidden, settings.activation
        model = NetworkClassifier(dataset.x.shape[-1], *form, drawn).to(dataset.x.dtype)
        super().__init__(written, settings, dataset, model, bool(torch.as_tensor(settings.l2).any()))

    def description(self) -> dict[str, Any]:
        """All that is needed to use the classifier, with the form of its network."""
        found = super().description()
        found["form"] |= {"hidden": list(self.settings.hidden), "activation": self.settings.activation}
        return found

    def begin_from(self, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """Begin with the same network. Raises ValueError if its features were standardised differently."""
        if dict(description["preprocessing"]) != self.description()["preprocessing"]:
            raise ValueError("its features were prepared with other examples than this run's")
        Trainable.begin_from(self, tensors, description)
