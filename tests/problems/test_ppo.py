"""PPO, against the actor and critic that it derives from, by hand, and by finite differences."""

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch

import rlgrad
from rlgrad import UsageError, train, updates
from rlgrad.config import load_config
from rlgrad.loop import Evaluation, differentiate, make_optimizer
from rlgrad.problems.ppo import PPO, clipped
from rlgrad.problems.reinforce import Reinforce
from rlgrad.run.resuming import resume
from rlgrad.testing import check_problem
from tests.run.support import assert_same

SETTINGS: dict[str, Any] = {
    "problem": "ppo", "environment": "CartPole-v1", "segment": 32, "episodes": 4, "replicas": 2, "updates": 4,
    "policy": {"hidden": [8], "initial_gain": 1.0}, "critic": {"hidden": [8]}, "epochs": 3, "minibatches": 2,
    "optimizer": {"name": "Adam", "lr": 0.01}, "evaluation": {"episodes": 2, "every_updates": 2},
}  # fmt: skip


def made(**changes: Any) -> PPO:
    problem: PPO = load_config(SETTINGS | changes).build().problem
    return problem


def gradient(problem: Reinforce, batch: Any) -> list[torch.Tensor]:
    differentiate(problem.objective(batch), list(problem.model.parameters()))
    return [parameter.grad for parameter in problem.model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("changes", [{}, {"normalise_returns": True}, {"environment": "Pendulum-v1"}])
def test_the_first_pass_has_the_gradient_of_the_actor_and_critic(changes: dict[str, Any]) -> None:
    ppo = made(minibatches=1, epochs=2, **changes)
    shared = {key: value for key, value in (SETTINGS | changes).items() if key not in ("epochs", "minibatches")}
    names = ("baseline", "discount", "discount_weighting", "gae_lambda", "time_limit", "standardise_advantages")
    shared |= {"problem": "reinforce"} | {name: getattr(ppo.settings, name) for name in names}
    a2c = load_config(shared).build().problem
    assert isinstance(a2c, Reinforce)
    for step in range(2):  # the second with a unit of returns, and in episodes that go on
        played = [problem.sample(step) for problem in (ppo, a2c)]
        assert torch.equal(played[0].observation, played[1].observation)
        batch = next(iter(ppo.passes(played[0])))
        expected, found = gradient(a2c, played[1]), gradient(ppo, batch)
        assert len(found) == len(expected) == len(list(ppo.model.parameters()))
        for a, b in zip(found, expected, strict=True):
            assert a.abs().max() > 1e-4
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.5, 2.0, 2.4), (1.1, 2.0, 2.2), (0.5, 2.0, 1.0),  # a good action counts up to 1.2, and has no floor
        (0.5, -2.0, -1.6), (0.9, -2.0, -1.8), (1.5, -2.0, -3.0),  # a bad one down to 0.8, and has no ceiling
    ],
)  # fmt: skip
def test_the_clip_by_hand(ratio: float, advantage: float, expected: float) -> None:
    r = torch.tensor([ratio], requires_grad=True)
    found = clipped(r, torch.tensor([advantage]), 0.2)
    assert found.item() == pytest.approx(expected)
    slope = torch.autograd.grad(found, r)[0].item()
    assert slope == pytest.approx(0.0 if expected in (2.4, -1.6) else advantage)


def test_the_gradient_is_that_of_the_surrogate_by_finite_differences(float64: None) -> None:
    problem = made(entropy_bonus={"coefficient": 0.1}, clip=0.05)
    batches = list(itertools.islice(problem.passes(problem.sample(0)), 2))
    parameters = list(problem.model.policy.parameters())
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for parameter in parameters:
            parameter += torch.from_numpy(rng.normal(size=parameter.shape)) * 0.1
    problem.objective(batches[0])  # which says the return, not the surrogate
    stated = problem.objective(batches[1]).gradient
    assert stated is not None
    course, at, weight = batches[1]

    def sought() -> torch.Tensor:
        """In plain numpy's ways, from the definition."""
        x = course.played.observation.flatten(1, 2)
        values = []
        for k in range(2):
            policy = problem.model(x)
            log_p = policy.log_prob(course.played.action.flatten(1, 2))[k]
            old, entropy = course.before.log_prob.flatten(1)[k], policy.entropy()[k]
            terms = []
            for place in at[k][weight[k] > 0].tolist():
                r = float((log_p[place] - old[place]).exp())
                a = float(course.weights.used.flatten(1)[k, place])
                terms.append(min(r * a, min(max(r, 0.95), 1.05) * a) + 0.1 * float(entropy[place]))
            values.append(np.mean(terms))
        return torch.tensor(values)

    for number, parameter in enumerate(parameters[:2]):
        gradient = stated[number]
        assert gradient is not None
        for place in [(0, 1), (2, 3)] if parameter.dim() == 3 else [(2,)]:
            if parameter.dim() == 3 and parameter.shape[1] <= place[0]:
                continue
            where = place if parameter.dim() == 1 + len(place) else (0, *place)
            ends = []
            for shift in (1e-6, -1e-6):
                with torch.no_grad():
                    parameter[(slice(None), *where)] += shift
                    ends.append(sought())
                    parameter[(slice(None), *where)] -= shift
            slope = (ends[0] - ends[1]) / 2e-6
            torch.testing.assert_close(gradient[(slice(None), *where)], slope, rtol=1e-4, atol=1e-7)


