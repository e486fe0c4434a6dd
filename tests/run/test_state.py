"""How far a run is, who has diverged, and which weights were the best: small parts of it, by hand."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from rlgrad.config import load_config
from rlgrad.errors import RunError
from rlgrad.loop import Direction
from rlgrad.run.checkpoint import CURRENT, PREVIOUS, check_finite, reinstate
from rlgrad.run.divergence import freeze, judge
from rlgrad.run.identity import FREE, differences
from rlgrad.run.observers.keep import Best, Keep
from rlgrad.run.observers.stopping import EarlyStopping
from rlgrad.run.state import State
from rlgrad.run.statistics import summarize
from rlgrad.settings import Cell
from tests.run.support import AGENT


def test_a_replica_set_aside_counts_in_no_cell() -> None:
    state, cell = State(set_aside={3: 1}), Cell({("l2",): 0.1}, range(2, 5))
    assert state.remaining([1.0, 2.0, 3.0, 4.0, 5.0], cell.replicas) == [3.0, 5.0]
    found = state.statistics([1.0, 2.0, 3.0, 4.0, 5.0], True, cell)
    assert (found["mean"], found["per_replica"]) == (4.0, [3.0, None, 5.0])
    state.work = [10.0, 10.0, 20.0, 99.0, 30.0]
    assert state.steps_of(cell.replicas) == 25
    assert state.steps == round(70 / 4)


def test_what_is_not_finite_has_no_statistics() -> None:
    found = summarize([1.0, 1.0, 2.0, math.inf])
    assert (found["mean"], found["iqm"], found["ci95"]) == (None, None, [None, None])


def test_a_replica_is_set_aside_once_and_keeps_what_it_had() -> None:
    nothing = torch.zeros(3)
    values = {"objective/value": torch.tensor([1.0, math.nan, 1.0]), "gradient/norm": nothing, "update/size": nothing}
    aside: dict[int, int] = {}
    assert [sentence.partition(" is not")[0] for sentence in judge(4, values, aside, "set_aside")] == [
        "update 4: objective/value of replica 1"
    ]
    assert judge(5, values, aside, "stop") == []
    assert aside == {1: 4}
    values["gradient/norm"] = torch.tensor([math.inf, 0.0, math.inf])
    with pytest.raises(RunError, match="no other replica is left"):
        judge(6, values, aside, "set_aside")
    parameter = nn.Parameter(torch.tensor([[5.0], [math.nan], [7.0]]))
    freeze([parameter], [torch.tensor([[1.0], [2.0], [3.0]])], aside)
    assert parameter.flatten().tolist() == [5.0, 2.0, 7.0]


def test_a_buffer_may_be_infinite_and_must_be_a_number() -> None:
    model = nn.Module()
    model.register_buffer("most", torch.tensor([math.inf]))
    check_finite(model)
    model.register_buffer("mean", torch.tensor([0.0, math.nan]))
    with pytest.raises(ValueError, match="mean is not a number"):
        check_finite(model)


@pytest.mark.parametrize("direction", Direction)
def test_each_replica_s_best_weights_are_its_own(direction: Direction) -> None:
    """Values of two replicas, the larger the better, or the smaller; one has none at first."""
    model, best = nn.Module(), Best()
    model.register_parameter("w", nn.Parameter(torch.zeros(2, 1)))
    problem, state = SimpleNamespace(judged=("fit", direction), direction=direction, model=model), SimpleNamespace()
    run: Any = SimpleNamespace(problem=problem, state=state)
    for state.done, values in enumerate([[1.0, math.nan], [2.0, 3.0], [1.5, 4.0], [2.0, 3.5]]):
        with torch.no_grad():
            model.w.fill_(float(state.done))
        record: Any = SimpleNamespace(values={"evaluation/fit": direction.sign * torch.tensor(values)})
        best.improved(run, record)
    assert best.updates == [1, 2]
    assert best.tensors["w"].flatten().tolist() == [1.0, 2.0]
    assert best.values == [direction.sign * 2.0, direction.sign * 4.0]
    keep, again = Keep(), Keep()
    keep.best = best
    again.load_state_dict(keep.state_dict())
    assert again.best.improved(run, record) == []


def test_how_long_a_replica_has_waited_is_saved() -> None:
    stopping, again = EarlyStopping(), EarlyStopping()
    assert stopping.state_dict() is None
    stopping.waited, stopping.stopped = [2, 0], {1: 7}
    again.load_state_dict(stopping.state_dict())
    assert (again.waited, again.stopped) == ([2, 0], {1: 7})


def test_the_checkpoint_gone_on_from_takes_the_first_place(tmp_path: Path) -> None:
    (tmp_path / CURRENT).write_text("damaged")
    (tmp_path / PREVIOUS).write_text("whole")
    reinstate(tmp_path, CURRENT)
    assert (tmp_path / PREVIOUS).exists()
    reinstate(tmp_path, PREVIOUS)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(CURRENT, "whole")]


def test_a_length_by_which_other_settings_go_may_not_change() -> None:
    for bonus, said in ({"coefficient": 0.1}, ""), ({"coefficient": 0.1, "final": 0.0}, "updates: 6 -> 7"):
        old, new = (load_config(AGENT | {"entropy_bonus": bonus, "updates": n}).settings for n in (6, 7))
        assert differences(old, new, FREE, length=True) == said
