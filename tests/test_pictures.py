"""Pictures: which observations are read as such, what networks see of them, how a rollout keeps them, and a lesson."""

import itertools
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn

import rlgrad
import rlgrad.loop
from rlgrad.agents.pictures import Sight
from rlgrad.cli import main
from rlgrad.config import load_config
from rlgrad.environments.spaces import ObservationReader, pictures, visible_space
from rlgrad.errors import UsageError
from rlgrad.streams import Purpose, streams

BYTES = np.uint8
FORMS = [  # shape, type, brightest -> the axes of channels, height and width; None: a vector; "?": refused
    ((24, 24, 1), BYTES, 255, (2, 0, 1)), ((1, 24, 24), BYTES, 255, (0, 1, 2)), ((24, 24), BYTES, 255, (0, 1)),
    ((4, 24, 24), BYTES, 255, (0, 1, 2)), ((4, 24, 30, 3), BYTES, 255, (0, 3, 1, 2)), ((4, 3, 24, 30), BYTES, 255, (0, 1, 2, 3)),
    ((24, 24, 3), np.float32, 1, (2, 0, 1)), ((3, 24, 24), np.float64, 255, (0, 1, 2)), ((24, 24), np.float32, 1, (0, 1)),
    ((24, 30, 3), np.int64, 255, (2, 0, 1)), ((8, 8), BYTES, 255, (0, 1)), ((8, 8, 3), BYTES, 9, (2, 0, 1)),
    ((9, 120, 160), BYTES, 255, (0, 1, 2)), ((12, 8, 8), BYTES, 255, (0, 1, 2)), ((10, 10, 12), BYTES, 255, (2, 0, 1)),
    ((7, 8, 3), BYTES, 255, None), ((8, 7, 3), BYTES, 255, None), ((10, 10), BYTES, 1, None), ((8, 8, 111), BYTES, 1, None),
    ((8, 8), np.float32, 1, None), ((50, 8), np.float32, 1, None), ((24, 24, 3), np.float32, 7, None), ((128,), BYTES, 255, None),
    ((8, 9, 16), BYTES, 255, "?"), ((12, 12, 12), BYTES, 255, "?"), ((8, 8, 17), BYTES, 255, "?"), ((24, 3, 24), BYTES, 255, "?"),
    ((2, 2, 3, 24, 24), BYTES, 255, "?"), ((0, 24, 3), BYTES, 255, None), ((24, 24, 0), np.float32, 1, None),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "dtype", "high", "axes"), FORMS)
def test_a_picture_is_known_by_its_shape_and_its_bounds_and_refused_where_it_might_be_meant_otherwise(
    shape: tuple, dtype: Any, high: float, axes: Any
) -> None:
    box = spaces.Box(0, high, shape, dtype)
    for space, path in ((box, ()), (spaces.Dict(x=spaces.Discrete(3), eye=box), ("eye",))):
        if axes == "?":
            with pytest.raises(TypeError, match=rf"^{'the part eye ' * bool(path)}Box.* set pictures: channels_first"):
                pictures(space)
            assert pictures(space, "none") == []
        else:
            assert [(each.path, each.axes) for each in pictures(space)] == ([] if axes is None else [(path, axes)])