def test_the_critic_descends_in_every_pass(float64: None) -> None:
    problem = made(normalise_returns=True)
    problem.sample(0)
    critic = list(problem.model.critic.parameters())
    for batch in itertools.islice(problem.passes(problem.sample(1)), 4):
        course, at, weight = batch
        unit, losses = course.weights.unit.flatten(), []
        for k in range(2):
            places = at[k][weight[k] > 0]
            guess = problem.model.critic(course.played.observation.flatten(1, 2))[k, places]
            losses.append(((guess - course.weights.target.flatten(1)[k, places]) / unit[k]).square().mean() / 2)
        expected = torch.autograd.grad(torch.stack(losses).sum(), critic)
        found = problem.objective(batch).gradient
        for a, b in zip(found[-len(critic) :], expected, strict=True):
            torch.testing.assert_close(a, b)
            assert b.any()


def test_a_step_is_in_one_minibatch_an_epoch_whatever_the_lengths() -> None:
    problem = made(segment=None, episodes=3, minibatches=4)
    played = problem.sample(0)
    assert played.alive[0].sum() != played.alive[1].sum()
    passes = list(problem.passes(played))
    assert len(passes) == 3 * 4
    orders = list[list[int]]()
    for epoch in range(3):
        for k in range(2):
            parts = [each.at[k][each.weight[k] > 0] for each in passes[4 * epoch : 4 * epoch + 4]]
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
            orders.append(torch.cat(parts).tolist())
            assert orders[-1] != sorted(orders[-1])
            assert torch.cat(parts).sort().values.tolist() == played.alive[k].flatten().nonzero().flatten().tolist()
    assert all(a != b for a, b in itertools.combinations(orders, 2))


