"""The conformance kit: its own numbers by hand, ours against it, and that it finds the field's usual mistakes."""

import functools
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv, VectorWrapper
from torch import Tensor, nn

from rlgrad.agents.credit import credit, values
from rlgrad.agents.rollouts import play
from rlgrad.agents.segments import Segments
from rlgrad.config import load_config
from rlgrad.environments import VectorEnvironments
from rlgrad.errors import RunError
from rlgrad.streams import Purpose, streams
from rlgrad.testing.conformance import (
    CASES,
    Learned,
    Scripted,
    conformance,
    envpool_conformance,
    expected,
    script,
    vectors,
)
from tests.environments import Countdown


class Given(nn.Module):
    """A critic that knows the values."""

    def __init__(self, value: Any):
        super().__init__()
        self.value = value

    def forward(self, observation: Tensor) -> Tensor:
        return self.value(observation)


def agent(value: Any, steps: int, discount: float, weight: float, environment: str = "rlgrad/Scripted-v0") -> Any:
    """The problem `reinforce` as it is, but for its critic and for a policy that always takes action 0."""
    options = {"case": "terminated"} if "Scripted" in environment else {}
    settings = {
        "problem": "reinforce", "environment": environment, "environment_options": options, "segment": steps,
        "episodes": 2, "baseline": "critic", "discount": discount, "discount_weighting": False, "gae_lambda": weight,
        "time_limit": "bootstrap", "policy": {"hidden": []}, "updates": 1, "optimizer": {"name": "SGD", "lr": 1.0},
    }  # fmt: skip
    problem = load_config(settings).build().problem
    problem.model.critic = Given(value)
    *_, bias = problem.model.policy.parameters()
    for parameter in problem.model.policy.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        bias[..., 0] = 1e9
    return problem


def ours(env: VectorEnv, value: Any, steps: int, segments: int, discount: float, weight: float) -> Iterable[Learned]:
    problem = agent(
        value,
        steps,
        discount,
        weight,
        "CartPole-v1" if env.single_observation_space.shape == (4,) else "rlgrad/Scripted-v0",
    )
    problem.experience.segments = Segments(VectorEnvironments(lambda _: env, 1, 2), 1, 2)
    for step in range(segments):
        batch = problem.sample(step)
        guess = values(problem.model.critic, batch.observation)
        target, advantage = credit(problem.settings, problem.model, batch, guess)
        yield from zip(*(x[batch.alive].tolist() for x in (guess, advantage, target)), strict=True)


def test_our_segments_conform_in_every_kind_of_vector_environment_and_each_of_its_modes() -> None:
    assert conformance(ours) == []


class Paid(VectorWrapper):
    """A vector environment that pays a hundred for each step that only resets a copy."""

    def reset(self, **options: Any) -> Any:
        self.over = np.zeros(self.num_envs, bool)
        return super().reset(**options)

    def step(self, actions: Any) -> Any:
        void = self.over & (self.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP)
        observation, reward, terminated, truncated, info = super().step(actions)
        self.over = terminated | truncated
        return observation, np.where(void, 100.0, reward), terminated, truncated, info


def test_the_return_and_the_length_of_a_finished_episode_leave_resets_out() -> None:
    for _, mode, env in vectors("short ones"):
        problem = agent(lambda seen: seen[..., 0], 5, 1.0, 1.0)
        problem.experience.segments = Segments(VectorEnvironments(lambda _, env=env: Paid(env), 1, 2), 1, 2)
        for rows in (5, 10, 15):
            problem.sample(rows)
            for copy, found in enumerate(problem.experience.segments.finished.T):
                gone = 0
                for one in script("short ones", copy):
                    if gone + len(one.rewards) > rows:
                        break
                    gone += len(one.rewards) + (mode == AutoresetMode.NEXT_STEP)
                    last = [sum(one.rewards), len(one.rewards)]
                assert found.tolist() == last, (mode, rows)
        env.close()


def test_our_segments_conform_in_envpool() -> None:
    pytest.importorskip("envpool")
    assert envpool_conformance(ours) == []


