"""Action masks: what is not legal is never played, and counts nowhere."""

import itertools
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from rlgrad import RunError, load, train
from rlgrad.agents.masked import Masked
from rlgrad.agents.policies import CategoricalPolicy, Choice, MultiCategoricalPolicy
from rlgrad.cli import main
from rlgrad.config import load_config
from rlgrad.environments.around import Around, MasksSeen, find_mask, flattened, forbidding, made_legal
from rlgrad.environments.vector import VectorEnvironments
from rlgrad.errors import SettingError, UsageError
from rlgrad.loop import updates
from rlgrad.networks import MLP
from rlgrad.problems.reinforce import Reinforce
from rlgrad.replicas import flatten
from rlgrad.reports.playing import returns_by_chance
from rlgrad.streams import Purpose, streams
from tests.environments import Drawn

# P(next of 3 states | state, action), of which the last is the end; what is legal in each of the two others.
MOVES = np.array([[[0.5, 0.2, 0.3], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]], [[0.2, 0.5, 0.3], [0.7, 0.3, 0.0], [1, 0, 0]]])
PAYS = np.array([[1.0, -2.0, 50.0], [3.0, -40.0, 0.5]])
LEGAL = np.array([[1, 1, 0], [1, 0, 1]], np.int8)
SEEN = np.array([[1.0, 0.5], [-0.3, 2.0]], np.float32)


class Rules(gymnasium.Env):
    """Two states, three actions, of which one is not legal in each; two steps at most. The illegal ones raise."""

    def __init__(
        self,
        where: str = "info",
        several: bool = False,
        forbid: int | None = None,
        forget: int | None = None,
        odd: float = 0,
    ):
        self.where, self.several, self.forbid, self.forget, self.odd = where, several, forbid, forget, odd
        self.action_space = spaces.MultiDiscrete([3, 2]) if several else spaces.Discrete(3)
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        if where != "info":
            mask = spaces.Box(0, 1, (5 if several else 3,), np.float32)
            self.observation_space = spaces.Dict({"seen": self.observation_space, where: mask})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.t = 0, 0
        return self.shown()

    def step(self, action):
        first, second = (action[0], action[1]) if self.several else (action, 0)
        assert LEGAL[self.state, first], "not legal"
        assert second == 0 or self.state == 1, "not legal"
        pay = PAYS[self.state, first] + second
        following = int(self.np_random.choice(3, p=MOVES[self.state, first]))
        self.t += 1
        over = following == 2 or self.t == 2
        self.state = following % 2
        observation, info = self.shown(over)
        return observation, pay, over, False, info

    def shown(self, over=False):
        masks = (LEGAL[self.state], np.array([1, self.state], np.int8))
        masks = tuple(0 * one for one in masks) if over or self.t == self.forbid else masks
        mask = masks if self.several else masks[0]
        if self.where == "info":
            return SEEN[self.state], {} if over or self.t == self.forget else {"action_mask": mask}
        whole = np.concatenate(masks) if self.several else masks[0]
        return {"seen": SEEN[self.state], self.where: np.where(whole, 1, self.odd).astype(np.float32)}, {}


class Free(gymnasium.Wrapper):
    """Everything is legal."""

    def reset(self, *, seed: Any = None, options: Any = None):
        observation, _ = self.env.reset(seed=seed)
        return observation, {"action_mask": np.ones(2, np.int8)}

    def step(self, action: Any):
        observation, reward, terminated, truncated, _ = self.env.step(action)
        return observation, reward, terminated, truncated, {"action_mask": np.ones(2, np.int8)}


def free_cart_pole() -> gymnasium.Env:
    return Free(gymnasium.make("CartPole-v1"))


