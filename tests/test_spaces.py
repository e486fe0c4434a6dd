"""What is let in of an environment's observations, what is refused, and what the policy sees of them."""

import json
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlgrad.agents.rollouts import play
from rlgrad.environments import GymnasiumEnvironments, VectorEnvironments, make
from rlgrad.environments.spaces import ObservationReader, described, difference, pictures, space_from, visible_space
from rlgrad.errors import RunError, SettingError
from rlgrad.streams import Purpose, streams
from tests.test_rollouts import policy

INNER = spaces.Dict(
    {"level": spaces.Discrete(3, start=5), "flags": spaces.MultiBinary(2), "n": spaces.Box(0, 9, (), int)}
)
NESTED = spaces.Dict({"z": INNER, "a": spaces.Tuple((spaces.Discrete(2), spaces.Box(-1, 1, (2, 3), np.float64)))})
SPACES = [
    NESTED, INNER, spaces.Discrete(4, start=-1), spaces.MultiDiscrete([[3, 2], [2, 4]]), spaces.MultiBinary((2, 2)),
    spaces.Box(-1, 1, (), np.float64), spaces.Box(-1, 1, (2, 3), np.float32), spaces.Box(-1, 1, (3,), np.float64),
]  # fmt: skip


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_policy_sees_what_gymnasium_s_flatten_makes_of_it(space: spaces.Space) -> None:
    space.seed(0)
    drawn = [space.sample() for _ in range(5)]
    expected = np.array([spaces.flatten(space, one) for one in drawn])
    reader = ObservationReader(space)
    np.testing.assert_array_equal(reader.read(drawn), expected)
    batch = gymnasium.vector.utils.create_empty_array(space, 5)
    np.testing.assert_array_equal(reader.read_batch(gymnasium.vector.utils.concatenate(space, drawn, batch)), expected)


