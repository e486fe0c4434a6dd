"""Logistic regression, binary or multinomial: minimize the negative log-likelihood, or maximize the log-likelihood.

    log L(w) = mean over examples of log p(y | x, w)

It is concave, so every local maximum is global; its negative is convex, so every local minimum is global. Both are
the same point, and the gradients differ only in the sign (Hastie, Tibshirani & Friedman 2009, section 4.4.1).
"""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import torch
from pydantic import Field, FiniteFloat, NonNegativeFloat, PositiveInt, PrivateAttr
from torch import Tensor

from rlgrad import distributed, ranks
from rlgrad.errors import SettingError
from rlgrad.loop import Direction, Estimate, Lazy, Update
from rlgrad.optimizers.curvature import Curvature, Shared
from rlgrad.replicas import along
from rlgrad.settings import MAX_REPLICAS, Each, Key, Section, Sweep, either, replaced
from rlgrad.streams import Purpose, stream
from rlgrad.supervised import data, judgement
from rlgrad.supervised.classifier import LinearClassifier
from rlgrad.supervised.conclusions import Conclusion, concluded
from rlgrad.supervised.families import NUMERIC, family_of
from rlgrad.supervised.formulas import parsed
from rlgrad.supervised.likelihood import Decay, Information, for_each, given, penalised, scored
from rlgrad.supervised.minibatches import Batch, Minibatches, MinibatchSettings
from rlgrad.supervised.preprocessing import Preprocessing
from rlgrad.supervised.resampling import Path, Resampling, check_rows, chosen, deviations, resampled, steepest
from rlgrad.supervised.settings import DataSettings
from rlgrad.supervised.trained import TrainedClassifier, TrainedRegression, description
from rlgrad.trainable import Trainable

ENOUGH = 100_000  # examples, for a curvature that only measures how near the optimum is
DIRECTIONS = {"log_likelihood": Direction.MAXIMIZE, "negative_log_likelihood": Direction.MINIMIZE}


if TYPE_CHECKING:
    Penalty: TypeAlias = float | Tensor
    Replicas: TypeAlias = Any
else:
    Penalty = either(NonNegativeFloat, path=Path, sweep=Sweep[NonNegativeFloat])
    Replicas = either(Annotated[int, Field(gt=0, le=MAX_REPLICAS)], folds=Resampling)


class EarlyStopping(Section):
    """When a replica stops before the run's length."""

    patience: PositiveInt
    """number of evaluations in a row without a better result on the validation part (`validation_fraction`,
    `evaluation.every_updates`), after which a replica stops. It ends with the weights of its best evaluation"""