def test_a_form_that_is_not_recognised_can_be_told() -> None:
    box = spaces.Box(-1, 1, (8, 9, 16))
    assert [each.shape for each in pictures(box, "channels_first")] == [(8, 9, 16)]
    assert [each.shape for each in pictures(box, "channels_last")] == [(16, 8, 9)]
    assert pictures(box) == []


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("shape", "order"), [
    ((10, 13, 3), "nchw<-nhwc"), ((3, 10, 13), ""), ((10, 13), "grey"), ((2, 10, 13, 3), "stack"),
])  # fmt: skip
@pytest.mark.parametrize("filters", [None, [(5, 4, 3)]])
def test_each_replica_sees_what_torch_s_convolutions_see(shape: tuple, order: str, dtype: Any, filters: Any) -> None:
    box = spaces.Box(0, 255, shape, dtype) if dtype == np.uint8 or len(shape) > 2 else spaces.Box(0, 1, (16, 16), dtype)
    parts = spaces.Dict(a=spaces.Box(-9, 9, (2,), np.float32), eye=box, z=spaces.Discrete(2))
    for space in (box, parts):
        space.seed(0)
        drawn = [space.sample() for _ in range(6)]
        reader, sight = (
            ObservationReader(space),
            Sight(visible_space(space), pictures(space), streams(0, 2, Purpose.INITIAL), filters),
        )
        seen = torch.from_numpy(reader.read(drawn)).reshape(2, 3, 1, *reader.seen.shape)
        found = sight(seen.transpose(1, 2)).reshape(2, 3, -1)
        for replica in range(2):
            own = drawn[3 * replica : 3 * replica + 3]
            x = (
                torch.tensor(np.array([one["eye"] if isinstance(one, dict) else one for one in own])).float()
                / box.high.max()
            )
            x = {"grey": lambda x: x[:, None], "stack": lambda x: x.permute(0, 1, 4, 2, 3).flatten(1, 2),
                 "nchw<-nhwc": lambda x: x.permute(0, 3, 1, 2), "": lambda x: x}[order](x)  # fmt: skip
            for layer, (count, size, stride) in enumerate(filters or [(16, 3, 2), (32, 3, 2)]):
                below, right = ((-(side - size)) % stride for side in x.shape[-2:])
                conv = nn.Conv2d(x.shape[1], count, size, stride)
                with torch.no_grad():
                    conv.weight.copy_(sight.each[0].weights[layer][replica])
                    conv.bias.copy_(sight.each[0].biases[layer][replica])
                x = conv(nn.ZeroPad2d((0, right, 0, below))(x)).relu()
            expected = x.flatten(1)
            if space is parts:
                rest = [[*one["a"], one["z"] == 0, one["z"] == 1] for one in own]
                expected = torch.cat([torch.tensor(rest, dtype=torch.float32), expected], 1)
            torch.testing.assert_close(found[replica], expected, atol=1e-5, rtol=1e-5)
        assert found.shape[-1] == sight.features


