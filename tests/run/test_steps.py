"""A run that is told in steps."""

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rlgrad import UsageError, follow, train
from rlgrad.config import load_config
from rlgrad.optimizers.schedules import advance
from rlgrad.reports.loading import load
from rlgrad.run.resuming import resume
from tests.run.support import equal

SETTINGS: dict[str, Any] = {
    "problem": "reinforce", "environment": "CartPole-v1", "episodes": 4, "steps": 1000, "replicas": 2,
    "optimizer": {"name": "SGD", "lr": 0.1}, "evaluation": {"every_steps": 300, "episodes": 2},
    "schedule": {"name": "LinearLR", "start_factor": 1.0, "end_factor": 0.0, "total_iters": 1000},
    "entropy_bonus": {"coefficient": 1.0, "final": 0.0},
}  # fmt: skip


def rows(path: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_it_ends_with_the_first_update_that_gets_there(tmp_path) -> None:
    run = train(SETTINGS | {"keep": {"every_steps": 400}}, out=tmp_path / "run")
    record, evaluated, kept = rows(tmp_path / "run"), [], []
    before = 0
    for row in record:
        now = row["step"]
        # what each update used hangs on how far the run was before it
        assert row["update/learning_rate"] == pytest.approx(0.1 * (1 - before / 1000))
        evaluated += [row["update"]] if now // 300 > before // 300 or now >= 1000 else []
        kept += [row["update"]] if now // 400 > before // 400 else []
        before = now
    assert record[-2]["step"] < 1000 <= record[-1]["step"]
    assert [row["update"] for row in record if "evaluation/return" in row] == evaluated
    assert sorted(int(file.stem) for file in (tmp_path / "run" / "kept").iterdir()) == kept
    assert run.summary["updates"] == len(record)
    assert load(tmp_path / "run") is not None


def test_an_entropy_bonus_follows_the_budget() -> None:
    problem = load_config(SETTINGS).build().problem
    batch = problem.sample(0)
    gradients = []
    for progress in (0.0, 0.5, 1.0):
        problem.progress = progress
        gradients.append(problem.objective(batch).gradient[0])
    torch.testing.assert_close(gradients[1], (gradients[0] + gradients[2]) / 2)
    assert (gradients[0] != gradients[2]).any()


def test_it_is_resumed_to_the_same_bits(tmp_path) -> None:
    whole = train(SETTINGS, out=tmp_path / "whole")
    short = {"entropy_bonus": None, "schedule": None}
    train(SETTINGS | short, out=tmp_path / "long")
    train(SETTINGS | short | {"steps": 500}, out=tmp_path / "half")
    resumed = resume(tmp_path / "half", extend_to=1000)
    same = [row["objective/value"] for row in rows(tmp_path / "long")]
    assert [row["objective/value"] for row in rows(tmp_path / "half")] == same
    assert resumed.summary["env_steps"] >= 1000
    with pytest.raises(UsageError, match="has 1000 steps already"):
        resume(tmp_path / "half", extend_to=900)
    with pytest.raises(UsageError, match=r"cannot be lengthened: its entropy_bonus\.final"):
        resume(tmp_path / "whole", extend_to=2000)
    assert whole.summary["status"] == "completed"


@pytest.mark.parametrize("by", ["settings", "problem"])
def test_a_schedule_goes_on_from_where_the_last_update_ended(tmp_path, by: str) -> None:
    """That is beyond the steps of the shorter run."""
    settings = SETTINGS | {"entropy_bonus": None}
    if by == "settings":
        train(settings | {"steps": 800}, out=tmp_path / "whole")
        short = train(settings | {"steps": 300}, out=tmp_path / "part")
        resume(tmp_path / "part", extend_to=800)
    else:

        def run(name: str, steps: int, **how: Any) -> Any:
            built = load_config(settings).build()
            with_it = {"schedule": built.schedule, "steps": steps, "evaluation": {"every_steps": 300}}
            return follow(built.problem, built.optimizer, out=tmp_path / name, **with_it, **how)

        run("whole", 800)
        short = run("part", 300)
        run("part", 800, resume=True)
    assert short.summary["env_steps"] > 300
    assert [plain(row) for row in rows(tmp_path / "part")] == [plain(row) for row in rows(tmp_path / "whole")]
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("part", "whole"))
    assert equal(a, b)


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its evaluation: the shorter run has one at its end."""
    return {key: value for key, value in row.items() if not key.startswith("evaluation/")}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"updates": 10}, "the length of a run is given in `updates` or in `steps`: not both"),
        ({"steps": None}, "the length of a run is given in `updates` or in `steps`: set one"),
        ({"schedule": {"name": "SequentialLR", "milestones": [5], "schedulers": [{"name": "ConstantLR"}] * 2}}, "step"),
        (
            {"schedule": {"name": "OneCycleLR", "max_lr": 1.0, "total_steps": 900}},
            "ends after 900 steps, before the run",
        ),
    ],
)
def test_what_contradicts_it_is_refused(changes: dict[str, Any], says: str) -> None:
    settings = SETTINGS | changes
    if settings["schedule"]["name"] == "OneCycleLR":
        settings["optimizer"] = {"name": "SGD"}
    with pytest.raises(UsageError, match=says):
        load_config(settings).build()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("LinearLR", {"total_iters": 40}), ("ConstantLR", {"total_iters": 20}), ("StepLR", {"step_size": 7}),
        ("ExponentialLR", {"gamma": 0.9}), ("CosineAnnealingLR", {"T_max": 50}), ("MultiStepLR", {"milestones": [9, 30]}),
        ("PolynomialLR", {"total_iters": 45}), ("OneCycleLR", {"max_lr": 1.0, "total_steps": 60}),
        ("CyclicLR", {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 10}), ("CosineAnnealingWarmRestarts", {"T_0": 11}),
        ("Hyperbolic", {"epoch_length": 12}),
    ],
)  # fmt: skip
def test_moving_on_a_schedule_is_taking_its_steps(name: str, arguments: dict[str, Any]) -> None:
    from rlgrad.optimizers import schedules

    found = []
    for jumps in (False, True):
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5, momentum=0.9)
        schedule = getattr(schedules, name)(optimizer, **arguments)
        optimizer.step()
        rates = []
        for place in range(1, 51):
            if not jumps:
                schedule.step()
            elif place in (3, 10, 33, 50):
                advance(schedule, None, place)
            if place in (3, 10, 33, 50):
                rates.append(optimizer.param_groups[0]["lr"])
        found.append(rates)
    assert found[0] == pytest.approx(found[1])