class LikelihoodSettings(DataSettings, MinibatchSettings):
    """Settings of every problem whose objective is a likelihood of labels."""

    replicas: Replicas = 1
    """the number of copies trained side by side (in a sweep: for each value); or the rows that each copy learns from:
    {folds: 10}, {folds: 10, groups: COLUMN}, {by: COLUMN} or {bootstrap: 200}"""

    family: Literal["logistic", "poisson", "gaussian"] = "logistic"
    """the distribution of the labels. logistic: two or more classes. poisson: counts; the model gives the logarithm of
    their mean. gaussian: numbers; the model gives their mean"""
    objective: Literal["negative_log_likelihood", "log_likelihood"] = "negative_log_likelihood"
    """the cost to minimize, or the log-likelihood to maximize"""
    reduction: Literal["mean", "sum"] = "mean"
    """whether the objective is the mean or the sum over the examples of an update"""
    l2: Penalty = 0.0
    """strength of the penalty l2/2 ||w||^2, without intercepts; scikit-learn's C is 1 / (l2 * examples) for the mean,
    and 1 / l2 for the sum. {path: 100}: 100 values, from one where weights are almost zero downwards"""
    class_weights: Literal["balanced"] | dict[str, NonNegativeFloat] | None = None
    """weight of the examples of each class in learning, by label; balanced: all classes have the same total weight,
    also among the rows of each fold or resample; null: every weight is 1. With class weights, use standard errors by
    `errors: sandwich`"""
    early_stopping: EarlyStopping | None = None
    """null: the run does not stop early, and ends with its last weights"""

    linear: ClassVar[bool] = False  # whether other weights can undo a change of the features' means and deviations
    _read: data.Dataset | None = PrivateAttr(None)  # the examples, if `resolved` has read them already

    @property
    def intercepted(self) -> bool:
        """Whether the model has an intercept."""
        return bool(dict(self).get("intercept", True))

    @property
    def grouping(self) -> int | str | None:
        """The column whose equal values mark rows that belong together, or None."""
        how = self.replicas
        return (how.by if how.groups is None else how.groups) if isinstance(how, Resampling) else None

    def resolved(self) -> Self:
        """These settings with the values of all paths and the number of folds filled in from the data."""
        how, paths = self.replicas, {name: path for name, path in self if isinstance(path, Path)}
        unsaid = isinstance(how, Resampling) and how.by is not None and how.folds is None
        if not paths and not unsaid:
            return self
        dataset = self.examples()
        family, rows = family_of(self.family, dataset.classes), len(dataset.y) if self.reduction == "sum" else 1
        slope = rows * steepest(family, self.weighted(dataset), self.intercepted)
        found: dict[Key, Any] = {(name,): {"sweep": path.values(name, slope)} for name, path in paths.items()}
        if unsaid and dataset.groups is not None:
            found["replicas", "folds"] = count = int(dataset.groups.max()) + 1
            if count < 2:
                raise SettingError(
                    ("replicas", "by"), f"{self.grouping} has the same value in all rows: it makes no folds"
                )
        same: Self = self.model_validate(replaced(self.model_dump(), found))
        same._read = dataset
        return same

    def dataset(self) -> data.Dataset:
        """The examples, with the rows of each replica and the weights of classes in them. Raises SettingError."""
        dataset = self._read or self.examples()
        if not isinstance(self.replicas, Resampling):
            return self.weighted(dataset)
        seeds, done = self.seeds[: int(self.replicas)], dataset.preprocessing
        separately = any(done.indicated) or bool(done.learned) or (bool(done.mean) and not self.linear)
        copies = len(self.cells) if separately else 0
        found = resampled(dataset, self.replicas, seeds, self.split_seed, self.reduction == "mean", copies)
        every = self.intercepted or self.class_weights is not None
        check_rows(found, self.replicas, family_of(self.family, dataset.classes), every)
        return self.weighted(found)

    def examples(self) -> data.Dataset:
        """The examples, with labels that are valid for the family. Raises SettingError."""
        numeric = NUMERIC.get(self.family)
        cut = "validation_fraction" if self.validation_fraction or self.test_data is not None else "test_fraction"
        if self.grouping is not None and getattr(self, cut):
            hint = "set it to 0; test_data may name a file"
            raise SettingError((cut,), f"rows of one group would be in both parts: {hint}")
        if numeric and self.positive is not None:
            raise SettingError(("positive",), f"family: {self.family} has no classes: its labels are numbers")
        dataset = data.load_dataset(self, numeric is not None, self.intercepted)
        if self.early_stopping and dataset.validation is None:
            hint = "it watches a validation part: set validation_fraction, such as 0.1"
            raise SettingError(("early_stopping",), hint)
        if numeric:
            y = torch.cat([dataset.y, dataset.test_y, *(dataset.validation or ())[1:]])
            if reason := numeric.refuses(y):
                raise SettingError(("family",), f"{self.family}: {reason}")
        return dataset

    def weighted(self, dataset: data.Dataset) -> data.Dataset:
        """Multiply the weight of each example, in each replica, by the weight of its class. Raises SettingError."""
        names = [str(label) for label in dataset.labels]
        checked = dataset.sample_weight is not None and dataset.drawn is None
        if self.class_weights is None and not (checked and names):
            return dataset
        if not names:
            raise SettingError(("class_weights",), f"family: {self.family} has no classes")
        y, once = dataset.y.long(), torch.ones(len(dataset.y), dtype=dataset.x.dtype)
        counts = once if dataset.sample_weight is None else dataset.sample_weight
        each = torch.stack([self.of_classes(y, own, names) for own in counts.reshape(-1, len(y))])
        each = each.to(once)[:, y].reshape(counts.shape)
        of_class = each if dataset.drawn is None else None
        return dataset._replace(sample_weight=counts * each, class_weight=of_class)

    def of_classes(self, y: Tensor, counts: Tensor, names: Sequence[str]) -> Tensor:
        """The weight [K] of each class, from the labels y [N] and the weights [N] of the examples that one replica
        learns from. Raises SettingError."""
        found, each = torch.bincount(y, counts, minlength=len(names)), torch.ones(len(names))
        if self.class_weights == "balanced":
            each = counts.sum() / (len(names) * found)
        elif self.class_weights:
            for name in self.class_weights:
                if name not in names:
                    raise SettingError(("class_weights", name), f"there is no label {name!r}", names, name)
            each = torch.tensor([self.class_weights.get(name, 1.0) for name in names])
        if not (some := found * each.to(found) > 0).all():  # inf times 0 is nan
            setting, which = "weight" if (found <= 0).any() else "class_weights", names[int(some.int().argmin())]
            what = f"no example with the label {which!r} has a weight above 0, so nothing can be learned about it"
            raise SettingError((setting,), what)
        return each

    def trained(self, tensors: Mapping[str, Tensor], description: Mapping[str, Any], **objects: Any) -> Any:
        if isinstance(self.replicas, Resampling):
            hint = "train the final one with the settings chosen and --replicas 1"
            raise SettingError(("replicas",), f"it has one model per fold or resample: {hint}")
        return (TrainedClassifier if self.family == "logistic" else TrainedRegression)(tensors, description)