class Masks(gymnasium.Env):
    """Says one thing as its mask, for ever."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space, seen: Any, mask: Any = None):
        self.observation_space, self.seen = space, seen
        self.info = {} if mask is None else {"action_mask": mask}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.seen, self.info

    def step(self, action):
        self.t += 1
        return self.seen, 1.0, self.t == 4, False, self.info


def masks(size: int, **others: spaces.Space) -> partial:
    space = spaces.Dict({"action_mask": spaces.MultiBinary(size), **others})
    return partial(Masks, space, {name: np.ones(part.shape, np.int8) for name, part in space.items()})


CHECKED = {"info": "Rules", "the observations": "Shown", "info, of several choices": "Several"}
BOX = spaces.Box(0, 1, (1,))
for name, make in {
    "Rules": Rules, "Free": free_cart_pole, "Shown": partial(Rules, "action_mask"), "Several": partial(Rules, several=True),
    "Odd4": partial(Masks, BOX, np.zeros(1, np.float32), np.ones(4, np.int8)), "OddPart": masks(3, a=BOX), "OnlyMask": masks(2),
    "Forbids": partial(Masks, BOX, np.zeros(1, np.float32), np.zeros(2, np.int8)),
    "Doubles": partial(Masks, BOX, np.zeros(1, np.float32), np.array([2, 1], np.int8)),
}.items():  # fmt: skip
    gymnasium.register(f"tests/{name}-v0", make)


gymnasium.register("tests/Drawn-v0", Drawn)
for mode in AutoresetMode:
    gymnasium.register(
        f"tests/Drawn{mode.name}-v0", Drawn,
        vector_entry_point=lambda num_envs, mode=mode, **how: SyncVectorEnv(
            [partial(Drawn, **how)] * num_envs, autoreset_mode=mode
        ),
    )  # fmt: skip


def problem(**more: Any) -> Reinforce:
    config = {
        "problem": "reinforce", "environment": "tests/Rules-v0", "updates": 1, "optimizer": {"name": "SGD"},
        "policy": {"hidden": []}, "baseline": "none", "episodes": 32,
    }  # fmt: skip
    made: Reinforce = load_config(config | more).build().problem
    with torch.no_grad():
        for parameter in made.model.policy.parameters():
            count = parameter[0].numel()
            parameter.copy_(torch.linspace(-0.6, 0.4, count).reshape(parameter[0].shape))
    return made


def enumerated(policy: Any) -> Tensor:
    """The expected return of the first replica's policy: the sum over all trajectories of legal actions."""
    total = torch.zeros((), dtype=torch.float64)
    logits = policy.network.network(torch.tensor(SEEN)[None].expand(len(next(policy.parameters())), -1, -1))[0].double()
    p = [{a: logits[s, a].exp() / sum(logits[s, b].exp() for b in (0, 1, 2) if LEGAL[s, b]) for a in (0, 1, 2)
          if LEGAL[s, a]} for s in (0, 1)]  # fmt: skip
    for a in p[0]:
        total = total + p[0][a] * PAYS[0, a]
        for s, b in itertools.product((0, 1), (0, 1, 2)):
            if LEGAL[s, b]:
                total = total + p[0][a] * MOVES[0, a, s] * p[s][b] * PAYS[s, b]
    return total


@pytest.mark.parametrize("where", ["info", "action_mask", "rules"])
def test_the_gradient_is_that_of_the_sum_over_all_trajectories_of_legal_actions(where: str) -> None:
    more = {"action_mask": "rules"} if where == "rules" else {}
    made = problem(replicas=40, environment_options={"where": where}, **more)
    estimate = made.objective(made.sample(0))
    exact = torch.autograd.grad(value := enumerated(made.model.policy), list(made.model.policy.parameters()))
    wanted = torch.cat([g[0].flatten() for g in exact]).double()
    found = flatten(estimate.gradient).double()
    error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - wanted).abs() < 4.5 * error + 1e-6).all(), (found.mean(0), wanted, error)
    assert abs(estimate.value.double().mean() - value) < 4.5 * estimate.value.std() / len(found) ** 0.5
    assert all(metric.isfinite().all() for metric in estimate.metrics.values())  # also beside rows that are not steps