def test_what_is_not_seen_is_looked_at_once_and_its_features_are_those_of_a_blank_picture() -> None:
    box = spaces.Box(1, 255, (9, 9, 1), np.uint8)
    sight = Sight(box, pictures(box), streams(0, 1, Purpose.INITIAL))
    x = torch.randint(1, 255, (1, 4, 2, 9, 9, 1), dtype=torch.uint8)
    x[:, 2:, 1] = 0
    each = torch.stack([sight.features_of(one.reshape(1, -1), 0) for one in x.flatten(0, 2)]).reshape(1, 4, 2, -1)
    torch.testing.assert_close(sight(x), each)
    weights = torch.randn_like(each)
    for one, other in zip(
        *(torch.autograd.grad((f * weights).sum(), list(sight.parameters())) for f in (sight(x), each)), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_large_pictures_have_the_filters_of_the_paper() -> None:
    box = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    made = Sight(box, pictures(box), streams(0, 1, Purpose.INITIAL))
    assert [tuple(weight.shape[1:]) for weight in made.each[0].weights] == [
        (32, 4, 8, 8),
        (64, 32, 4, 4),
        (64, 64, 3, 3),
    ]
    assert made.features == 64 * 7 * 7


class Dot(gymnasium.Env):
    """A dot in one of four corners of a picture, and somewhere else at every step: who names its corner earns 1, six
    times. The pictures come in any form; a stack shows the last ones, and a vector how many steps are left."""

    action_space = spaces.Discrete(4)

    def __init__(self, form: str = "hwc"):
        self.form = form
        self.box = {
            "hwc": spaces.Box(0, 255, (12, 12, 1), BYTES), "stack": spaces.Box(0, 255, (3, 12, 12), BYTES),
            "float": spaces.Box(0, 1, (16, 16), np.float32), "dict": spaces.Box(0, 255, (3, 12, 12), BYTES),
            "bytes": spaces.Box(0, 255, (3, 12, 12), BYTES),
        }[form]  # fmt: skip
        self.observation_space = self.box
        if form in ("dict", "bytes"):
            self.observation_space = spaces.Dict(eye=self.box)
        if form == "dict":
            self.observation_space = spaces.Dict(eye=self.box, left=spaces.Box(0, 6, (1,), np.float32))

    def _seen(self) -> Any:
        side = self.box.shape[1]
        frame = np.zeros((side, side), self.box.dtype)
        self.corner = int(self.np_random.integers(4))
        row, column = divmod(self.corner, 2)
        frame[1 + row * (side - 4) :, 1 + column * (side - 4) :][:2, :2] = self.box.high.max()
        frame[int(self.np_random.integers(side)), 5:7] = self.box.high.max() / 4  # something else moves too
        self.frames = [*self.frames, frame][-3:]
        stack = [np.zeros_like(frame)] * (3 - len(self.frames)) + self.frames
        if self.form in ("dict", "bytes"):
            return {"eye": np.array(stack)} | ({"left": np.float32([6 - self.t])} if self.form == "dict" else {})
        return {"hwc": frame[..., None], "float": frame, "stack": np.array(stack)}[self.form]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.frames = 0, []
        self.end = 3 + int(self.np_random.integers(4))
        return self._seen(), {}

    def step(self, action):
        reward = float(action == self.corner)
        self.t += 1
        return self._seen(), reward, self.t == self.end, False, {}


gymnasium.register("tests/Dot-v0", Dot)


def settings(form: str, **other: Any) -> dict[str, Any]:
    return {
        "problem": "reinforce", "environment": "tests/Dot-v0", "environment_options": {"form": form}, "episodes": 16,
        "updates": 24, "replicas": 2, "optimizer": {"name": "Adam", "lr": 0.01}, "evaluation": {"episodes": 20, "every_updates": 24},
    } | other  # fmt: skip


@pytest.mark.parametrize("form", ["hwc", "stack", "float", "dict", "bytes"])
@pytest.mark.parametrize("segment", [None, 20])
def test_a_rollout_gives_back_what_was_seen_and_keeps_each_frame_once(form: str, segment: int | None) -> None:
    extra = {"segment": segment, "baseline": "critic"} if segment else {}
    problem = load_config(settings(form, episodes=4, **extra)).build().problem
    told: list[np.ndarray] = []
    inner = ObservationReader._joined

    def listen(self: ObservationReader, columns: Any) -> np.ndarray:
        told.append(inner(self, columns))
        return told[-1].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ObservationReader, "_joined", listen)
        for step in range(2):
            first = len(told)
            batch = problem.sample(step)
    steps = [tuple(row) for seen in told[first:] for row in seen.reshape(len(seen), -1).tolist()]
    whole = batch.observation[:]
    assert whole.shape == batch.observation.shape == (*batch.alive.shape, *batch.last_observation.shape[2:])
    assert not whole[~batch.alive].any()
    alive = whole[batch.alive].flatten(1)
    if not segment:  # one observation before each step
        last = batch.last_observation.flatten(2)
        ends = [row for own, over in zip(last, batch.over, strict=True) for row in own[: int(over.sum())].tolist()]
        assert sorted(steps) == sorted(map(tuple, alive.tolist() + ends))
    torch.testing.assert_close(batch.observation[:, 3:7], whole[:, 3:7])
    if form in ("stack", "dict", "bytes"):
        count = int(batch.alive.sum())
        begun = int(batch.over.sum()) + 8 * 3  # with the frames that each slot begins a segment with
        assert batch.observation.frames[0].dtype == torch.uint8
        assert count <= len(batch.observation.frames[0]) <= 1 + count + begun
        some = batch.of(slice(1, 3))
        torch.testing.assert_close(some.observation[:], whole[:, :, 1:3])
        kept = sum(x.untyped_storage().nbytes() for x in batch.observation.frames)
        assert kept <= (1 + count + begun) * 12 * 12


class Slides(gymnasium.Env):
    """A stack of four frames of 84 x 84, each with its number in it, for 50 steps."""

    observation_space, action_space = spaces.Box(0, 255, (4, 84, 84), BYTES), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.stack = 0, np.zeros((4, 84, 84), BYTES)
        return self._next(), {}

    def _next(self) -> np.ndarray:
        self.t += 1
        self.stack = np.concatenate([self.stack[1:], np.full((1, 84, 84), self.t, BYTES)])
        return self.stack

    def step(self, action):
        return self._next(), 1.0, self.t == 50, False, {}