class Settings(LikelihoodSettings):
    """A linear classifier with a probability for each class."""

    linear = True
    problem: Literal["logistic"] = "logistic"
    l1: Penalty = 0.0
    """strength of the penalty l1 ||w||_1, which makes weights exactly 0; with l2 it is the elastic net. It needs the
    optimizer Newton or Proximal. The logged gradient leaves this penalty out"""
    intercept: bool = True
    """whether the model has an intercept; without it the decision boundary goes through the origin"""
    initial_value: Each[FiniteFloat] = 0.0
    """initial value of weights and intercept"""
    initial_deviation: Each[NonNegativeFloat] = 0.0
    """standard deviation of normal noise around `initial_value`, for the weights; 0: no noise"""
    gradient: Literal["closed_form", "autograd"] = "closed_form"
    """closed_form: the textbook's formula, in one pass through the examples. autograd: torch differentiates the model's
    distribution, as for any other objective; slower, same up to rounding. It applies to Newton's curvature too"""
    errors: Literal["fisher", "sandwich"] = "fisher"
    """how the standard errors of coefficients are computed, if there is no penalty: by the Fisher information, or by
    the sandwich (HC0), which is also valid if the model is not exactly right"""
    curvature_examples: PositiveInt | None = None
    """number of examples, evenly spaced over an update's, from which Newton computes the curvature; null: all. The
    gradient always uses all examples, so the optimum is the same"""

    def build(self, **objects: Any) -> "Logistic":
        if self.curvature_examples and self.optimizer.name != "Newton":
            raise SettingError(("curvature_examples",), "it has no effect: only Newton uses the curvature")
        if any(each.l1 for each in self.each()):
            self.check_kink()
        self.check_order()
        if self.formula is not None and parsed(self.formula).intercept != self.intercept:
            what = "the formula has none" if self.intercept else "the formula has one, unless it says `- 1`"
            other = str(not self.intercept).lower()
            raise SettingError(("intercept",), f"{what}: set intercept: {other}, or change the formula")
        return Logistic(self, self.dataset())

    def check_kink(self) -> None:
        """Raise SettingError if the penalty l1 is not possible with the other settings."""
        name, solver = self.optimizer.name, self.optimizer.arguments.get("solver")
        if name not in ("Newton", "Proximal"):
            message = f"{name} cannot make weights exactly 0: take Newton, or for minibatches Proximal {{lr, momentum}}"
            raise SettingError(("l1",), message)
        if self.gradient != "closed_form" or self.wrong_sign or solver == "cg":
            other = "wrong_sign" if self.wrong_sign else "solver: cg" if solver == "cg" else "gradient: autograd"
            raise SettingError(("l1",), f"it cannot be used with {other}")