def test_what_is_not_legal_has_probability_zero_and_counts_nowhere() -> None:
    """Against distributions over the legal actions alone, which torch makes."""
    generator = torch.Generator().manual_seed(0)
    logits = [torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(2)]
    legal = torch.rand(6, 5, generator=generator) < 0.6
    legal[:, 2] = True
    p, q = (Choice(logits=each.masked_fill(~legal, -torch.inf), validate_args=False) for each in logits)
    assert (p.probs[~legal] == 0).all()
    for row in range(6):
        few = [torch.distributions.Categorical(logits=each[row, legal[row]]) for each in logits]
        assert torch.allclose(p.entropy()[row], few[0].entropy())
        assert torch.allclose(p.divergence(q)[row], torch.distributions.kl_divergence(*few))
        for number, action in enumerate(legal[row].nonzero().flatten()):
            assert torch.allclose(p.log_prob(action.expand(6))[row], few[0].log_prob(torch.tensor(number)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fisher_information_is_that_of_the_legal_actions(dtype: torch.dtype) -> None:
    """The Hessian of the divergence at p itself: diag(p) - p pᵀ over the legal ones, and 0 elsewhere."""
    logits = torch.tensor([0.3, 40.0, -1.0, 0.9], dtype=dtype, requires_grad=True)
    legal = torch.tensor([True, False, True, True])

    def divergence(x: Tensor) -> Tensor:
        now = Choice(logits=torch.where(legal, x, -torch.inf), validate_args=False)
        return now.detach().divergence(now)

    p = torch.where(legal, logits, -torch.inf).softmax(0).detach()
    wanted = torch.diag(p) - torch.outer(p, p)
    assert torch.allclose(torch.autograd.functional.hessian(divergence, logits), wanted, atol=1e-6)
    (slope,) = torch.autograd.grad(Choice(logits=torch.where(legal, logits, -torch.inf)).entropy(), logits)
    assert slope.isfinite().all()
    assert slope[1] == 0


@pytest.mark.parametrize("several", [False, True])
def test_a_natural_gradient_steps_to_its_radius_among_the_legal_actions(several: bool) -> None:
    """The divergence of the step is that of a sum over legal actions, worked out here from the logits alone."""
    options = {"several": several}
    config = {
        "problem": "reinforce", "environment": "tests/Rules-v0", "environment_options": options, "updates": 1,
        "optimizer": {"name": "NaturalGradient", "kl": 0.01, "damping": 1e-4}, "episodes": 64, "policy": {"hidden": [8]},
    }  # fmt: skip
    built = load_config(config).build()
    made, policy = built.problem, built.problem.model.policy

    def log_p() -> Tensor:
        with torch.no_grad():
            logits = policy.network.network(torch.tensor(SEEN)[None])[0].double()
        legal = torch.tensor(np.hstack([LEGAL, [[1, 0], [1, 1]]]) if several else LEGAL) > 0
        parts = zip(logits.split([3, 2][: 1 + several], 1), legal.split([3, 2][: 1 + several], 1), strict=True)
        return torch.cat([each.masked_fill(~mask, -1e9).log_softmax(1) for each, mask in parts], 1)

    before = log_p()
    batch = next(updates(made, built.optimizer)).passes[0].batch.played
    visited = (batch.observation[..., 0] < 0)[batch.alive].double().mean()
    kl = (before.exp() * (before - log_p())).sum(1)
    assert float(kl[0] * (1 - visited) + kl[1] * visited) == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize("several", [False, True])
def test_draws_and_the_greedy_action_obey_and_both_twins_of_the_network_say_the_same(several: bool) -> None:
    rng = np.random.default_rng(0)
    sizes = [3, 4] if several else [7]
    network = Masked(MLP(2, 7, (), streams(0, 1, Purpose.INITIAL), output_gain=3.0), (2,), 7, True)
    policy = MultiCategoricalPolicy(network, sizes, np.zeros(2, int)) if several else CategoricalPolicy(network, 7)
    mask = rng.random((1, 4000, 7)) < 0.4
    mask[..., [0, 3]] = True
    seen = np.concatenate([rng.standard_normal((1, 4000, 2)), mask], 2).astype(np.float32)
    with torch.no_grad():
        assert np.allclose(network(torch.from_numpy(seen)).numpy(), network.frozen()(seen), atol=1e-6)
    for noise in (policy.noise(rng, 1, 4000), None):
        action = policy.actor()(seen, noise).reshape(1, 4000, -1)
        for column, start in enumerate([0, 3][: len(sizes)]):
            assert np.take_along_axis(mask, action[..., [column]] + start, 2).all()


def test_where_everything_is_legal_nothing_changes() -> None:
    how = {
        "episodes": 4,
        "replicas": 2,
        "policy": {"hidden": [4]},
        "baseline": "critic",
        "normalise_observations": True,
    }
    masked = problem(environment="tests/Free-v0", **how)
    plain = problem(environment="tests/Free-v0", action_mask=None, **how)
    assert "action mask in info" in " ".join(masked.facts.values())
    first, second = (made.objective(made.sample(0)) for made in (masked, plain))
    assert torch.equal(first.value, second.value)
    for a, b in zip(first.gradient or [], second.gradient or [], strict=True):
        assert torch.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("where", ["info", "action_mask"])
@pytest.mark.parametrize("segment", [None, 5])
def test_training_evaluation_and_the_trained_policy_obey(
    several: bool, where: str, segment: Any, tmp_path: Any
) -> None:
    """The environment raises where an action is not legal."""
    options = {"where": where, "several": several}
    train(
        {
            "problem": "reinforce", "environment": "tests/Rules-v0", "environment_options": options, "updates": 3,
            "optimizer": {"name": "Adam", "lr": 0.1}, "episodes": 4, "segment": segment, "baseline": "critic",
            "entropy_bonus": {"coefficient": 0.01}, "diagnose_every_updates": 1, "evaluation": {"episodes": 4},
        },
        out=tmp_path / "run",
    )  # fmt: skip
    policy = load(tmp_path / "run")
    sizes = (3, 2) if several else (3,)
    for forced in itertools.product(*(range(n) for n in sizes)):
        mask = np.concatenate([np.eye(n, dtype=np.int8)[k] for n, k in zip(sizes, forced, strict=True)])
        seen = SEEN[0] if where == "info" else {"seen": SEEN[0]}
        assert np.ravel(policy.predict(seen, action_mask=mask)[0]).tolist() == list(forced)
    batch = SEEN if where == "info" else {"seen": SEEN}
    assert len(policy.predict(batch, action_mask=np.tile(mask, (2, 1)))[0]) == 2
    with pytest.raises(ValueError, match="forbids every action"):
        policy.predict(seen, action_mask=0 * mask)
    with pytest.raises(ValueError, match="action_mask=mask"):
        policy.predict(seen)
    assert len(returns_by_chance(tmp_path / "run")) == 20
    environment = policy.make_environment()
    observation, _ = environment.reset(seed=0)
    environment.step(policy.predict(observation, deterministic=True)[0])
    environment.close()


@pytest.mark.parametrize("where", ["info", "action_mask"])
@pytest.mark.parametrize("mode", AutoresetMode)
def test_masks_of_vector_environments_stand_behind_what_each_copy_shows(mode: AutoresetMode, where: str) -> None:
    """Twenty steps of three copies, in which the mask must always be that of the state that is shown. Where an episode
    is over there is no mask, or one that forbids everything."""

    def made(seeds: Any) -> Any:
        return SyncVectorEnv([partial(Rules, where)] * len(seeds), autoreset_mode=mode)

    environments = VectorEnvironments(made, 1, 3, around=Around(mask=where))
    seen, ready = environments.reset([np.random.default_rng(0)]), np.ones(3, bool)
    for t in range(20):
        assert (seen[ready, 2:] == LEGAL[(seen[ready, 0] < 0).astype(int)]).all()
        found = environments.step(seen[:, 2:].argmax(1))
        seen, ready = found.observation, ~(found.terminated | found.truncated)
        if mode != AutoresetMode.NEXT_STEP and not ready.all():
            seen, ready = environments.restart(~ready, np.full(3, t))
    environments.close()


@pytest.mark.parametrize("where", ["info", "action_mask"])
@pytest.mark.parametrize("mode", AutoresetMode)
def test_copies_that_are_only_stepped_with_the_others_obey_too(mode: AutoresetMode, where: str) -> None:
    """The environment raises where an action is not legal. Whole episodes are those of single copies."""
    more = {"environment": f"tests/Drawn{mode.name}-v0", "environment_options": {"where": where}}
    single, vector = (problem(simulator=simulator, **more).sample(0) for simulator in ("gymnasium", "vector"))
    for name in ("observation", "action", "reward", "alive"):
        assert torch.equal(getattr(single, name), getattr(vector, name)), name
    batch = problem(simulator="vector", baseline="critic", batch_steps=300, episodes=8, **more).sample(0)
    assert batch.alive.sum() >= 300


@pytest.mark.parametrize("where", ["info", "action_mask"])
@pytest.mark.parametrize(
    "how",
    [
        {"environment": "tests/Drawn-v0", "workers": 0},
        {"environment": "tests/Drawn-v0", "workers": 1},
        {"environment": "tests/DrawnDISABLED-v0", "simulator": "vector"},
    ],
    ids=["single", "workers", "vector"],
)
def test_an_unfinished_episode_is_put_back_by_its_own_actions(how: dict[str, Any], where: str) -> None:
    """The environment raises where an action is not legal, and knows what single copies have played."""
    settings = {"environment_options": {"where": where}, "segment": 5, "episodes": 3, "replicas": 2, **how}
    several = 1 if how.get("workers") else 4  # each starts a process
    whole, once, *made = (problem(baseline="critic", **settings) for _ in range(2 + several))
    unbroken = [once.sample(step) for step in range(5)]
    for step, resumed in enumerate(made):
        whole.sample(step)
        before = len(Drawn.played)
        resumed.load_state_dict({name: tensor.clone() for name, tensor in whole.state_dict().items()})
        again = Drawn.played[before:]
        if how.get("workers") == 0:
            assert len(again) == 6
            assert all(episode in Drawn.played[:before] for episode in again)
        a, b = resumed.sample(step + 1), unbroken[step + 1]
        assert torch.equal(a.observation, b.observation)
        assert torch.equal(a.action, b.action)
        resumed.close()
    for one in (whole, once):
        one.close()


def test_only_illegal_actions_are_made_legal() -> None:
    actions = spaces.MultiDiscrete([2, 3], start=[-1, 5])
    seen = np.array([[9.0, 1, 1, 0, 1, 1], [9.0, 0, 1, 0, 0, 1], [9.0, 1, 0, 1, 1, 0]])
    found = made_legal(actions, np.array([[0, 7], [-1, 5], [-1, 7]]), seen)
    assert found.tolist() == [[0, 7], [0, 7], [-1, 5]]
    assert made_legal(spaces.Discrete(2, start=3), np.array([3, 4]), seen[1:, 1:3]).tolist() == [4, 3]


@pytest.mark.parametrize("where", ["info", "action_mask"])
@pytest.mark.parametrize("several", [False, True])
def test_a_mask_that_forbids_everything_or_is_missing_ends_the_run_in_one_line(where: str, several: bool) -> None:
    options = {"where": where, "several": several, "forbid": 1}
    with pytest.raises(RunError, match=r"forbids every action of tests/Rules-v0.*replica 0, episode \d+, step 1\)"):
        problem(environment_options=options).sample(0)
    if where == "info":
        with pytest.raises(RunError, match=r"action_mask is None.*replica 0, episode \d+, step 1\)"):
            problem(environment_options={"several": several, "forget": 1}).sample(0)
    else:  # -1 would count as legal
        for odd in (-1, 0.5):
            with pytest.raises(
                RunError, match=r"action_mask is an array .* must be of MultiBinary.*episode 0, step 0\)"
            ):
                problem(environment_options={"where": where, "several": several, "odd": odd}).sample(0)


def test_every_choice_needs_an_action() -> None:
    seen = np.array([[9.0, 1, 0, 0, 1], [9.0, 0, 0, 1, 1], [9.0, 1, 1, 0, 0]])
    assert forbidding(seen, [2, 2]).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"action_mask": "rules"}, "action_mask: the observations have no part 'rules'"),
        ({"action_mask": "info", "environment_options": {"where": "action_mask"}}, "has nothing after a reset"),
        ({"action_mask": "info", "environment": "Pendulum-v1"}, "only Discrete and MultiDiscrete"),
        ({"action_mask": "info", "environment": "CartPole-v1"}, "has nothing after a reset"),
        ({"action_repeat": 2}, "action_repeat: an action may become illegal"),
        ({"environment_options": {"forget": 0}}, "info.* has nothing after a reset, only after a step"),
        ({"environment": "tests/Odd4-v0"}, "info.* has 4 elements .* but there are 2 actions; set null"),
        ({"environment": "tests/OddPart-v0"}, "no part 'action_mask' of 2 elements, one per action; set null"),
        ({"environment": "tests/OnlyMask-v0"}, "the observations are nothing but the mask: set null"),
        ({"environment": "tests/OnlyMask-v0", "action_mask": "action_mask"}, "nothing but the mask: set null"),
    ],
)
def test_a_mask_that_cannot_be_is_refused_by_its_setting(more: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        problem(**more)


def test_check_says_where_the_mask_is_and_plays_legal_actions_only(capsys: pytest.CaptureFixture) -> None:
    for where in ("info", "the observations", "info, of several choices"):
        assert main(["check", f"tests/{CHECKED[where]}-v0"]) == 0
        lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
        assert lines["legal actions"].strip() == f"those of the mask in {where.split(',')[0]}"
        assert lines["an episode begins"].strip() == "from its seed alone"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Forbids", "reset returns an action mask that forbids every action: [0, 0]"),
        ("Doubles", "the part action_mask is an array (2,) of int8, [2, 1]"),
        ("Odd4", "has 4 elements after a reset, but there are 2 actions"),
    ],
)
def test_check_finds_what_is_wrong_with_a_mask(name: str, said: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["check", f"tests/{name}-v0"]) == 1
    assert said in "".join(capsys.readouterr())


