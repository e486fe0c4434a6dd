"""Replicas that stop early, by examples that they neither learn from nor are tested on."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

import rlgrad
from rlgrad.cli import main
from rlgrad.loop import Direction
from rlgrad.notation import write
from rlgrad.reports.exporting import model_card
from rlgrad.run import Run, resume, train
from rlgrad.run.observer import Observer, Record
from rlgrad.run.observers.keep import Best
from rlgrad.run.observers.stopping import EarlyStopping
from rlgrad.run.reproduction import reproduce
from rlgrad.run.resuming import recorded_config
from rlgrad.run.weights import read
from tests.run.support import crashing, rows, summary

PATIENCE, EVERY, LENGTH = 3, 2, 60
CONFIG: dict[str, Any] = {  # overfits: as many features as examples, and large steps
    "problem": "logistic",
    "data": "breast_cancer",
    "test_fraction": 0.5,
    "validation_fraction": 0.8,
    "batch_size": 8,
    "l2": 1e-9,
    "updates": LENGTH,
    "replicas": 4,
    "optimizer": {"name": "SGD", "lr": 1.0},
    "evaluation": {"every_updates": EVERY},
}
STOPPED = CONFIG | {"early_stopping": {"patience": PATIENCE}}


def ends(values: list[float]) -> tuple[int, int]:
    """By hand: at which evaluation a replica stops, and which one was its best."""
    best = 0
    for place, value in enumerate(values):
        if value < values[best]:
            best = place
        elif place - best == PATIENCE:
            return place, best
    return len(values) - 1, best


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(STOPPED, out=tmp_path_factory.mktemp("runs") / "stopped")


def test_each_replica_ends_with_its_best_weights_as_if_it_were_alone(run: Run, tmp_path: Path) -> None:
    whole = train(CONFIG, out=tmp_path / "whole", keep={"every_updates": EVERY}).directory
    seen = [row["evaluation/validation_log_loss"] for row in rows(whole) if "evaluation/validation_log_loss" in row]
    each = [ends([values[k] for values in seen]) for k in range(4)]
    assert len({stop for stop, _ in each}) > 1, "they stop at different updates"
    assert run.summary["updates"] == EVERY * (1 + max(stop for stop, _ in each)) < LENGTH
    weights = read(run.directory / "model.safetensors")
    assert weights.update == run.summary["best_update"] == [EVERY * (1 + best) for _, best in each]
    for k, update in enumerate(run.summary["best_update"]):
        kept = load_file(whole / "kept" / f"{update}.safetensors")
        assert all(torch.equal(tensor[k], kept[name][k]) for name, tensor in weights.tensors.items())
    last = run.summary["evaluation.validation_log_loss"]["per_replica"]  # what is reported is of these weights
    assert last == [seen[best][k] for k, (_, best) in enumerate(each)]
    assert f"stopped early at updates {EVERY * (1 + min(s for s, _ in each))} to" in run.summary["conclusion"][0]


def test_the_model_card_of_a_run_that_stopped_early_has_its_accuracy(run: Run) -> None:
    config = recorded_config(run.directory, False)
    for replica in (0, 3):
        card = model_card(rlgrad.load(run.directory, replica=replica), config, run.directory, "model.onnx", ["class"])
        value = summary(run.directory)["evaluation.accuracy"]["per_replica"][replica]
        assert f"Held-out accuracy: {value:.4g}" in card


def test_it_goes_on_to_the_same_bits_after_a_crash_and_again_from_the_start(run: Run, tmp_path: Path) -> None:
    whole = run.directory
    broken, some = tmp_path / "broken", summary(whole)["updates"] - 3
    crashing(some, lambda: train(STOPPED, out=broken, checkpoint={"every_updates": 4}))
    stopped = resume(broken)
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert stopped.summary["conclusion"][0] == summary(whole)["conclusion"][0]
    assert reproduce(whole, out=tmp_path / "again").identical


def test_a_run_that_was_not_stopped_is_lengthened_from_its_last_weights(run: Run, tmp_path: Path) -> None:
    short = train(STOPPED | {"updates": 2 * EVERY}, out=tmp_path / "run")
    assert short.summary["conclusion"][0].startswith("no replica stopped early; the weights are those of update")
    longer = resume(short.directory, extend_to=LENGTH).directory
    assert (longer / "model.safetensors").read_bytes() == (run.directory / "model.safetensors").read_bytes()


@pytest.mark.parametrize("patience", [1, 2])
@pytest.mark.parametrize("length", [12, 13, 27, 35, 46])
def test_the_evaluation_at_an_old_end_does_not_count(tmp_path: Path, patience: int, length: int) -> None:
    """The longer run has none there. Its schedule watches all replicas, also those that have stopped."""
    config = STOPPED | {
        "updates": 80, "replicas": 3, "seed": 3, "early_stopping": {"patience": patience},
        "evaluation": {"every_updates": 6}, "schedule": {"name": "ReduceLROnPlateau", "patience": 1, "factor": 0.9},
    }  # fmt: skip
    whole = train(config, out=tmp_path / "whole")
    part = train(config | {"updates": length}, out=tmp_path / "part")
    longer = resume(part.directory, extend_to=80)
    assert longer.summary["updates"] == whole.summary["updates"]
    assert longer.summary["best_update"] == whole.summary["best_update"]
    assert longer.summary["conclusion"] == whole.summary["conclusion"]
    a, b = ([{k: v for k, v in row.items() if not k.startswith("evaluation/")} for row in rows(each.directory)]
            for each in (whole, longer))  # fmt: skip
    assert a == b
    assert (part.directory / "model.safetensors").read_bytes() == (whole.directory / "model.safetensors").read_bytes()


def test_the_validation_part_is_neither_learned_from_nor_tested_on(tmp_path: Path) -> None:
    """scikit-learn's split, twice: the second one of what the first left to learn from."""
    run = train(STOPPED | {"dtype": "float64", "replicas": 1}, out=tmp_path / "run")
    x, y = load_breast_cancer(return_X_y=True)
    rest, test = train_test_split(np.arange(len(y)), test_size=0.5, random_state=0, stratify=y)
    learned, validation = train_test_split(rest, test_size=0.8, random_state=0, stratify=y[rest])
    model = rlgrad.load(run.directory)
    assert np.allclose(model.preprocessing.mean, x[learned].mean(0))
    for part, name in ((validation, "validation_log_loss"), (test, "log_loss")):
        found = run.summary[f"evaluation.{name}"]["mean"]
        assert found == pytest.approx(log_loss(y[part], model.predict_proba(x[part])), rel=1e-9)