def of_weights(penalty: float | Tensor) -> Decay:
    """A penalty: a number as it is, or one per replica [R] as [R, 1, 1]."""
    return penalty.numpy()[:, None, None] if isinstance(penalty, Tensor) else penalty


class Likelihood(Trainable):
    """The likelihood of the labels under a model, computed from the model's distribution."""

    model: Any  # `scores` maps x [R, B, D] to scores [R, B, K]; the penalty is on `weights`
    curved = True
    work = "batch/examples"  # the number of examples of an update

    def __init__(self, written: Any, settings: Any, dataset: data.Dataset, model: Any, penalty: bool):
        """written: the settings as in the config. settings: the same, with one value per replica for each sweep.
        penalty: whether there is a penalty."""
        self.direction, self.dataset = DIRECTIONS[settings.objective], dataset
        self.facts, self.model = dataset.facts, model
        self.measures = settings.objective.replace("_", " ") + (" and penalty" if penalty else "")
        self.how, self.cells, self.concluded = written.replicas, written.cells, Conclusion([], {}, {})
        self.settings = settings
        self.headline, self.judged = model.family.headline, (model.family.judged, Direction.MINIMIZE)
        if len(self.cells) > 1:  # the cells of a sweep are compared by it
            self.headline = tuple(dict.fromkeys((model.family.judged, *self.headline)))
        self.by_chance = not (isinstance(self.how, Resampling) and self.how.bootstrap)
        if dataset.validation:
            self.judged, what = (f"validation_{model.family.judged}", Direction.MINIMIZE), model.family.judged
            fact = f"{len(dataset.validation[1])} examples are kept apart"
            if settings.early_stopping:
                self.patience = settings.early_stopping.patience
                fact += f"; after {self.patience} evaluations in a row without a better {what.replace('_', '-')} "
                fact += "on them a replica stops, and ends with its best weights"
            self.facts = {**self.facts, "validation": fact}
        self.minibatches = Minibatches(settings, dataset)
        self.shares = min(settings.batch_size or len(dataset.y), len(dataset.y))
        self.decay: Decay = of_weights(settings.l2)  # or [R, D, 1]

    def identity(self) -> Mapping[str, str]:
        return self.dataset.identity

    def sample(self, step: int) -> Batch:
        """The next examples of each replica's epoch, or all examples."""
        return self.minibatches.sample(step)

    def objective(self, batch: Batch) -> Estimate:
        """The log-likelihood [R] of the batch, as mean or sum, minus the penalty; a cost has the other sign."""
        examples = batch.y.shape[1]
        scale, batch = self._scale(examples), batch.shared()
        value, scores = self._likelihood(batch, scale)
        value, slopes = distributed.differentiated(value, self.model.parameters())
        parts = [(scores.detach().mT, batch.y, *given(batch.sample_weight))]
        metrics = Lazy(functools.partial(self._metrics, parts, examples))
        return Estimate(value, metrics, slopes, lambda: self._differentiated(batch, scale))

    def _likelihood(self, batch: Batch, scale: float) -> tuple[Tensor, Tensor]:
        """The objective [R], by the model's distribution, and the scores. Each rank has its share of the examples and
        of the penalty."""
        counts, scores = batch.sample_weight, self.model.scores(batch.x)
        each = self.model.predict(scores).log_prob(batch.y)
        each = each if counts is None else each * for_each(torch, counts, len(each))
        decay = torch.as_tensor(self.decay, dtype=scores.dtype) / ranks.here.size
        penalties = ((decay / 2 * weight.square()).sum((1, 2)) for weight in self.model.weights)
        return self.direction.sign * (scale * each.sum(1) - sum(penalties)), scores

    def _scale(self, examples: int) -> float:
        return 1 / examples if self.settings.reduction == "mean" else 1.0

    def _differentiated(self, batch: Batch, scale: float) -> Curvature:
        with torch.enable_grad():
            return Shared(self._likelihood(batch, scale)[0], self.model.parameters())

    @torch.no_grad()
    def _metrics(self, parts: Iterable[tuple[Tensor, ...]], examples: int) -> dict[str, Tensor]:
        """parts: scores [R, K, B], labels and weights, for some of the examples at a time."""
        found, counted = dict[str, Tensor](), torch.zeros(())
        for scores, y, *counts in parts:
            one, weight = scores.new_ones(len(scores)), [for_each(torch, each, len(scores)) for each in counts]
            own = weight[0].sum(1) if weight else one * y.shape[1]
            more = self.model.family.quality(self.model.predict(scores.mT), y, *weight)
            counted = counted + own
            found = found or dict.fromkeys(more, torch.zeros(()))
            found = {name: old + (more[name] - old) * own / counted for name, old in found.items()}
        found = distributed.averaged(found, counted)
        return {f"batch/{name}": figure for name, figure in found.items()} | {"batch/examples": one * examples}

    def description(self) -> dict[str, Any]:
        """All that is needed to use the classifier: labels, preprocessing and family."""
        return description(self.dataset.labels, self.dataset.preprocessing, self.settings.family)

    @torch.no_grad()
    def final(self, update: Update) -> Tensor:
        """The objective [R] on all training examples."""
        return self.objective(self.minibatches.everything()).value

    @torch.no_grad()
    def evaluate(self, step: int) -> Mapping[str, Tensor]:
        """Metrics [R] on the held-out part: accuracy, log-loss and, for two classes, AUC. With `prior_`: the same for a
        constant prediction of the training part's class frequencies; a classifier that is no better has learned nothing
        (the constant has an AUC of one half). With `validation_`: the metric by which models are compared, on the
        validation part. A replica that has its own held-out part is judged on that."""
        parts = [self._judged(*part) for part in self.dataset.held_out()]
        common = [name for name in parts[0] if all(name in part for part in parts)]
        found = {name: torch.stack([part[name] for part in parts], 1).flatten() for name in common}
        if self.dataset.validation:
            judged = self.model.family.judged
            found[f"validation_{judged}"] = self._judged(slice(None), *self.dataset.validation, None)[judged]
        return found

    def _judged(self, own: slice, x: Tensor, y: Tensor, counts: Tensor | None) -> dict[str, Tensor]:
        """The metrics of some replicas on x [M, D] and y [M]. counts: [N] weights of the training examples."""
        family, classes = self.model.family, self.dataset.classes
        parameters = {name: parameter[own] for name, parameter in self.model.named_parameters()}
        replicas = len(next(iter(parameters.values())))
        distribution = torch.func.functional_call(self.model, parameters, (x.expand(replicas, -1, -1),))
        learned: dict[str, Tensor] = family.quality(distribution, y.expand(replicas, -1))
        if classes == 2 and 0 < y.mean() < 1:
            learned["auc"] = judgement.auc(distribution.logits, y)
        level = family.constant(self.dataset.y, classes, counts).to(x.dtype)
        constant = family.quality(family.distribution(level.expand(replicas, len(y), -1)), y.expand(replicas, -1))
        return learned | {f"prior_{name}": value for name, value in constant.items()}

    @torch.no_grad()
    def conclusion(self) -> Sequence[str]:
        """For a sweep on folds: which value is the best."""
        sentences, findings, documents = self.concluded
        if isinstance(self.how, Resampling) and self.how.folds and len(self.cells) > 1:
            values = self.evaluate(0)[self.model.family.judged].double().reshape(len(self.cells), -1).numpy(force=True)
            said, choice = chosen(self.cells, values, self.model.family.judged)
            self.concluded = Conclusion([*sentences, said], findings | {"choice": choice}, documents)
        return self.concluded.sentences

    def findings(self) -> Mapping[str, Any]:
        return self.concluded.findings


