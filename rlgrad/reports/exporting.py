"""Writes a trained policy or classifier as ONNX, which runs without torch and rlgrad, and its model card."""

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

import rlgrad
from rlgrad import files
from rlgrad.agents.policies import BernoulliPolicy, CategoricalPolicy, GaussianPolicy, MultiCategoricalPolicy
from rlgrad.agents.trained import TrainedPolicy
from rlgrad.config import Config
from rlgrad.errors import UsageError, text_of
from rlgrad.reports.loading import held_out, stage
from rlgrad.run import weights
from rlgrad.supervised.trained import TrainedClassifier, TrainedRegression

FLATTEN = "gymnasium.spaces.flatten"


class PolicyGraph(nn.Module):
    """observation [N, *O], as the network's input -> the greedy action [N, *A], in the environment's form; and the
    probabilities of the choices [N, K], or mean and deviation of a Box's elements before scaling and clipping."""

    def __init__(self, trained: TrainedPolicy):
        super().__init__()
        self.policy: Any = trained.policy
        self.shape, self.dtype = trained.action_space.shape or (), getattr(torch, str(trained.action_space.dtype))
        self.takes, box = "observation", isinstance(self.policy, GaussianPolicy)
        self.gives = ("action", "mean", "deviation") if box else ("action", "probabilities")

    def forward(self, observation: Tensor) -> tuple[Tensor, ...]:
        policy, found = self.policy, self.policy(observation[None])
        answers: tuple[Tensor, ...]
        match policy:
            case CategoricalPolicy():
                action, answers = found.logits[0].argmax(-1) + policy.start, (found.logits[0].exp(),)
            case MultiCategoricalPolicy():
                chosen = torch.stack([each.logits[0].argmax(-1) for each in found.each], -1)
                action = chosen.reshape(-1, *self.shape) + torch.as_tensor(policy.start)
                answers = (torch.cat([each.logits[0].exp() for each in found.each], -1),)
            case BernoulliPolicy():
                action, answers = (found.logits[0] > 0).reshape(-1, *self.shape), (found.logits[0].sigmoid(),)
            case _:
                answers = found.mean[0], found.log_deviation[0].exp()
                unit = (answers[0].tanh() if policy.squash else answers[0]).double()
                chosen = torch.as_tensor(policy.centre) + torch.as_tensor(policy.reach) * unit
                place = torch.eye(policy.free.size).double()[policy.free.flatten()]  # [F, D]
                scaled = (chosen @ place).reshape(-1, *self.shape)  # the others have their only value from the bounds
                action = scaled.clip(torch.as_tensor(policy.low).double(), torch.as_tensor(policy.high).double())
        return action.to(self.dtype), *answers


class ClassifierGraph(nn.Module):
    """features [N, D], as in the source, NaN for a missing value -> the number of the class [N], and the probabilities
    [N, K]."""

    takes, gives = "features", ("class", "probabilities")

    def __init__(self, trained: TrainedClassifier):
        super().__init__()
        self.trained, self.model, done = trained, trained.model, trained.preprocessing
        self.done, self.fill = done, torch.tensor(done.median or [0.0] * len(done.features), dtype=torch.float64)
        self.indicated = torch.tensor([k for k, shown in enumerate(done.indicated) if shown], dtype=torch.long)
        self.mean, self.deviation = (torch.tensor(x, dtype=torch.float64) for x in (done.mean, done.deviation))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = features
        missing = x.isnan()
        if self.done.missing_values in ("zero", "median_and_indicator"):
            x = torch.where(missing, self.fill, x)
        parts = [
            x[:, [k]] if words is None else (x[:, [k]] == torch.arange(1, len(words))).to(x.dtype)
            for k, (_, words, _) in enumerate(self.done.source)
        ]
        if len(self.indicated) or self.done.categories:
            x = torch.cat([*parts, missing[:, self.indicated].to(x.dtype)], 1)
        if len(self.mean):
            x = (x - self.mean) / self.deviation
        found = self.trained.probabilities(x)
        return found.argmax(1), found


def export(model: TrainedPolicy | TrainedClassifier, config: Config, run: Path, to: Path) -> Path:
    """Write the model, for any batch size, and a README.md beside it. Returns the README's path. Raises UsageError and
    OSError."""
    graph: PolicyGraph | ClassifierGraph
    if isinstance(model, TrainedPolicy):
        seen = torch.zeros(2, *model.reader.shape, dtype=getattr(torch, model.precision))
        graph, first = PolicyGraph(model), seen
    elif isinstance(model, TrainedRegression):
        raise UsageError("a regression cannot be exported yet: rlgrad.load(RUN).predict(table) uses it from Python")
    elif model.preprocessing.formula:
        raise UsageError("a formula cannot be exported yet: rlgrad.load(RUN).predict(table) uses it from Python")
    else:
        graph, first = ClassifierGraph(model), torch.zeros(2, len(model.features), dtype=torch.float64)
    card = to.parent / "README.md"
    if card.exists() and "library_name: rlgrad" not in card.read_text(encoding="utf-8", errors="replace"):
        raise UsageError(f"{card} exists and is not a model card: write the model into a folder of its own")
    content = onnx(graph.eval(), first, model)
    to.parent.mkdir(parents=True, exist_ok=True)
    files.write(to, content)
    files.write(card, model_card(model, config, run, to.name, graph.gives))
    return card