def test_the_frames_of_a_stack_take_a_quarter() -> None:
    gymnasium.register("tests/Slides-v0", Slides)
    try:
        problem = load_config(settings("hwc") | {"environment": "tests/Slides-v0", "environment_options": {}, "episodes": 2,
                                                 "policy": {"filters": [[4, 8, 8]]}}).build().problem  # fmt: skip
        batch = problem.sample(0)
    finally:
        del gymnasium.registry["tests/Slides-v0"]
    frames = batch.observation.frames[0]
    assert frames.shape == (1 + 2 * 2 * 49, 84 * 84)  # a blank one; two replicas, two episodes of 49 steps
    assert frames.untyped_storage().nbytes() + batch.observation.numbers[0].untyped_storage().nbytes() < 1.5e6
    assert batch.observation.shape == (2, 64, 2, 4, 84, 84)  # 7.2 million
    for t in (0, 1, 2, 3, 30, 48):
        shown = batch.observation[:, t : t + 1][..., 5, 5]
        assert shown.tolist() == [[[[max(0, t + k - 2) for k in range(4)]] * 2]] * 2


@pytest.mark.parametrize("form", ["hwc", "dict", "float"])
def test_a_dot_is_followed_and_the_run_is_used(form: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Each of the three to six steps is worth 1 to who sees: the best return is the number of steps, and at first a
    quarter of it is earned."""
    run = rlgrad.train(settings(form), out=tmp_path / "run")
    found = run.problem.evaluate(99)
    assert found["return"].tolist() == found["length"].tolist()
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert "return" in capsys.readouterr().out
    policy = rlgrad.load(tmp_path / "run", replica=1)
    env = policy.make_environment()
    for seed in range(5):
        seen, _ = env.reset(seed=seed)
        over = False
        while not over:
            action, _ = policy.predict(seen, deterministic=True)
            assert action == env.unwrapped.corner
            seen, _, over, _, _ = env.step(action)


def test_what_a_run_says_of_its_pictures(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    problem = load_config(settings("dict")).build().problem
    assert problem.facts["pictures that tests/Dot-v0 shows"] == "the part eye 12 x 12, 3 channels"
    assert "filters" not in str(problem.facts)
    small = {"policy": {"filters": [[2, 3, 3]]}}
    assert problem.model.policy.network[0].each[0].weights[0].shape[1] == 16
    problem = load_config(settings("dict") | small).build().problem
    assert [tuple(w.shape) for w in problem.model.policy.network[0].each[0].weights] == [(2, 2, 3, 3, 3)]
    plain = load_config(settings("dict", pictures="none") | small).build().problem
    assert "policy.filters" in plain.facts["settings without effect here"]
    assert plain.model.policy.network[0].inputs == 3 * 144 + 1
    for wrong, said in (
        ({"normalise_observations": True}, "normalise_observations: tests/Dot-v0 shows pictures, which are scaled"),
        (
            {"environment": "CartPole-v1", "environment_options": {}, "pictures": "channels_first"},
            "pictures: no part of the observations",
        ),
    ):
        with pytest.raises(UsageError, match=said):
            load_config(settings("dict") | wrong).build()
    assert main(["check", "tests/Dot-v0"]) == 0
    assert "a picture, 12 x 12, 1 channel" in capsys.readouterr().out


def test_what_a_picture_in_another_form_is_told(tmp_path: Path) -> None:
    class Odd(Dot):
        observation_space = spaces.Box(0, 255, (12, 12, 12), BYTES)

        def __init__(self) -> None:
            pass

    gymnasium.register("tests/Odd-v0", Odd)
    try:
        with pytest.raises(UsageError, match=r"environment: no policy can read .* set pictures: channels_first"):
            load_config(settings("hwc") | {"environment": "tests/Odd-v0", "environment_options": {}}).build()
    finally:
        del gymnasium.registry["tests/Odd-v0"]


def test_a_critic_has_convolutions_of_its_own_and_all_kinds_of_gradients_come_of_frames() -> None:
    for baseline in ("critic", "optimal_constant", "leave_one_out"):
        problem, optimizer, _ = load_config(
            settings("stack", baseline=baseline, episodes=4, diagnose_every_updates=1)
        ).build()
        for update in itertools.islice(rlgrad.loop.updates(problem, optimizer), 2):
            assert update.value.isfinite().all()
            assert problem.diagnose(update, torch.zeros(2))["policy/kl"].isfinite().all()
    assert load_config(
        settings("stack", baseline="critic", critic={"filters": [[3, 5, 5]]})
    ).build().problem.model.critic.network[0].each[0].weights[0].shape == (2, 3, 3, 5, 5)