def test_the_value_that_is_logged_is_the_return(tmp_path) -> None:
    train(SETTINGS | {"segment": None, "discount": 1.0, "replicas": 1}, out=tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["objective/value"] == pytest.approx(row["episode/return"])
        assert 0 <= row["ppo/clip_fraction"][0] <= 1
        assert row["ppo/passes"] == [6.0]
    assert any(row["ppo/surrogate"][0] != row["objective/value"][0] for row in rows)


def test_a_replica_alone_is_the_same_replica_among_others() -> None:
    for stop in (None, 0.002):
        together = made(seed=3, kl_stop=stop)
        alone = made(seed=4, kl_stop=stop, replicas=1)
        for problem in (together, alone):
            for _ in itertools.islice(updates(problem, make_optimizer(problem, "Adam", lr=0.02)), 3):
                pass
        for a, b in zip(alone.model.parameters(), together.model.parameters(), strict=True):
            torch.testing.assert_close(a[0], b[1], rtol=1e-4, atol=1e-6)


def test_a_replica_that_has_come_far_enough_keeps_parameters_and_optimizer() -> None:
    problem = made(kl_stop=0.002, epochs=20)
    optimizer = make_optimizer(problem, "Adam", lr=0.02)
    parameters, rested = list(problem.model.parameters()), 0
    for step in range(2):
        for batch in problem.passes(problem.sample(step)):
            before = [parameter.detach().clone() for parameter in parameters]
            states = [json.dumps(each.state_dict()["state"], default=lambda x: x.tolist()) for each in optimizer.each]
            optimizer.step(Evaluation(problem, batch, parameters))
            resting = batch.course.resting
            for k in range(2):
                still = all(torch.equal(p[k], b[k]) for p, b in zip(parameters, before, strict=True))
                after = json.dumps(optimizer.each[k].state_dict()["state"], default=lambda x: x.tolist())
                assert still == bool(resting[k])
                assert (after == states[k]) == bool(resting[k])
            rested += int(resting.sum() == 1)
        assert resting.all()  # and then no further pass is made
    assert rested  # one rested while the other went on


def test_what_the_passes_come_to_by_hand() -> None:
    """Two replicas; the first comes too far in its second pass, and rests whatever the later ones find."""
    problem = made(kl_stop=0.1, clip=0.2)
    ratio, share = torch.tensor([[1.5, 0.9], [1.1, 1.0]]), torch.tensor([[0.5, 0.5], [0.25, 0.75]])
    kl, stopped = problem._measured(ratio.log(), torch.tensor([[1.0, -1.0], [-1.0, 2.0]]), share)
    each = [[x - 1 - math.log(x) for x in row] for row in ratio.tolist()]
    assert kl.tolist() == pytest.approx([sum(each[0]) / 2, each[1][0] / 4], abs=1e-6)
    assert stopped.tolist() == [0.5, 0.0]  # a good action at 1.5; the bad one at 0.9 still counts
    course = problem.course(problem.sample(0))
    for far, part in ((0.05, 0.25), (0.2, 0.5), (0.01, 1.0)):
        problem._note(course, torch.tensor([far, 1.0]), torch.tensor([far, 0.05]), torch.tensor([part, part]))
    found = course.logged()
    assert course.resting.tolist() == [True, False]
    assert found["ppo/passes"].tolist() == [1, 3]
    assert found["ppo/clip_fraction"].tolist() == pytest.approx([0.25, 1.75 / 3])
    assert found["ppo/kl"].tolist() == pytest.approx([0.2, 0.05])
    assert found["ppo/surrogate"].tolist() == pytest.approx([0.2, 1.0])


def test_a_pass_counts_once_however_often_its_critic_is_evaluated(tmp_path) -> None:
    """The policy's steps of the first update do not depend on how the critic is fitted."""
    first = []
    for line in ({"name": "SGD", "lr": 0.1}, {"name": "LBFGS", "lr": 0.1, "max_iter": 3}):
        run = train(SETTINGS | {"critic": {"hidden": [8], "optimizer": line}}, out=tmp_path / line["name"])
        first.append(json.loads((run.directory / "metrics.jsonl").read_text().splitlines()[0]))
    for tag in ("ppo/passes", "ppo/kl", "ppo/clip_fraction", "ppo/surrogate"):
        assert first[0][tag] == first[1][tag], tag
    assert first[0]["ppo/passes"] == [6, 6]


def test_later_steps_count_less_where_the_settings_say_so() -> None:
    problem = made(segment=None, discount_weighting=True, minibatches=1, standardise_advantages=False)
    batch = next(iter(problem.passes(problem.sample(0))))
    problem.objective(batch)
    played, advantage = batch.course.played, batch.course.weights.advantage
    for k in range(2):
        terms = [0.99**t * advantage[k, t, b].item() for t, b in played.alive[k].nonzero().tolist()]
        assert batch.course.surrogate[k].item() == pytest.approx(np.mean(terms), rel=1e-4)


def test_it_is_resumed_to_the_same_bits(tmp_path) -> None:
    for name, changes in (("plain", {}), ("stopping", {"kl_stop": 0.003})):
        whole, half = tmp_path / name / "whole", tmp_path / name / "half"
        train(SETTINGS | changes, out=whole)
        train(SETTINGS | changes | {"updates": 2}, out=half)
        resume(half, extend_to=4)
        assert_same(whole, half)


def test_it_learns_and_is_used_afterwards(tmp_path) -> None:
    settings = SETTINGS | {"segment": 128, "episodes": 8, "epochs": 8, "minibatches": 4, "updates": 12}
    run = train(
        settings | {"policy": {"hidden": [32]}, "optimizer": {"name": "Adam", "lr": 0.01}}, out=tmp_path / "run"
    )
    assert min(run.summary["evaluation.return"]["per_replica"]) > 100  # at first some 10 to 20
    action, _ = rlgrad.load(tmp_path / "run").predict(np.zeros(4, np.float32), deterministic=True)
    assert int(action) in (0, 1)


def test_it_keeps_the_promises_of_a_problem() -> None:
    assert check_problem(lambda: made(), "Adam", lr=0.01) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"critic": {"epochs": 2, "optimizer": {"name": "Adam"}}}, "critic.epochs: the critic learns in the passes of"),
        ({"clip": 1.5}, "clip: input should be less than 1"),
        ({"baseline": "optimal_constant", "segment": None}, "baseline: optimal_constant is only for the plain"),
        ({"optimizer": {"name": "NaturalGradient"}}, "NaturalGradient: it needs a Fisher information"),
        ({"optimizer": {"name": "LBFGS", "line_search_fn": "strong_wolfe"}}, "its line search needs values"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        made(**changes)