def test_an_environment_that_says_nothing_of_masks_has_none() -> None:
    assert problem(environment="CartPole-v1").settings.mask is None
    assert problem(environment="CartPole-v1").experience.played_by == "our own vectorized form"


class Board(gymnasium.Env):
    """A picture, and one legal action, which the step's number says."""

    observation_space = spaces.Box(0, 255, (16, 16, 3), np.uint8)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros((16, 16, 3), np.uint8), {"action_mask": np.eye(3, dtype=np.int8)[0]}

    def step(self, action):
        assert action == self.t % 3, "not legal"
        self.t += 1
        seen = np.full((16, 16, 3), 40 * self.t, np.uint8)
        return seen, 1.0, self.t == 5, False, {"action_mask": np.eye(3, dtype=np.int8)[self.t % 3]}


gymnasium.register("tests/Board-v0", Board)


def test_a_mask_stands_beside_a_picture_which_stays_bytes() -> None:
    made = problem(environment="tests/Board-v0", episodes=2)
    batch = made.sample(0)
    assert batch.length.tolist() == [[5, 5]]
    assert made.experience.segments is None
    for piece in batch.pieces():
        assert batch.observation[:, piece].dtype == torch.uint8
    assert all(g.isfinite().all() for g in made.objective(batch).gradient or [])


