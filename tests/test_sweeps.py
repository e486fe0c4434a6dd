"""Sweeps: the values of a number train side by side, and each as it would alone."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import rlgrad
from rlgrad.config import Config, load_config
from rlgrad.errors import UsageError
from rlgrad.problems import reinforce
from rlgrad.run.following import Following

AGENT: dict[str, Any] = {
    "problem": "reinforce", "environment": "CartPole-v1", "episodes": 3, "policy": {"hidden": [4]}, "updates": 3,
    "optimizer": {"name": "Adam", "lr": 0.05}, "evaluation": {"episodes": 2}, "seed": 3, "replicas": 2,
    "diagnose_every_updates": 2,
}  # fmt: skip
CRITIC = {"baseline": "critic", "discount_weighting": False, "discount": 0.99, "time_limit": "bootstrap"}
PLATEAU = {"schedule": {"name": "ReduceLROnPlateau", "patience": 0, "threshold": 0.3}, "updates": 5}
PPO = {"problem": "ppo", "epochs": 2, "minibatches": 2}
LOGISTIC: dict[str, Any] = {
    "problem": "logistic", "data": "iris", "optimizer": {"name": "SGD", "lr": 0.5}, "updates": 3, "seed": 3,
    "replicas": 2, "initial_deviation": 1.0,
}  # fmt: skip
BOWL = {"problem": "surface", "function": "x**2 + y**4", "box": {"x": [-1, 1], "y": [-1, 1]}, "direction": "minimize"}
BOWL |= {"optimizer": {"name": "SGD", "lr": 0.1}, "updates": 5, "replicas": 3}


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def trained(config: Config) -> tuple[list[torch.Tensor], Any, list[torch.Tensor]]:
    """Initial parameters, first data and trained parameters."""
    built = config.build()
    parameters = list(built.problem.model.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    first = built.problem.sample(0) if config.settings.problem != "surface" else None
    built.problem.close()
    built = config.build()
    Following(config.settings, *built, [], None)()
    built.problem.close()
    return before, first, [parameter.detach() for parameter in built.problem.model.parameters()]


CASES: dict[str, tuple[dict[str, Any], dict[str, list[float]]]] = {
    "rate and discount": (AGENT | {"schedule": {"name": "LinearLR", "end_factor": 0.1, "total_iters": 3}},
                          {"optimizer.lr": [0.01, 0.1], "discount": [0.9, 1.0]}),
    "entropy": (AGENT | {"entropy_bonus": {"coefficient": 0.1}},
                {"entropy_bonus.coefficient": [0.0, 0.5], "entropy_bonus.final": [0.0, 0.2]}),
    "clipped gradient": (AGENT, {"max_gradient_norm": [0.1, 1.0]}),
    "decay of weights and moments": (AGENT | {"optimizer": {"name": "AdamW", "lr": 0.05, "betas": [0.9, 0.999]}},
                                     {"optimizer.weight_decay": [0.0, 0.3], "optimizer.betas.0": [0.5, 0.9]}),
    "radius and damping": (AGENT | {"optimizer": {"name": "NaturalGradient", "kl": 0.01, "line_search": True}},
                           {"optimizer.kl": [0.001, 0.05], "optimizer.damping": [0.01, 0.5]}),
    "a schedule that watches": (LOGISTIC | PLATEAU, {"optimizer.lr": [2.0, 0.01]}),
    "and each part of a model": (AGENT | CRITIC | PLATEAU, {"optimizer.lr": [0.01, 0.1], "critic.learning_rate": [0.1, 1.0]}),
    "a line search": (AGENT | {"optimizer": {"name": "LBFGS", "line_search_fn": None, "max_iter": 2}},
                      {"optimizer.lr": [0.01, 0.1]}),
    "lambda and the critic's rate": (AGENT | CRITIC, {"gae_lambda": [0.9, 1.0], "critic.learning_rate": [0.01, 0.1]}),
    "the critic's own optimizer": (AGENT | CRITIC | {"critic": {"optimizer": {"name": "Adam", "lr": 0.1}, "epochs": 2}},
                                   {"optimizer.lr": [0.01, 0.1], "critic.optimizer.lr": [0.001, 0.1]}),
    "a critic's line": (AGENT | CRITIC | {"critic": {"optimizer": {"name": "LBFGS", "max_iter": 2}, "epochs": 2}},
                        {"optimizer.lr": [0.01, 0.1], "critic.optimizer.lr": [0.01, 0.1]}),
    "segments": (AGENT | CRITIC | {"segment": 40}, {"discount": [0.9, 0.99], "optimizer.lr": [0.01, 0.1]}),
    "rewards": (AGENT | CRITIC, {"reward_scale": [0.1, 3.0]}),
    "proximal": (AGENT | PPO, {"clip": [0.1, 0.3], "optimizer.lr": [0.01, 0.1]}),
    "proximal, with rest": (AGENT | PPO | {"optimizer": {"name": "SGD", "lr": 0.5}}, {"kl_stop": [0.001, 0.1]}),
    "first policies": (AGENT | {"environment": "Pendulum-v1", "episode_limit": 200, "updates": 1},
                       {"policy.initial_gain": [0.01, 1.0], "policy.initial_deviation": [0.5, 1.0]}),
    "penalty": (LOGISTIC, {"l2": [0.0, 0.3], "initial_deviation": [0.5, 1.0], "optimizer.lr": [0.1, 0.5]}),
    "Newton": (LOGISTIC | {"optimizer": {"name": "Newton", "max_iter": 2}}, {"l2": [0.01, 0.3],
                                                                             "optimizer.lr": [0.5, 1.0]}),
    "minibatches": (LOGISTIC | {"batch_size": 32, "gradient": "autograd"}, {"l2": [0.01, 0.3]}),
    "points": (BOWL, {"optimizer.lr": [0.01, 0.1], "optimizer.momentum": [0.0, 0.9]}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_value_trains_as_it_would_alone(name: str) -> None:
    content, swept = CASES[name]
    config = load_config(content, {key: {"sweep": values} for key, values in swept.items()})
    before, first, after = trained(config)
    cells = list(zip(config.settings.cells, config.settings.each(), strict=True))
    assert len(cells) == 2 ** len(swept) or len(cells) == 8
    for cell, alone in (cells[1], cells[-2]):
        own = slice(cell.replicas.start, cell.replicas.stop)
        was, drawn, now = trained(config.with_settings(alone))
        for mine, theirs in zip(before, was, strict=True):
            assert torch.equal(mine[own], theirs)
        for mine, theirs in zip(first or (), drawn or (), strict=True):
            if isinstance(theirs, torch.Tensor) and theirs.ndim:
                rows = [slice(0, end) for end in theirs.shape[1:]]  # of those that play longer there are more
                assert torch.equal(mine[(own, *rows)], theirs)
        for mine, theirs, at in zip(after, now, before, strict=True):
            torch.testing.assert_close(mine[own], theirs, rtol=1e-10, atol=1e-10)
            assert not torch.equal(mine[own], at[own]) or name == "segments"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "whole numbers": ({"episodes": {"sweep": [2, 4]}}, "episodes: all replicas of a run share it"),
    "words": ({"baseline": {"sweep": ["none", "batch_mean"]}}, "baseline: all replicas of a run share it"),
    "what an environment is told": ({"environment_options": {"gravity": {"sweep": [1, 2]}}},
                                    "environment_options.gravity: all replicas of a run share it"),
    "a schedule": ({"schedule": {"name": "LinearLR", "end_factor": {"sweep": [0.1, 0.2]}}},
                   "schedule.end_factor: all replicas of a run share it"),
    "what shapes the computation": ({"optimizer": {"name": "NaturalGradient", "iterations": {"sweep": [3, 5]}}},
                                    "optimizer.iterations: all replicas of a run share it"),
    "what is none": ({"optimizer": {"name": "NaturalGradient", "kl": {"sweep": [0.1, None]}}}, "one or more numbers"),
    "a deviation that the network gives": ({"environment": "Pendulum-v1", "policy": {"deviation": "state_dependent",
        "initial_deviation": {"sweep": [0.5, 1.0]}}}, "policy.initial_deviation: it cannot be swept with deviation: state_d"),
    "what other weights replace": ({"initial": "elsewhere", "policy": {"initial_gain": {"sweep": [0.5, 1.0]}}},
                                   "policy.initial_gain: a sweep of it has no effect"),
    "nothing": ({"optimizer": {"name": "SGD", "lr": {"sweep": []}}}, "one or more numbers"),
    "the same twice": ({"discount": {"sweep": [0.9, 0.9]}}, "each value may appear only once"),
    "out of bounds": ({"discount": {"sweep": [0.9, 2]}}, "less than or equal to 1"),
    "out of an optimizer's bounds": ({"optimizer": {"name": "SGD", "lr": {"sweep": [0.1, -1]}}}, "not be negative"),
    "a single value that does not go with the rest": ({"discount": {"sweep": [0.9, 1]}, "baseline": "critic",
                                                       "batch_steps": 100}, "discount_weighting"),
    "too many": ({"discount": {"sweep": [0.9, 0.8]}, "replicas": 60_000}, "more than 100000"),
    "a schedule that watches": ({"discount": {"sweep": [0.9, 0.8]}, "schedule": {"name": "ReduceLROnPlateau"}},
                                "some share a learning rate here: sweep only optimizer.lr"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_swept_is_refused_in_a_sentence(name: str) -> None:
    more, said = REFUSED[name]
    with pytest.raises(UsageError, match=said):
        load_config(AGENT | more).build()


def test_a_problem_that_knows_nothing_of_sweeps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(AGENT, {"discount": {"sweep": [0.9, 1.0]}})
    monkeypatch.setattr(reinforce.Settings, "build", lambda self: reinforce.Reinforce(self.each()[0]))
    with pytest.raises(UsageError, match="discount: its model has 2 replicas, but the sweep needs 4"):
        config.build()


def test_an_optimizer_made_in_python_takes_a_rate_for_each_replica() -> None:
    problem = load_config(BOWL).build().problem
    optimizer = rlgrad.make_optimizer(problem, "SGD", lr=torch.tensor([0.1, 0.1, 0.0]))
    start = problem.model.point.detach().clone()
    next(rlgrad.updates(problem, optimizer))
    expected = start - torch.tensor([0.1, 0.1, 0.0])[:, None, None] * torch.stack(
        [2 * start[..., 0], 4 * start[..., 1] ** 3], 2
    )
    torch.testing.assert_close(problem.model.point.detach(), expected)


def test_the_seeds_of_each_value_are_those_of_a_run_alone() -> None:
    settings = load_config(AGENT, {"discount": {"sweep": [0.9, 1.0]}, "optimizer.lr": {"sweep": [1, 2, 3]}}).settings
    assert settings.seeds == (3, 4) * 6
    assert [cell.name for cell in settings.cells][:3] == [
        "optimizer.lr=1, discount=0.9", "optimizer.lr=1, discount=1", "optimizer.lr=2, discount=0.9"
    ]  # fmt: skip
    alone = settings.alone(5)
    assert (alone.seed, alone.replicas, alone.discount, alone.optimizer.arguments) == (4, 1, 0.9, {"lr": 2})
    spread = settings.spread()
    assert (spread.replicas, spread.seeds) == (12, settings.seeds)
    assert spread.discount.tolist() == [0.9, 0.9, 1.0, 1.0] * 3