class Logistic(Likelihood):
    """The likelihood of the labels under a linear model."""

    informed, shown = True, "coefficients.md"

    def __init__(self, written: Settings, dataset: data.Dataset):
        settings, width = written.spread(), dataset.x.shape[-1]
        model = LinearClassifier(settings.replicas, width, dataset.classes, settings.family).to(dataset.x.dtype)
        penalty = any(bool(torch.as_tensor(each).any()) for each in (settings.l2, settings.l1))
        super().__init__(written, settings, dataset, model, penalty)
        if not settings.standardise and settings.optimizer.name == "Newton":
            self.facts = {**self.facts, "scaling": "Newton's curvature is scaled, and computed in double precision"}
        linear = self.model.linear
        self.kink: Decay = of_weights(settings.l1)  # or [R, D, 1]
        exactly = torch.empty(1, 1, 1, dtype=torch.float64)
        start, deviation = (along(each, exactly) for each in (settings.initial_value, settings.initial_deviation))
        self.kinked, self.penalised = bool(np.any(self.kink)), penalty
        if dataset.drawn is not None and settings.standardise and not dataset.own:
            # in units of each replica's own rows: its resample has other deviations
            unit = for_each(np, deviations(dataset.drawn, dataset.x).numpy(force=True), settings.replicas)[:, :, None]
            self.decay, self.kink = self.decay * unit**2, self.kink * unit
        with torch.no_grad():
            linear.bias.copy_(torch.as_tensor(start if settings.intercept else 0.0, dtype=torch.float64))
            linear.weight.copy_(torch.as_tensor(start, dtype=torch.float64))
            if isinstance(deviation, Tensor) or deviation:
                drawn = [stream(seed, Purpose.INITIAL) for seed in settings.seeds]
                deviates = np.stack([rng.standard_normal(tuple(linear.weight.shape[1:])) for rng in drawn])
                linear.weight.copy_(start + deviation * torch.as_tensor(deviates))
        linear.bias.requires_grad_(settings.intercept)

    def objective(self, batch: Batch) -> Estimate:
        closed = self.settings.gradient == "closed_form"
        return self._closed(batch, self.settings.curvature_examples) if closed else super().objective(batch)

    def _closed(self, batch: Batch, curved: int | None) -> Estimate:
        """The objective with its derivatives in closed form. curved: number of examples for the curvature."""
        sign, linear, examples = self.direction.sign, self.model.linear, batch.y.shape[1]
        scale, batch = self._scale(examples), batch.shared()
        at = linear.weight.detach().clone(), linear.bias.detach().clone()
        x, y, *counts = batch.x, batch.y, *given(batch.sample_weight)
        found = penalised(self.model.family, *at, x, y, sign * scale, sign * self.decay, *counts)
        if not self.penalised and batch.sample_weight is None and examples == len(self.dataset.y):
            certain = found.value * sign / scale + math.log(2) > 0  # then each example's true class has p > 1/2
            self.finished = self.dataset.classes > 1 and bool(certain.all())
        kept = [] if found.scores is None else [(found.scores, y, *counts)]
        metrics = Lazy(lambda: self._metrics(kept or scored(*at, x, y, *counts), examples))
        gradient = found.weight, found.bias if self.settings.intercept else None
        curvature = functools.partial(self._information, batch, examples, at, found.means, curved)
        if not self.kinked:
            return Estimate(found.value, metrics, gradient, curvature)
        value = found.value - sign * self._absolute()
        return Estimate(value, metrics, gradient, curvature, notes=self._absolute())

    @torch.no_grad()
    def _absolute(self) -> Tensor:
        """The penalty l1 ||w||_1 [R]."""
        weight: Tensor = self.model.linear.weight
        return (torch.as_tensor(self.kink, dtype=weight.dtype) * weight.abs()).sum((1, 2))

    def diagnose(self, update: Update, promised: Tensor) -> Mapping[str, Tensor]:
        """Like `Trainable.diagnose`. The gradient leaves the penalty l1 out, so its change is added to the promise."""
        if self.kinked:
            promised = promised - self.direction.sign * (self._absolute() - update.passes[-1].notes)
        return super().diagnose(update, promised)

    def _information(
        self, batch: Batch, examples: int, at: tuple[Tensor, Tensor], means: Tensor | None, curved: int | None
    ) -> Curvature:
        """The curvature of the objective, over weights [D, K] and intercepts [K]. means: [R, K, B] of this rank's
        examples; None: too many to keep."""
        settings, first = self.settings, ranks.share(examples).start
        every = max(1, examples // (curved or examples))
        some = slice(every * math.ceil(first / every) - first, None, every)
        x, taken = batch.x[:, some], math.ceil(examples / every)
        means = None if means is None else means[:, :, some]
        counts = None if batch.sample_weight is None else batch.sample_weight[:, some]
        scale = self._scale(examples) * examples / taken
        sign = self.direction.opposite.sign  # a log-likelihood curves downwards
        found = Information(self.model.family, x, at, means, sign, scale, self.decay, settings.intercept, counts)
        if self.kinked:
            replicas, _, classes = found.shape
            found.kink = np.zeros((replicas, found.decay.shape[1] + settings.intercept * classes))
            found.kink[:, : found.decay.shape[1]] = np.broadcast_to(self.kink, found.shape).reshape(replicas, -1)
        return found if settings.standardise else found.widened()

    def begin_from(self, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
        """Begin with the same classifier, converted to this run's features, which other examples have standardised."""
        super().begin_from(tensors, description)
        linear, here = self.model.linear, self.dataset.preprocessing
        there = Preprocessing(**description["preprocessing"])

        def moments(one: Preprocessing) -> np.ndarray:
            """[2, D'] mean and deviation; 0 and 1 if nothing is standardised."""
            return np.array([one.mean, one.deviation]) if one.mean else np.array([[0.0], [1.0]])

        (mean, deviation), (now, unit) = moments(there), moments(here)
        shift = torch.as_tensor((now - mean) / deviation).to(linear.weight.dtype)[:, None]
        if not self.settings.intercept and shift.any():
            raise ValueError("without an intercept, its weights cannot be adapted to features with another mean")
        with torch.no_grad():
            linear.bias.add_((linear.weight * shift).sum(1, keepdim=True))
            linear.weight.mul_(torch.as_tensor(unit / deviation).to(linear.weight.dtype)[:, None])

    @torch.no_grad()
    def conclusion(self) -> Sequence[str]:
        """Whether it has converged; without a penalty, which columns others determine and which separate the labels.
        Coefficients are included, in the units of the file: of the first replica, or of all resamples together."""
        curved = ENOUGH // max(1, self.settings.replicas // 10)
        self.concluded = concluded(self, self._closed(self.minibatches.everything(), curved))
        if self.judges:
            judged = self._judgement()
            sentences, findings, documents = self.concluded
            sentences.append(judgement.sentence(judged))
            documents["judgement.md"] = judgement.markdown(judged)
            self.concluded = Conclusion(sentences, findings | {"judgement": judged}, documents)
        return super().conclusion()

    @property
    def judges(self) -> bool:
        """Whether the first replica is judged on the test set."""
        return self.dataset.classes > 1 and len(self.dataset.test_y) > 0 and self.dataset.drawn is None

    @torch.no_grad()
    def _probabilities(self, x: Tensor) -> np.ndarray:
        """Class probabilities [M, K] by the first replica, for examples [M, D]."""
        scores = x.double() @ self.model.linear.weight[0].double() + self.model.linear.bias[0].double()
        scores = torch.cat([torch.zeros_like(scores), scores], 1) if self.dataset.classes == 2 else scores
        return np.asarray(scores.softmax(1).numpy(force=True))

    def _judgement(self) -> dict[str, Any]:
        """The judgement of the first replica on the test set."""
        data = self.dataset
        y, p = data.test_y.long().numpy(force=True), self._probabilities(data.test_x)
        count = np.bincount(data.y.long().numpy(force=True), minlength=data.classes)  # as for `prior_`: each row once
        labels = data.labels or range(data.classes)
        found = judgement.judge(y, p, count / count.sum(), labels)
        if data.test_x.shape[1] == len(data.preprocessing.columns) == 2:
            found["plane"] = judgement.plane(data.test_x, y, labels, data.preprocessing, self._probabilities)
        return found

    def pictures(self) -> Mapping[str, bytes]:
        """Pictures: on the test set calibration, ROC and the boundary of two features; and the coefficients."""
        if not self.judges:
            return {}
        from rlgrad.pages.drawing import png
        from rlgrad.supervised.figures import pictures

        self.conclusion()
        return {f"pictures/{name}": png(figure) for name, figure in pictures(self.concluded.findings).items()}

    def documents(self) -> Mapping[str, str]:
        if self.settings.pictures_every_updates is None:
            return self.concluded.documents
        from rlgrad.pages.drawing import svg_file
        from rlgrad.supervised.figures import pictures

        drawn = pictures(self.concluded.findings)
        return {**self.concluded.documents, **{f"{name}.svg": svg_file(figure) for name, figure in drawn.items()}}