BY_HAND = {  # γ = λ = 1/2; of the first copy: observation, advantage, return
    ("terminated", True): [  # 3 steps with rewards 1, 2, 3, then the reset, then the first step of another episode
        (1, 1.375, 2.375), (2, 1.5, 3.5), (3, 0.0, 3.0), (51, -24.0, 27.0),
        (52, -31.083984375, None), (53, -23 - 29.34375 / 4, None), (54, -22.5 - 27.375 / 4, None),
        (55, -22 - 21.5 / 4, None), (56, -21.5, 34.5),  # the second segment, cut again
    ],
    ("terminated", False): [  # no row goes to the reset
        (1, 1.375, 2.375), (2, 1.5, 3.5), (3, 0.0, 3.0), (51, -24 - 23.5 / 4, None), (52, -23.5, 28.5),
    ],
    ("truncated", False): [  # the last step counts with half the value 4 of what was seen last
        (1, 1.5, 2.5), (2, 2.0, 4.0), (3, 2.0, 5.0), (51, -24 - 23.5 / 4, None), (52, -23.5, 28.5),
    ],
    ("both at once", False): [(1, 1.375, 2.375), (2, 1.5, 3.5), (3, 0.0, 3.0)],
    ("at the first step", False): [(1, 0.0, 1.0), (51, -24.0, 27.0), (101, -100.0, 1.0)],
    ("at the first step", True): [(1, 0.0, 1.0), (51, -24.0, 27.0), (101, -100.0, 1.0)],
    ("at the last step", False): [(5, 0.0, 5.0), (4, 2.5, 6.5), (55, -22.0, 33.0)],
    ("longer than the segments", False): [(5, 3.0, 8.0), (4, 2.5 + 3 / 4, None), (10, 5.5, 15.5)],
}  # fmt: skip


@pytest.mark.parametrize(("case", "resets"), BY_HAND)
def test_the_kit_s_numbers_are_those_worked_out_by_hand(case: str, resets: bool) -> None:
    found = {observation: rest for observation, *rest in expected(script(case, 0), resets)}
    for observation, *rest in BY_HAND[case, resets]:
        for number, by_hand in zip(found[observation], rest, strict=True):
            assert by_hand is None or number == pytest.approx(by_hand), (observation, number, by_hand)


class Plain:
    """A collector as one finds them: it stores every row, and masks with the flags that it is told to mask with."""

    def __init__(self, resets: bool = True, ends: str = "both", final: bool = True):
        self.skip_resets, self.ends, self.final = resets, ends, final

    def __call__(
        self, env: VectorEnv, value: Any, steps: int, segments: int, discount: float, weight: float
    ) -> Iterable[Learned]:
        mode = env.metadata["autoreset_mode"]
        observation, _ = env.reset()
        observation, over = observation.copy(), np.zeros(env.num_envs, bool)
        for _ in range(segments):
            rows = []
            for _ in range(steps):
                if mode == AutoresetMode.DISABLED and over.any():
                    observation = env.reset(options={"reset_mask": over.copy()})[0].copy()
                void = over if mode == AutoresetMode.NEXT_STEP else np.zeros_like(over)
                following, reward, terminated, truncated, info = env.step(np.zeros(env.num_envs, int))
                over, after = terminated | truncated, following.copy()
                if mode == AutoresetMode.SAME_STEP and over.any() and self.final:
                    after[over] = np.stack(list(info["final_obs"][over]))
                rows.append(
                    (value(observation), reward.copy(), value(after), terminated.copy(), over.copy(), void.copy())
                )
                observation = following.copy()
            carried = np.zeros(env.num_envs)
            for v, reward, after, terminated, ended, void in reversed(rows):
                end = terminated if self.ends == "terminated" else ended
                dead = ended if self.ends == "time limits are deaths" else terminated
                delta = reward + discount * after * ~dead - v
                carried = delta + discount * weight * carried * ~end
                for k in range(env.num_envs):
                    if not (void[k] and self.skip_resets):
                        yield float(v[k]), float(carried[k]), float(carried[k] + v[k])


def test_a_collector_that_does_it_right_passes() -> None:
    assert conformance(Plain()) == []


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (Plain(resets=False), "NEXT_STEP: the step from 4 is not one to learn from"),  # the reset stored as a step
        (Plain(ends="terminated"), "truncated, SyncVectorEnv, SAME_STEP: the step from 3 has the advantage"),  # a leak
        (Plain(ends="time limits are deaths"), "DISABLED: the step from 3 has the advantage 0, not 2"),
        (Plain(final=False), "SAME_STEP: the step from 3 has the advantage"),  # the next episode's first for the last
    ],
)
def test_the_usual_mistakes_are_found(mistake: Plain, said: str) -> None:
    found = conformance(mistake, ["terminated", "truncated"])
    assert any(said in line for line in found), found