class Says(gymnasium.Env):
    """Observations as they are told: the first three are of the space, and then comes another."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space, other: Any, over: bool = False):
        self.observation_space, self.other, self.over = space, other, over
        space.seed(0)
        self.good = space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.good, {}

    def step(self, action):
        self.t += 1
        return (self.other if self.t == 3 else self.good), 1.0, self.over and self.t == 3, self.t == 9, {}


gymnasium.register("tests/Says-v0", Says)
BOX, MATRIX = spaces.Box(-9, 9, (3,), np.float32), spaces.Box(-9, 9, (2, 3), np.float32)
PARTS = spaces.Dict({"a": spaces.Box(-9, 9, (1,), np.float32), "b": spaces.Tuple((BOX, spaces.Discrete(4)))})


def of(a: Any = (0.0,), b: Any = (0.0, 0.0, 0.0), c: Any = 0) -> dict:
    return {"a": np.float32(a), "b": (np.float32(b), c)}


WRONG = [
    (spaces.Discrete(4), -1, "-1 of int"),
    (spaces.Discrete(4), 4, "4 of int"),
    (spaces.Discrete(4, start=2), 1, "1 of int"),
    (spaces.Discrete(4), 1.0, "1.0 of float"),
    (spaces.Discrete(4), np.array([1]), r"an array \(1,\) of int64, \[1\]"),
    (spaces.Discrete(4), "1", "'1' of str"),
    (spaces.Discrete(4), None, "None"),
    (spaces.MultiDiscrete([3, 3]), np.array([3, 1]), r"\[3, 1\]"),
    (spaces.MultiDiscrete([3, 3]), np.array([0, -1]), r"\[0, -1\]"),
    (spaces.MultiBinary(2), np.array([0, 2]), r"\[0, 2\]"),
    (spaces.MultiBinary(2), np.array([0.5, 1]), "float64"),
    (BOX, np.float32([7]), r"\(1,\) of float32"),
    (BOX, 7.0, "7.0 of float"),
    (BOX, np.zeros((3, 1)), r"\(3, 1\) of float64"),
    (BOX, (np.zeros(3), {}), "of tuple"),
    (BOX, np.array(["a", "b", "c"]), "<U1"),
    (BOX, np.zeros(3, complex), "complex128"),
    (MATRIX, np.zeros((3, 2)), r"\(3, 2\) of float64"),
    (MATRIX, np.zeros(6), r"\(6,\) of float64"),
    (spaces.Box(0, 255, (3,), np.uint8), np.array([0, 300, 0]), r"\[0, 300, 0\]"),
    (spaces.Box(0, 5, (2,), np.int64), np.array([100, 1]), r"\[100, 1\]"),
    (spaces.Box(0, 5, (2,), np.uint8), np.array([100, 1], np.uint8), r"\[100, 1\]"),
    (spaces.Box(0, 255, (3,), np.uint8), np.array([0, 0.5, 0]), "float64"),
    (spaces.Box(0, 255, (16, 16, 3), np.uint8), np.zeros((3, 16, 16), np.uint8), r"\(3, 16, 16\) of uint8"),
    (PARTS, of(a=(0.0, 1.0)), r"the part a is an array \(2,\)"),
    (PARTS, of(b=(0.0,)), r"the part b\.0 is an array \(1,\)"),
    (PARTS, of(c=9), r"the part b\.1 is 9 of int, and must be of Discrete\(4\)"),
    (PARTS, {"a": np.float32([0])}, r"the part b\.0 is {'a'"),
    (PARTS, np.zeros(7), "the part a is an array"),
    (PARTS, of(b=(0.0, np.nan, 0.0)), r"not finite in the part b\.0"),
    (BOX, np.float32([0, 0, np.inf]), "not finite"),
    (
        PARTS,
        {"a": np.float32([0]), "b": (np.zeros(3), 0, 0)},
        r"the part b is \(array.* of tuple, and must be of Tuple",
    ),
    (BOX, np.ma.array(np.zeros(3, np.float32), mask=[0, 1, 0]), r"of float32, \[0\.0, None, 0\.0\]"),
    (PARTS, [np.zeros(1), np.zeros(3), 0], "the part a is .* of list"),
]


@pytest.mark.parametrize(("space", "other", "said"), WRONG)
@pytest.mark.parametrize("copies", [1, 3])
def test_an_observation_that_is_none_of_its_space_is_refused(space: Any, other: Any, said: str, copies: int) -> None:
    environments = GymnasiumEnvironments("tests/Says-v0", 2 * copies, {"space": space, "other": other})
    environments.reset(streams(0, 2, Purpose.SAMPLE))
    for _ in range(2):
        environments.step(np.zeros(2 * copies, int))
    with pytest.raises(RunError, match=rf"an observation that .*{said}.*\(replica 0, episode 0, step 3\)") as refusal:
        environments.step(np.zeros(2 * copies, int))
    assert "\n" not in str(refusal.value)


def test_the_copy_that_is_wrong_is_the_one_that_is_named() -> None:
    for other in (np.float32([1]), np.array(["a", "b", "c"])):
        environments = GymnasiumEnvironments("tests/Says-v0", 6, {"space": BOX, "other": BOX.sample()})
        environments.reset(streams(0, 2, Purpose.SAMPLE))
        environments.copies[4].unwrapped.good = other
        with pytest.raises(RunError, match=r"\(replica 1, episode 1, step 1\)"):
            environments.step(np.zeros(6, int))


def test_what_is_only_of_another_width_is_let_in_and_so_is_what_is_beyond_a_bound() -> None:
    for space, other in (
        (BOX, np.array([20.0, 0.0, 0.0])), (BOX, [1, 2, 3]), (BOX, np.array([True, False, True])),
        (spaces.Discrete(4), np.int8(2)), (spaces.Discrete(4), np.array(2)), (spaces.Discrete(2), True),
        (spaces.Box(0, 255, (3,), np.uint8), np.array([0, 255, 0])), (spaces.MultiBinary(2), np.array([True, False])),
    ):  # fmt: skip
        found = ObservationReader(space).read([other])
        expected = spaces.flatten(space, int(other) if isinstance(space, spaces.Discrete) else other)
        np.testing.assert_array_equal(found, [expected])


def test_whole_numbers_are_not_rounded() -> None:
    seconds, other = 1_700_000_000 + np.arange(4), np.arange(4)
    for space, said in (
        (spaces.Box(0, 2**40, (1,), np.int64), [{"a": one[None]} for one in seconds]),
        (spaces.Box(-(2**40), 0, (1,), np.int64), [{"a": -one[None]} for one in seconds]),
    ):
        found = ObservationReader(spaces.Dict({"a": space})).read(said)
        assert np.abs(found[:, 0]).tolist() == seconds.tolist()
    assert ObservationReader(spaces.Box(0, 2**24, (), np.int64)).read(list(other)).dtype == np.float32


def test_what_follows_an_end_may_be_anything_of_the_right_shape() -> None:
    nothing = np.full(3, np.nan, np.float32)
    environments = GymnasiumEnvironments("tests/Says-v0", 2, {"space": BOX, "other": nothing, "over": True})
    played = play(_three(), environments, streams(0, 1, Purpose.SAMPLE), 2)
    assert played.length.tolist() == [[3, 3]]


def _three() -> Any:
    return policy(3, 1)


def test_what_is_no_picture_is_one_vector() -> None:
    for box in (
        spaces.Box(0, 255, (7, 7, 3), np.uint8), spaces.Box(0, 1, (10, 10), np.uint8), spaces.Box(0, 1, (50, 8)),
        spaces.Box(-1, 1, (24, 24)), spaces.Box(0, np.inf, (24, 24)), spaces.Box(0, 255, (128,), np.uint8),
    ):  # fmt: skip
        assert visible_space(box) == spaces.flatten_space(box)
        assert pictures(box) == pictures(spaces.Dict(x=box)) == []


class Counts(gymnasium.Env):
    """Counts its steps, in a Dict or in a Tuple, up to 3 or 4 as its seed has it."""

    action_space = spaces.Discrete(2)

    def __init__(self, kind: str = "dict"):
        self.kind, parts = kind, (spaces.Box(-1, 99, (1,), np.float32), spaces.Discrete(9))
        self.observation_space = spaces.Dict(t=parts[0], k=parts[1]) if kind == "dict" else spaces.Tuple(parts)

    def _seen(self) -> Any:
        t = np.float32([self.t])
        return {"t": t, "k": self.t} if self.kind == "dict" else (t, self.t)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.end = 0, 3 + int(self.np_random.integers(2))
        return self._seen(), {}

    def step(self, action):
        self.t += 1
        return self._seen(), float(self.t), False, self.t == self.end, {}


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("kind", ["dict", "tuple"])
def test_each_way_of_going_on_shows_the_last_observation_of_dicts_and_tuples(kind: str, mode: AutoresetMode) -> None:
    copies = [lambda: Counts(kind)] * 4
    environments = VectorEnvironments(lambda _: SyncVectorEnv(copies, autoreset_mode=mode), 2, 4)
    played = play(policy(10), environments, streams(0, 2, Purpose.SAMPLE), 4)
    assert played.length.unique().tolist() == [3, 4]
    for replica in range(2):
        ends = played.reward[replica][played.over[replica]]  # the number of the last step, in the order of the rows
        for last, t in zip(played.last_observation[replica], ends.tolist(), strict=False):
            one_hot = np.eye(9)[int(t)].tolist()
            assert last.tolist() == [t, *one_hot]


def vector_of(observation: Any = None, action: Any = None, copies: int = 0, **other: Any) -> Any:
    def vector(num_envs: int = 1, **options: Any) -> Any:
        made = SyncVectorEnv([lambda: Says(observation or BOX, None)] * (copies or num_envs))
        made.single_action_space = action or made.single_action_space
        return made

    return vector


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"observation": spaces.Box(-9, 9, (4,), np.float32)}, r"other observations .*\(4,\).*not Box.*\(3,\)"),
        ({"observation": spaces.Discrete(3)}, "other observations"),
        ({"observation": spaces.Dict(a=BOX)}, "other observations .*the part a"),
        ({"action": spaces.Discrete(3)}, r"other actions .*Discrete\(3\), not Discrete\(2\)"),
        ({"action": spaces.Discrete(2, start=1)}, "other actions"),
        ({"action": spaces.Box(-1, 1, (1,))}, "other actions"),
        ({"copies": 3}, "has 3 copies, not 2"),
    ],
)
def test_a_vector_form_that_is_not_that_of_the_environment_is_refused(other: dict, said: str) -> None:
    def one() -> Says:
        return Says(BOX, BOX.sample())

    for vector, wrong in ((vector_of(**other), True), (vector_of(), False)):
        gymnasium.register("tests/Vector-v0", one, vector_entry_point=vector)
        try:
            if wrong:
                with pytest.raises(SettingError, match=said):
                    make("tests/Vector-v0", 1, 2, options={}, simulator="vector")
            else:
                make("tests/Vector-v0", 1, 2, options={}, simulator="vector")
        finally:
            del gymnasium.registry["tests/Vector-v0"]


class Writes(gymnasium.Env):
    """Writes into the actions that it gets, having kept what they were."""

    observation_space, action_space = spaces.Box(-9, 9, (1,), np.float32), spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.got: list[list[float]] = []
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.got.append(action.tolist())
        action[:] = 7
        return np.zeros(1, np.float32), 0.0, len(self.got) == 6, False, {}


@pytest.mark.parametrize("simulator", ["gymnasium", "vector"])
@pytest.mark.parametrize("held", [1, 3])
def test_an_environment_that_writes_into_its_action_changes_nothing_of_ours(simulator: Any, held: int) -> None:
    def vector(num_envs: int = 1) -> Any:
        made = SyncVectorEnv([Writes] * num_envs)
        step = made.step
        made.step = lambda actions: (step(actions), actions.fill(7))[0]  # as one in C might
        return made

    gymnasium.register("tests/Writes-v0", Writes, vector_entry_point=vector)
    try:
        environments: Any = make("tests/Writes-v0", 1, 2, options={}, simulator=simulator, action_repeat=held)
    finally:
        del gymnasium.registry["tests/Writes-v0"]
    inner = environments.inner if held > 1 else environments
    copies = inner.copies if simulator == "gymnasium" else inner.each[0].envs
    environments.reset(streams(0, 1, Purpose.SAMPLE))
    action = np.array([[0.25, 0.5], [-0.25, -0.5]], np.float32)
    for _ in range(6 // held - (simulator == "vector")):
        environments.step(action)
    assert action.tolist() == [[0.25, 0.5], [-0.25, -0.5]]
    for copy, own in zip(copies, action.tolist(), strict=True):
        assert copy.unwrapped.got
        assert all(got == own for got in copy.unwrapped.got)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([2, 3], start=[1, -1]),
        spaces.MultiBinary([2, 2]),
        spaces.Box(np.array([0, -np.inf], np.float32), np.array([1, 2], np.float32)),
        spaces.Dict({"b": spaces.Box(0, 255, (2, 3), np.uint8), "a": spaces.Tuple([spaces.Discrete(2)])}),
    ],
)
def test_a_space_is_the_same_after_it_was_written_down(space: Any) -> None:
    assert space_from(json.loads(json.dumps(described(space)))) == space


def test_what_makes_two_spaces_hold_other_things() -> None:
    real, other = spaces.Box(0, 1, (2,), np.float32), spaces.Box(0, 2, (2,), np.float64)
    assert difference(real, real, bounds=True) is None
    assert difference(real, other, bounds=False) is None
    assert difference(real, other, bounds=True)
    assert difference(real, spaces.Box(0, 1, (2,), np.int64), bounds=False)
    assert difference(real, spaces.Box(0, 1, (3,)), bounds=False)
    assert difference(spaces.Dict(a=real), spaces.Dict(b=real), bounds=False)
    assert difference(spaces.Dict(a=real), spaces.Dict(a=real, b=real), bounds=False)


class Several(gymnasium.vector.VectorEnv):
    """Three copies that return what they are told instead of observations, rewards, ends and info."""

    num_envs, single_observation_space, single_action_space = 3, BOX, spaces.Discrete(2)

    def __init__(self, mode: AutoresetMode, first: Any = None, **parts: Any):
        self.metadata, self.first = {"autoreset_mode": mode}, first
        ends = {"terminated": np.ones(3, bool), "truncated": np.zeros(3, bool)}
        self.parts = {"seen": np.zeros((3, 3), np.float32), "reward": np.ones(3)} | ends | {"info": {}} | parts

    def reset(self, *, seed=None, options=None):
        return (np.zeros((3, 3), np.float32), {}) if self.first is None else self.first

    def step(self, actions):
        return tuple(each for each in self.parts.values() if each is not None)


NEXT, SAME = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP


@pytest.mark.parametrize(
    ("mode", "parts", "said"),
    [
        (NEXT, {"reward": np.ones((3, 1))}, r"rewards is an array of shape \(3, 1\) of float64, and must be numbers"),
        (NEXT, {"reward": np.array(["1"] * 3)}, "rewards is .* of <U1"),
        (NEXT, {"reward": np.ones(3, object)}, "rewards is .* of object"),
        (NEXT, {"reward": 1.0}, r"rewards is an array of shape \(\)"),
        (NEXT, {"terminated": np.ones(3, int)}, "terminated is .* of int64, and must be True and False"),
        (NEXT, {"truncated": np.zeros((3, 1), bool)}, r"truncated is an array of shape \(3, 1\)"),
        (NEXT, {"truncated": np.zeros(2, bool)}, r"truncated is an array of shape \(2,\)"),
        (NEXT, {"truncated": None}, "step returns 4 values"),
        (NEXT, {"seen": np.zeros((2, 3), np.float32)}, "3 copies return 2 observations"),
        (NEXT, {"first": np.zeros((3, 3), np.float32)}, r"reset returns an array of shape \(3, 3\)"),
        (SAME, {}, r"with SAME_STEP, info\['final_obs'\] must have the last observations"),
        (SAME, {"info": {"final_obs": np.full(3, None)}}, r"is None .*\(replica 1, episode 0, step 1\)"),
        (SAME, {"info": {"final_obs": np.zeros((3, 3), object)}}, r"of object, .*\(replica 1, episode 0, step 1\)"),
        (NEXT, {"reward": [1, 2, 3], "terminated": [True] * 3}, None),
        (SAME, {"info": {"final_obs": np.zeros((3, 3))}}, None),
    ],
)
def test_a_vector_environment_that_returns_something_else_is_refused(mode: Any, parts: dict, said: str | None) -> None:
    given = iter([Several(mode), Several(mode, **parts)])  # only the second replica's is odd
    if mode == SAME:
        given = iter([Several(mode, info={"final_obs": np.zeros((3, 3))}), Several(mode, **parts)])
    environments = VectorEnvironments(lambda _: next(given), 2, 3)

    def rewards() -> list[float]:
        environments.reset(streams(0, 2, Purpose.SAMPLE))
        return environments.step(np.zeros(6, int)).reward.tolist()

    if said is None:
        assert rewards() == [1, 1, 1, *parts.get("reward", [1, 1, 1])]
        return
    with pytest.raises(RunError, match=said):
        rewards()


def test_what_torch_has_no_precision_for_is_read_in_double() -> None:
    box = spaces.Box(-1, 1, (2,), np.longdouble)  # type: ignore[arg-type]
    assert ObservationReader(box).read([np.full(2, 0.1, np.longdouble)]).dtype == np.float64
    assert ObservationReader(spaces.Dict({"a": box})).read([{"a": np.full(2, 0.1, np.longdouble)}]).dtype == np.float64