def test_a_mask_that_does_not_come_again_is_not_taken_for_the_last_one() -> None:
    """The second of two copies has none after its first step: that is refused, unless its episode is over."""

    class Forgets(gymnasium.vector.VectorEnv):
        num_envs, over = 2, False
        single_observation_space, single_action_space = spaces.Box(0, 1, (1,)), spaces.Discrete(3)

        def reset(self, **how: Any) -> Any:
            return np.zeros((2, 1)), {"action_mask": [np.array([1, 0, 1]), np.array([0, 1, 1])]}

        def step(self, actions: Any) -> Any:
            info = {"action_mask": [np.array([0, 0, 1]), None], "_action_mask": np.array([True, False])}
            return np.zeros((2, 1)), np.zeros(2), np.array([False, self.over]), np.zeros(2, bool), info

    inner = Forgets()
    seen = MasksSeen(inner)
    for inner.over, left in ((False, [-1, -1, -1]), (True, [0, 1, 1])):
        assert seen.reset()[0]["action_mask"].tolist() == [[1, 0, 1], [0, 1, 1]]
        assert seen.step(np.zeros(2, int))[0]["action_mask"].tolist() == [[0, 0, 1], left]


class Buttons(Rules):
    """Gives a mask for actions that cannot have one."""

    def __init__(self, where: str = "info"):
        super().__init__(where)
        self.action_space = spaces.MultiBinary(3)

    def step(self, action):
        return super().step(0)


@pytest.mark.parametrize("where", ["info", "action_mask"])
def test_a_mask_that_would_have_no_effect_is_refused(where: str) -> None:
    said = r"the environment gives a mask, but only Discrete and MultiDiscrete actions have masks, not MultiBinary\(3\)"
    with pytest.raises(SettingError, match=said):
        find_mask(Buttons(where), "auto")
    assert find_mask(Buttons(where), None) is None


def test_a_mask_of_real_zeros_and_ones_is_taken_and_a_half_is_not() -> None:
    assert flattened(np.array([0.0, 1.0])).dtype == np.int8
    assert flattened((np.array([1.0]), np.array([0.0, 1.0]))).tolist() == [1, 0, 1]
    for odd in (0.5, np.nan, -1.0):
        assert flattened(np.array([odd, 1.0])).dtype == float
    vector = MasksSeen(SyncVectorEnv([Rules]))
    for mask, seen in (([0.0, 1.0, 1.0], [0, 1, 1]), ([0.5, 1.0, 1.0], [-1, -1, -1])):
        info = {"action_mask": np.array([mask])}
        assert vector.seen(np.zeros((1, 2)), info, np.zeros(1, bool))["action_mask"].tolist() == [seen]
