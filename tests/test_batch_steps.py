"""Whole episodes, as many as it takes to have so many steps in an update."""

from typing import Any

import numpy as np
import pytest
import torch

from rlgrad import UsageError, updates
from rlgrad.config import load_config
from rlgrad.problems.reinforce import Reinforce

from . import environments  # noqa: F401 - registers them

SETTINGS: dict[str, Any] = {
    "problem": "reinforce", "environment": "CartPole-v1", "episodes": 3, "batch_steps": 150, "updates": 2, "replicas": 2,
    "baseline": "critic", "discount": 0.9, "discount_weighting": False, "optimizer": {"name": "Adam", "lr": 0.01},
}  # fmt: skip


def made(**changes: Any) -> Reinforce:
    problem: Reinforce = load_config(SETTINGS | changes).build().problem
    return problem


@pytest.mark.parametrize("simulator", ["auto", "gymnasium", "vector"])
def test_each_replica_has_whole_episodes_and_enough_steps(simulator: str) -> None:
    batch = made(simulator=simulator).sample(0)
    for replica in range(2):
        count, lengths = int(batch.alive[replica].sum()), []
        for slot in range(3):
            alive, over = batch.alive[replica, :, slot], batch.over[replica, :, slot]
            ends = over.nonzero().flatten().tolist()
            assert not alive[ends[-1] + 1 :].any()  # the last one is whole, and nothing follows it
            rows = alive.nonzero().flatten().tolist()
            assert rows[-1] == ends[-1]
            lengths += np.diff([-1, *[rows.index(end) for end in ends]]).tolist()
            assert all(batch.terminated[replica, end, slot] for end in ends)
        assert count == sum(lengths) >= 150
        assert count < 150 + 3 * max(lengths)  # no episode has begun when there were enough
        assert len(lengths) > 3


def test_no_episode_begins_where_there_are_just_enough_steps() -> None:
    told = {"environment": "tests/Countdown-v0", "environment_options": {"fixed": 5}, "episodes": 1, "replicas": 1}
    for steps, played in ((10, 10), (11, 15)):
        assert int(made(**told, batch_steps=steps).sample(0).alive.sum()) == played


def test_the_objective_is_the_mean_discounted_return_of_the_episodes() -> None:
    problem = made()
    batch = problem.sample(0)
    estimate, expected = problem.objective(batch), []
    for replica in range(2):
        returns, length, total, weight = [], [], 0.0, 1.0
        for slot in range(3):
            for t in range(batch.alive.shape[1]):
                if not batch.alive[replica, t, slot]:
                    continue
                total, weight = total + weight * float(batch.reward[replica, t, slot]), weight * 0.9
                if batch.over[replica, t, slot]:
                    returns.append(total)
                    length.append(np.log(weight) / np.log(0.9))
                    total, weight = 0.0, 1.0
        expected.append(np.mean(returns))
        assert estimate.metrics["episode/length"][replica] == pytest.approx(np.mean(length))
        assert estimate.metrics["episode/return"][replica] == pytest.approx(np.mean(length))
    np.testing.assert_allclose(estimate.value.numpy(), expected, rtol=1e-5)


def test_a_replica_plays_as_it_would_alone() -> None:
    together = made(seed=5).sample(3)
    for replica in range(2):
        alone = made(seed=5 + replica, replicas=1).sample(3)
        rows = alone.alive.shape[1]
        assert torch.equal(alone.observation[0], together.observation[replica, :rows])
        assert torch.equal(alone.alive[0], together.alive[replica, :rows])


def test_an_update_is_diagnosed_by_its_surrogate() -> None:
    problem, optimizer, _ = load_config(SETTINGS).build()
    update = next(updates(problem, optimizer))
    found = problem.diagnose(update, torch.zeros(2))
    assert {"surrogate/achieved_change", "policy/kl"} <= set(found)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"baseline": "none"}, "batch_steps: only a critic can estimate the return still to come"),
        ({"segment": 10}, "batch_steps: it is for whole episodes"),
        ({"discount_weighting": True}, "discount_weighting: a slot plays several episodes"),
    ],
)
def test_what_does_not_go_with_it_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        made(**changes)