@pytest.mark.parametrize("case", CASES)
def test_whole_episodes_in_every_kind_of_vector_environment(case: str) -> None:
    """Played to their ends, as the script has them, whatever each mode does afterwards."""
    problem = agent(lambda seen: seen[..., 0], 5, 1.0, 1.0)
    for kind, mode, env in vectors(case):
        copies = VectorEnvironments(lambda _, env=env: env, 1, 2)
        played = play(problem.model.policy, copies, streams(0, 1, Purpose.SAMPLE), 2)
        for copy in range(2):
            first = script(case, copy)[0]
            alive = played.alive[0, :, copy]
            assert played.observation[0, alive, copy, 0].tolist() == first.observations[:-1], (kind, mode)
            assert played.reward[0, alive, copy].tolist() == first.rewards
            assert bool(played.terminated[0, :, copy].any()) == (first.end != "truncated")
            assert bool(played.truncated[0, :, copy].any()) == (first.end != "terminated")
        last = played.after(played.last_observation[..., 0])[0].sum(0)
        assert last.tolist() == [script(case, copy)[0].observations[-1] for copy in range(2)]
        env.close()


@pytest.mark.parametrize("simulator", ["auto", "gymnasium"])
def test_segments_are_put_back_by_their_seeds_and_actions(simulator: str) -> None:
    """Twelve updates; or eight, and four more by another problem that was given the state."""

    def rewards(problem: Any, steps: Iterable[int]) -> list[Tensor]:
        return [torch.cat([(batch := problem.sample(step)).reward, batch.observation[..., 0]], 1) for step in steps]

    make = functools.partial(
        load_config,
        {
            "problem": "reinforce", "environment": "CartPole-v1", "segment": 9, "episodes": 3, "replicas": 2,
            "baseline": "critic", "updates": 1, "optimizer": {"name": "SGD", "lr": 1.0}, "simulator": simulator,
        },
    )  # fmt: skip
    whole, begun, resumed = (make().build().problem for _ in range(3))
    expected = rewards(whole, range(12))
    assert all(torch.equal(a, b) for a, b in zip(rewards(begun, range(8)), expected, strict=False))
    state = begun.state_dict()
    assert len(state["actions"]) < 9 * 8  # those of episodes that have ended are forgotten
    resumed.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(rewards(resumed, range(8, 12)), expected[8:], strict=True))
    for name in ("earned", "taken", "finished"):
        np.testing.assert_array_equal(
            getattr(resumed.experience.segments, name), getattr(whole.experience.segments, name)
        )


def test_segments_that_do_not_come_to_the_same_place_are_refused() -> None:
    settings = {
        "problem": "reinforce", "environment": "CartPole-v1", "segment": 9, "episodes": 2, "baseline": "critic",
        "updates": 1, "optimizer": {"name": "SGD", "lr": 1.0},
    }  # fmt: skip
    problem, other = (load_config(settings).build().problem for _ in range(2))
    problem.sample(0)
    state = problem.state_dict()
    problem.sample(1)
    assert not torch.equal(state["observation"], problem.state_dict()["observation"])  # it was a copy
    state["seeds"] += 1
    with pytest.raises(RunError, match="the environment does not repeat itself"):
        other.load_state_dict(state)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_each_replica_s_vector_environment_goes_on_by_itself(mode: AutoresetMode) -> None:
    """Two replicas of two copies, none of which ends with another: all that comes is what the script of each copy has."""

    numbers = itertools.count(step=2)

    def make(_: object) -> SyncVectorEnv:
        first = next(numbers)
        return SyncVectorEnv([lambda k=k: Scripted("short ones", k) for k in (first, first + 1)], autoreset_mode=mode)

    environments = VectorEnvironments(make, 2, 2)
    assert environments.repeatable == (mode == AutoresetMode.DISABLED)
    scripts = [script("short ones", k) for k in range(4)]
    episode, t = [0] * 4, [0] * 4
    current = environments.reset(streams(0, 2, Purpose.SAMPLE))[:, 0].tolist()
    over, ready = np.zeros(4, bool), np.ones(4, bool)
    for _ in range(12):
        expected = []
        for k in np.flatnonzero(ready):
            assert current[k] == scripts[k][episode[k]].observations[t[k]]
        for k in range(4):
            if not ready[k]:  # this step only begins the next episode
                episode[k], t[k] = episode[k] + 1, 0
                expected.append((scripts[k][episode[k]].observations[0], 0.0, False, False))
                continue
            one = scripts[k][episode[k]]
            t[k] += 1
            last = t[k] == len(one.rewards)
            expected.append(
                (
                    one.observations[t[k]],
                    one.rewards[t[k] - 1],
                    last and one.end != "truncated",
                    last and one.end != "terminated",
                )
            )
        found = environments.step(np.zeros(4, np.int64))
        assert list(zip(found.observation[:, 0].tolist(), *(x.tolist() for x in found[1:]), strict=True)) == expected
        over, ready = found.terminated | found.truncated, np.ones(4, bool)
        current = found.observation[:, 0].tolist()
        if over.any():
            following, ready = environments.restart(over, np.arange(4))
            assert (ready == ~over).all() if mode == AutoresetMode.NEXT_STEP else ready.all()
            current = following[:, 0].tolist()
            for k in np.flatnonzero(over & ready):
                episode[k], t[k] = episode[k] + 1, 0


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_reset_in_the_midst_of_it_begins_everywhere_and_once(mode: AutoresetMode) -> None:
    """Also where some copies were over: the next step is not another reset of theirs."""
    scripts = [script("short ones", k) for k in range(2)]
    environments = VectorEnvironments(
        lambda _: SyncVectorEnv([lambda k=k: Scripted("short ones", k) for k in range(2)], autoreset_mode=mode), 1, 2
    )
    environments.reset(streams(0, 1, Purpose.SAMPLE))
    over = np.zeros(2, bool)
    while not over.any():
        found = environments.step(np.zeros(2, np.int64))
        over = found.terminated | found.truncated
    first = environments.reset(streams(0, 1, Purpose.SAMPLE))[:, 0]
    found = environments.step(np.zeros(2, np.int64))
    np.testing.assert_array_equal(found.observation[:, 0], first + 1)
    assert all(first[k] in [one.observations[0] for one in scripts[k]] for k in range(2))