def test_it_is_announced_and_needs_a_validation_part(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(write(STOPPED))
    assert main(["train", "--config", "config.yaml"]) == 0
    said = capsys.readouterr().out
    first = "validation: 228 examples are kept apart; after 3 evaluations in a row without a better log-loss on them a "
    assert f"{first}replica stops, and ends with its best weights" in said
    assert "4 of 4 replicas stopped early at update" in said
    assert main(["train", "--config", "config.yaml", "--validation_fraction", "0"]) == 2
    error = capsys.readouterr().err
    assert "early_stopping: it watches a validation part: set validation_fraction, such as 0.1" in error


def test_a_replica_that_has_stopped_stands_still(tmp_path: Path) -> None:
    """Also in what is logged of it."""
    run = train(STOPPED, out=tmp_path / "run", observers=[watch := Watch()])
    first = min(watch.stopped, key=lambda k: watch.stopped[k])
    after = [row["evaluation/log_loss"][first] for row in rows(run.directory) if "evaluation/log_loss" in row]
    still = after[watch.stopped[first] // EVERY - 1 :]
    assert len(still) > 1
    assert len(set(still)) == 1


class Watch(Observer):
    def seen(self, run: Any, update: Any, record: Any) -> None:
        self.stopped = dict(next(each for each in run.observers if isinstance(each, EarlyStopping)).stopped)


def test_a_replica_without_a_value_so_far_is_better_as_soon_as_it_has_one() -> None:
    """Of three replicas; smaller is better."""
    model = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.zeros(3))})
    problem = SimpleNamespace(judged=("loss", Direction.MINIMIZE), model=model, direction=Direction.MAXIMIZE)
    best = Best()
    for done, values in enumerate([[math.nan, 1.0, 2.0], [5.0, 1.0, math.nan], [6.0, 0.5, 2.0]], 1):
        with torch.no_grad():
            model["w"].fill_(done)
        found = Record({"evaluation/loss": torch.tensor(values)})
        better = best.improved(SimpleNamespace(problem=problem, state=SimpleNamespace(done=done)), found)
        assert better == [[0, 1, 2], [0], [1]][done - 1]
    assert (best.values, best.updates, best.tensors["w"].tolist()) == ([5.0, 0.5, 2.0], [2, 3, 1], [2, 3, 1])