def onnx(graph: Any, first: Tensor, model: Any) -> bytes:
    """The graph as ONNX. Raises UsageError if the extra is not installed or ONNX cannot express the network."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    names: dict[str, Any] = {"input_names": [graph.takes], "output_names": list(graph.gives)}
    batch = ({0: torch.export.Dim("batch")},)
    try:
        with warnings.catch_warnings(action="ignore"):
            program: Any = torch.onnx.export(graph, (first,), dynamo=True, dynamic_shapes=batch, verbose=False, **names)
    except ImportError as error:
        raise UsageError(f"{error.name or error} is not installed: pip install 'rlgrad[export]'") from error
    except Exception as error:  # a user's own network can make the exporter raise anything
        reason = text_of(error)
        raise UsageError(f"this model cannot be written as ONNX: {type(error).__name__}: {reason}") from error
    made = program.model_proto
    if not made.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise UsageError("this model cannot be written for any batch size: does its network use len(x)? use x.shape[0]")
    form = json.dumps(model.description()["form"])
    for name, text in {"rlgrad": rlgrad.__version__, "origin": model.origin, "form": form}.items():
        made.metadata_props.add(key=name, value=text)
    serialized: bytes = made.SerializeToString()
    return serialized


def model_card(
    model: TrainedPolicy | TrainedClassifier, config: Config, run: Path, name: str, outputs: Sequence[str]
) -> str:
    """The text of README.md: front matter for model hubs, the model's origin, quality, inputs, outputs and usage."""
    settings: Any = config.settings
    gives = " and ".join(f"`{output}`" for output in outputs)
    if isinstance(model, TrainedPolicy):
        on, task, metrics = settings.environment, "reinforcement-learning", {"return": "mean_reward"}
        shape, held, options = list(model.reader.shape), settings.action_repeat, settings.environment_options
        flat = f"{FLATTEN}(environment.observation_space, observation)", f"as `{FLATTEN}` gives it"
        seen, form = flat if len(shape) == 1 else ("observation", "the picture")
        takes = f"`observation` {shape}, {form}"
        takes += "; everything in one row, with the action mask at its end" if model.settings.mask else ""
        gives += f". The action is the most probable one, of {model.action_space}"
        gives += f"; hold it for {held} steps of the environment" if held > 1 else ""
        made = f'"{on}"' + f", **{options}" * bool(options)
        usage = template("card_policy.py.txt").format(name=name, made=made, seen=seen, precision=model.precision)
    else:
        on, task, metrics = Path(settings.data).name, "tabular-classification", {"accuracy": "accuracy"}
        takes = f"`features` in float64, as in the source: {', '.join(model.features)}"
        for feature, known in model.preprocessing.categories.items():
            takes += f". {feature} is the number, from 0, of its category in {known}, and NaN for any other"
        gives += f". Class k stands for the label k of {model.classes_.tolist()}, from 0"
        if model.preprocessing.missing_values == "drop":
            gives += (
                ". A row with a missing value has no class: its probabilities are NaN, and its `class` means nothing"
            )
        usage = template("card_classifier.py.txt").format(name=name, count=len(model.features))
    rows, results = quality(model, settings, run, metrics)
    result = {"task": {"type": task}, "dataset": {"name": on, "type": on}, "metrics": results}
    front = {
        "library_name": "rlgrad", "pipeline_tag": task, "tags": [task, on, "onnx"],
        "model-index": [{"name": run.resolve().name, "results": [result] if results else []}],
    }  # fmt: skip
    words = {"on": on, "origin": model.origin, "version": rlgrad.__version__, "table": "\n".join(rows)}
    words["config"] = without_folders(settings.model_dump(mode="json", exclude_defaults=True))
    words["front"] = yaml.safe_dump(front, sort_keys=False)
    return template("card.md").format(takes=takes, gives=gives, usage=usage, **words)


def quality(model: Any, settings: Any, run: Path, metrics: dict[str, str]) -> tuple[list[str], list[dict[str, Any]]]:
    """The results of the run for a model's card: as sentences, and as entries of the front matter. metrics: the kind of
    each metric there, by its name."""
    summary, replica = files.read_json(run / "summary.json"), int(model.origin.split()[1])
    rows, results = [], []
    last = stage(run, weights.read(weights.where(run, None)), replica)  # the summary has the results of these weights
    for key, kind in metrics.items() if last in model.origin else ():
        if found := summary.get(f"evaluation.{key}"):
            value = found["per_replica"][replica]
            apart = held_out(settings.model_dump(), key)
            what = f"Held-out {key}" if apart else f"{key.capitalize()} on the training examples"
            rows.append(f"{what}: {value:.4g}; the mean of all replicas is {found['mean']:.4g}.")
            results.append({"type": kind, "name": key if apart else what, "value": value})
    return rows, results


def without_folders(settings: dict[str, Any]) -> str:
    """The settings as YAML, with only the names of files: a card is for others, who have other folders."""
    for key, value in settings.items():
        if isinstance(value, str) and Path(value).is_absolute():
            settings[key] = Path(value).name
    return yaml.safe_dump(settings, sort_keys=False)


def template(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