def test_copies_that_have_begun_again_are_not_begun_again_by_the_next_step() -> None:
    """Countdowns, which begin where their seed says and fall by one at each step."""
    made = SyncVectorEnv([Countdown] * 4, autoreset_mode=AutoresetMode.DISABLED)
    environments = VectorEnvironments(lambda _: made, 1, 4)
    rng = np.random.default_rng(0)
    for attempt in range(5):
        current = environments.reset(streams(attempt, 1, Purpose.SAMPLE))
        for _ in range(4 + attempt):
            found = environments.step(np.zeros(4, np.int64))
            np.testing.assert_array_equal(found.observation, current - 1)
            current = found.observation
            if found.terminated.any():
                current, _ = environments.restart(found.terminated, rng.integers(1000, size=4))
                np.testing.assert_array_equal(current[~found.terminated], found.observation[~found.terminated])
                assert (current[found.terminated] > 0).all()
        environments.step(np.zeros(4, np.int64))  # which may be the last of some, before all begin again


def test_short_episodes_are_put_back_wherever_a_segment_ends() -> None:
    """After each of ten updates: some have ended with the segment, others within it, others go on."""
    settings = {
        "problem": "reinforce", "environment": "tests/Countdown-v0", "segment": 2, "episodes": 4, "replicas": 2,
        "baseline": "critic", "updates": 1, "optimizer": {"name": "SGD", "lr": 1.0},
    }  # fmt: skip
    whole = load_config(settings).build().problem
    for step in range(10):
        whole.sample(step)
        resumed = load_config(settings).build().problem
        state = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
        resumed.load_state_dict(state)
        assert all(
            torch.equal(x.nan_to_num(-1), state[name].nan_to_num(-1)) for name, x in resumed.state_dict().items()
        )
        a = resumed.sample(step + 1)
        again = load_config(settings).build().problem
        b = [again.sample(number) for number in range(step + 2)][-1]
        assert torch.equal(a.observation, b.observation)
        assert torch.equal(a.reward, b.reward)


def test_segments_are_put_back_by_actions_as_the_environment_had_them() -> None:
    """Pendulum's are twice what the policy says, and clipped."""
    settings = {
        "problem": "reinforce", "environment": "Pendulum-v1", "segment": 7, "episodes": 2, "baseline": "critic",
        "updates": 1, "optimizer": {"name": "SGD", "lr": 1.0},
    }  # fmt: skip
    problem, other = (load_config(settings).build().problem for _ in range(2))
    for step in range(2):
        problem.sample(step)
    other.load_state_dict(problem.state_dict())
    assert torch.equal(other.sample(2).observation, problem.sample(2).observation)


def test_the_last_observations_of_a_batch_are_those_of_the_copies_that_have_ended() -> None:
    def make(_: object) -> SyncVectorEnv:
        return SyncVectorEnv([functools.partial(Scripted, "short ones", k) for k in range(3)])

    environments = VectorEnvironments(make, 1, 3)
    seen = environments.reset(streams(0, 1, Purpose.SAMPLE)) * 0 + np.arange(3)[:, None]
    each = np.empty(3, object)
    each[2] = seen[2]
    for observations in (seen, each):  # as some vector environments have them, or as Gymnasium's own
        assert environments._final(observations, np.array([2]), 0).tolist() == seen[2:].tolist()
