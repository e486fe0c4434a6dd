import gymnasium
import numpy as np
import pytest

from rlgrad.cli import main
from rlgrad.environments import CartPole, GymnasiumEnvironments, describe, make
from rlgrad.settings import SettingError
from rlgrad.streams import Purpose, streams


def test_cartpole_is_gymnasium_s_step_for_step() -> None:
    rng = np.random.default_rng(0)
    ours = CartPole(12)
    first = ours.reset(streams(0, 3, Purpose.SAMPLE))
    theirs = [gymnasium.make("CartPole-v1") for _ in range(12)]
    for env, state in zip(theirs, ours.state.T, strict=True):
        env.reset()
        env.unwrapped.state = tuple(state)
    assert (np.abs(first) <= 0.05).all()
    alive, ends = np.ones(12, bool), 0
    for t in range(500):
        # a controller that holds the pole up in the first copies, and less and less well in the others
        good = (ours.state[2] + 0.3 * ours.state[3] + 0.02 * ours.state[0] + 0.05 * ours.state[1] > 0).astype(np.int64)
        action = np.where(rng.random(12) < np.linspace(0, 0.5, 12), rng.integers(2, size=12), good)
        observation, reward, terminated, truncated = ours.step(action)
        for k in np.flatnonzero(alive):
            expected = theirs[k].step(action[k])
            np.testing.assert_allclose(observation[k], expected[0], rtol=0, atol=1e-6)
            assert (reward[k], terminated[k], truncated[k]) == expected[1:4], f"copy {k}, step {t}"
        ends += int((alive & terminated).sum())
        alive &= ~(terminated | truncated)
    assert not alive.any()
    assert 0 < ends < 12  # both kinds of end were seen


@pytest.mark.parametrize("simulator", ["auto", "gymnasium", "vector", "envpool"])
def test_what_a_replica_plays_does_not_depend_on_the_others(simulator: str) -> None:
    if simulator == "envpool":
        pytest.importorskip("envpool")

    def played(replicas: int) -> np.ndarray:
        copies = make("CartPole-v1", replicas, 2, options={}, simulator=simulator)
        seen = [copies.reset(streams(3, replicas, Purpose.SAMPLE))]
        seen += [copies.step(np.ones(2 * replicas, dtype=np.int64)).observation for _ in range(5)]
        return np.stack(seen)[:, :2]

    np.testing.assert_array_equal(played(1), played(4))


def test_options_go_to_gymnasium_s_environment() -> None:
    copies = make("CartPole-v1", 1, 1, options={"sutton_barto_reward": True})
    assert isinstance(copies, GymnasiumEnvironments)
    copies.reset(streams(0, 1, Purpose.SAMPLE))
    assert copies.step(np.zeros(1, dtype=np.int64)).reward == 0


@pytest.mark.parametrize(
    ("id", "options", "said"),
    [
        ("CartPol-v1", {}, "CartPole-v1"),
        ("CartPole-v1", {"colour": "red"}, "colour"),
        ("nosuch:Thing-v0", {}, "nosuch"),
    ],
)
def test_an_environment_that_cannot_be_made_is_refused(id: str, options: dict, said: str) -> None:
    with pytest.raises(SettingError, match=said) as refusal:
        describe(id, options)
    assert "\n" not in str(refusal.value)


def test_check_says_what_the_suite_sees(capsys: pytest.CaptureFixture) -> None:
    assert main(["check", "CartPole-v1"]) == 0
    found = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    found = {name: text.strip() for name, text in found.items()}
    assert found["the policy sees"] == "a vector of 4"
    assert found["actions"] == "Discrete(2)"
    assert found["time limit"] == "500 steps, then truncated"
    assert found["counts as solved"] == "a mean return of 475"
    assert found["played by"] == "our own vectorized form"
    assert found["autoreset"] == "NEXT_STEP"
    assert found["Gymnasium's own check"] == "passes"
    assert int(found["steps per second, 64 at once"].replace(",", "")) > 0


def test_check_names_what_no_policy_serves_and_what_gymnasium_finds_wrong(capsys: pytest.CaptureFixture) -> None:
    assert main(["check", "tests/Levers-v0"]) == 0
    assert "no policy serves these actions" in capsys.readouterr().out
    assert main(["check", "tests/Texts-v0"]) == 0
    assert "nothing: Text" in capsys.readouterr().out
    assert main(["check", "tests.environments:tests/Countdown-v0"]) == 0
    assert "passes" in capsys.readouterr().out
    for wrong in ("CartPol-v1", "nosuch:Thing-v0"):
        assert main(["check", wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1
