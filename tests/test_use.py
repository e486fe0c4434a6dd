"""What was learned is used: loaded from the run directory alone, kept on the way, begun with again, played, exported."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pandas
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

import rlgrad
from rlgrad import UsageError, load, resume, train
from rlgrad.agents.films import Show
from rlgrad.cli import main
from rlgrad.reports.exporting import ClassifierGraph, PolicyGraph, model_card
from rlgrad.reports.playing import play
from rlgrad.run import weights
from rlgrad.run.resuming import recorded_config
from tests.run.support import AGENT, CLASSIFIER, POINT, crashing, rows, summary

SMALL = AGENT | {"updates": 2, "evaluation": {"episodes": 3}}
STILL = {"name": "SGD", "lr": 1e-30}  # moves nothing


def one_line(capsys: pytest.CaptureFixture, *words: str) -> str:
    """What a command that is refused says."""
    capsys.readouterr()
    assert main(list(words)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


# Loading


def test_a_policy_says_what_its_weights_say_by_hand(tmp_path: Path) -> None:
    run = train(SMALL | {"normalise_observations": True}, out=tmp_path / "run")
    kept = {name: tensor[1].double().numpy() for name, tensor in load_file(tmp_path / "run/model.safetensors").items()}
    policy = load(tmp_path / "run", replica=1)
    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    deviation = np.sqrt(kept["policy.network.0.seen_squares"] / kept["policy.network.0.seen_count"])
    seen = np.clip((x - kept["policy.network.0.seen_mean"]) / deviation, -10, 10)
    for k in (0, 1):
        layer = f"policy.network.1.layers.{k}"
        seen = np.tanh(seen) if k else seen
        seen = seen @ kept[f"{layer}.weight"] + kept[f"{layer}.bias"]
    expected = np.exp(seen) / np.exp(seen).sum(1, keepdims=True)
    assert policy.distribution(x).probs[0].numpy() == pytest.approx(expected, abs=1e-6)
    action, state = policy.predict(x, state="kept", deterministic=True)
    assert action.tolist() == expected.argmax(1).tolist()
    assert state == "kept"
    assert [int(policy.predict(one, deterministic=True)[0]) for one in x] == action.tolist()
    drawn = np.mean([policy.predict(np.repeat(x[:1], 4000, 0))[0].mean()])
    assert drawn == pytest.approx(expected[0, 1], abs=0.04)
    assert "replica 1 of" in repr(policy)
    assert run.settings.replicas == 2


def test_stable_baselines_judges_a_policy_as_the_run_does(tmp_path: Path) -> None:
    evaluation = pytest.importorskip("stable_baselines3.common.evaluation", reason="stable-baselines3 is not installed")
    run = train(AGENT | {"updates": 3}, out=tmp_path / "run")
    policy = load(tmp_path / "run", replica=0)
    returns, lengths = evaluation.evaluate_policy(
        policy, policy.make_environment(), n_eval_episodes=30, warn=False, return_episode_rewards=True
    )
    assert returns == lengths
    found = run.problem.evaluate(99)["return"][0].item()
    assert np.mean(returns) == pytest.approx(found, rel=0.3)


@pytest.mark.parametrize(
    "name", ["Discrete", "MultiDiscrete", "Table", "MultiBinary", "Switches", "Box", "Open", "Image"]
)
def test_every_kind_of_space_is_served_from_the_directory_alone(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = f"tests/{name}-v0"
    train(SMALL | {"environment": id, "updates": 1, "schedule": None}, out=tmp_path / "run")
    made = gymnasium.make(id)
    first, _ = made.reset(seed=0)
    for file in (tmp_path / "run").iterdir():
        if file.name not in ("config.yaml", "model.safetensors"):
            file.unlink()
    monkeypatch.delitem(gymnasium.registry, id)
    policy = load(tmp_path / "run", replica=1)
    assert policy.observation_space == made.observation_space
    assert policy.action_space == made.action_space
    for deterministic in (True, False):
        assert made.action_space.contains(policy.predict(first, deterministic=deterministic)[0])
    batch = gymnasium.vector.utils.concatenate(
        made.observation_space, [first, first], gymnasium.vector.utils.create_empty_array(made.observation_space, 2)
    )
    both, _ = policy.predict(batch, deterministic=True)
    assert len(both) == 2
    assert all(np.allclose(each, policy.predict(first, deterministic=True)[0], atol=1e-6) for each in both)
    with pytest.raises(ValueError, match="has the shape"):
        policy.predict(np.zeros((2, 3, 4, 5)))
    with pytest.raises(rlgrad.errors.SettingError, match=f"no environment '{id}'"):
        policy.make_environment()


def test_a_classifier_is_used_on_the_table_s_own_units(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) * [1, 10, 100] + [5, 0, 7]
    y = np.where(x[:, 0] + x[:, 1] / 10 > 5, "yes", "no")
    x[rng.random(200) < 0.1, 1] = np.nan
    table = tmp_path / "table.csv"
    cells = [
        ",".join([*("" if np.isnan(v) else repr(float(v)) for v in row), label])
        for row, label in zip(x, y, strict=True)
    ]
    table.write_text("\n".join(["height,width,depth,answer", *cells]) + "\n")
    config = {"problem": "logistic", "data": str(table), "missing_values": "median_and_indicator", "updates": 20}
    config |= {"optimizer": {"name": "SGD", "lr": 0.3}, "test_data": str(table), "dtype": "float64"}
    train(config, out=tmp_path / "run")
    table.unlink()
    found = load(tmp_path / "run")
    imputed = SimpleImputer(strategy="median", add_indicator=True).fit_transform(x)
    kept = load_file(tmp_path / "run" / "model.safetensors")
    z = StandardScaler().fit_transform(imputed) @ kept["linear.weight"][0].numpy() + kept["linear.bias"][0].numpy()
    p = 1 / (1 + np.exp(-z[:, 0]))
    assert found.predict_proba(x) == pytest.approx(np.stack([1 - p, p], 1), abs=1e-12)
    assert found.classes_.tolist() == ["no", "yes"]
    assert found.predict(x).tolist() == np.where(p > 0.5, "yes", "no").tolist()
    assert (found.predict(x) == y).mean() > 0.85
    assert list(found.features) == ["height", "width", "depth"]
    with pytest.raises(ValueError, match=r"\[N, 3\]"):
        found.predict(x[:, :2])


def test_labels_are_those_of_the_source_and_missing_values_are_refused_where_the_run_did(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    for labels, positive, expected in ((("3", "-1"), None, [-1, 3]), (("a", "b", "c"), "b", ["not b", "b"])):
        table.write_text("".join(f"{k},{labels[k % len(labels)]}\n" for k in range(12)))
        config = {"problem": "logistic", "data": str(table), "positive": positive, "updates": 1, "optimizer": STILL}
        train(config, out=tmp_path / expected[1].__str__())
        found = load(tmp_path / str(expected[1]))
        assert found.classes_.tolist() == expected
        assert set(found.predict(np.zeros((1, 1))).tolist()) <= set(expected)
    with pytest.raises(ValueError, match="column 1: the value is missing"):
        found.predict([[np.nan]])


def test_the_best_replica_is_found_and_said(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = train(CLASSIFIER | {"optimizer": {"name": "Adam", "lr": 0.1}, "schedule": None}, out=tmp_path / "run")
    with torch.no_grad():
        for parameter in run.problem.model.parameters():
            parameter[0] = 0  # it predicts 1/3 for each class
    weights.save(tmp_path / "run" / "model.safetensors", run.problem, 6)
    found = load(tmp_path / "run")
    assert "replica 1 of" in capsys.readouterr().err
    assert "the best of 2 on the held-out examples (log loss" in found.origin
    assert load(tmp_path / "run", replica=0).predict_proba(np.ones((1, 4)))[0] == pytest.approx([1 / 3] * 3)
    agent = train(SMALL, out=tmp_path / "agent")
    with torch.no_grad():  # always left: a pole falls within a dozen steps
        for parameter in agent.problem.model.parameters():
            parameter[1] = 0
        agent.problem.model.policy.network[0].layers[1].bias[1, 0, 0] = 9
    weights.save(tmp_path / "agent" / "model.safetensors", agent.problem, 2)
    assert "replica 0 of" in load(tmp_path / "agent").origin
    assert "new episodes, other than those of the run (return" in capsys.readouterr().err


def test_objects_from_python_are_given_again(tmp_path: Path) -> None:
    def network(replicas: int) -> torch.nn.Module:
        from rlgrad.networks import MLP

        return MLP(4, 2, [3], [np.random.default_rng(k) for k in range(replicas)])

    class Pole(CartPoleEnv):
        pass

    run = train({key: value for key, value in SMALL.items() if key not in ("environment", "policy")}
                | {"episode_limit": 500}, out=tmp_path / "run", environment=Pole, policy=network(2))  # fmt: skip
    with pytest.raises(UsageError, match="made in Python: give it again"):
        load(tmp_path / "run", replica=0)
    policy = load(tmp_path / "run", replica=1, environment=Pole, policy=network(1))
    x = np.ones((3, 4), np.float32)
    expected = run.problem.model.policy(torch.ones(2, 3, 4)).probs[1]
    assert torch.allclose(policy.distribution(x).probs[0], expected)
    assert isinstance(policy.make_environment().unwrapped, Pole)


def test_actions_are_held_as_the_run_held_them(tmp_path: Path) -> None:
    train(SMALL | {"action_repeat": 3}, out=tmp_path / "run")
    made = load(tmp_path / "run", replica=0).make_environment()
    made.reset(seed=1)
    plain = gymnasium.make("CartPole-v1")
    plain.reset(seed=1)
    found = made.step(1)
    each = [plain.step(1) for _ in range(3)]
    assert np.array_equal(found[0], each[-1][0])
    assert found[1] == 3
    while not found[2]:
        found = made.step(1)
    assert 1 <= found[1] <= 3


# What is kept on the way


def test_weights_are_kept_and_the_best_of_each_replica(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = AGENT | {"keep": {"every_updates": 2, "best": True}}
    train(config, out=tmp_path / "run")
    train(AGENT | {"updates": 4}, out=tmp_path / "shorter")
    kept = tmp_path / "run" / "kept"
    assert {path.name for path in kept.iterdir()} == {
        "2.safetensors",
        "4.safetensors",
        "6.safetensors",
        "best.safetensors",
    }
    expected = load_file(tmp_path / "shorter" / "model.safetensors")
    assert all(torch.equal(t, expected[name]) for name, t in load_file(kept / "4.safetensors").items())
    returns = {row["update"]: row["evaluation/return"] for row in rows(tmp_path / "run") if "evaluation/return" in row}
    with safe_open(kept / "best.safetensors", "pt") as file:
        chosen = json.loads(file.metadata()["rlgrad"])["update"]
    for k in (0, 1):
        best = max(returns, key=lambda update: (returns[update][k], -update))  # the first of equals
        assert chosen[k] == best
        of_that = load_file(kept / f"{best}.safetensors")
        assert all(torch.equal(t[k], of_that[name][k]) for name, t in load_file(kept / "best.safetensors").items())
        assert f"after {best} updates" in load(tmp_path / "run", replica=k, update="best").origin
    assert main(["evaluate", str(tmp_path / "run"), "--update", "4"]) == 0
    first = capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "shorter"), "--episode-seed", "3"]) == 0  # the same episodes
    assert capsys.readouterr().out == first
    said = one_line(capsys, "evaluate", str(tmp_path / "run"), "--update", "3")
    assert "there are no weights of update 3, only those of 2, 4, 6, best, and the last" in said


def test_what_is_kept_of_a_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    config = AGENT | {"keep": {"every_updates": 3, "best": True}, "checkpoint": {"every_updates": 2}}
    train(config, out=tmp_path / "whole")
    crashing(4, lambda: train(config, out=tmp_path / "part"))
    resume(tmp_path / "part")
    for name in ("3", "6", "best"):
        a, b = ((tmp_path / run / "kept" / f"{name}.safetensors").read_bytes() for run in ("whole", "part"))
        assert a == b, name


# Beginning with what another run has learned


def test_a_warm_start_takes_weights_and_normalisers_and_is_repeatable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = train(SMALL | {"normalise_observations": True}, out="first")
    config = SMALL | {"normalise_observations": True, "initial": "first", "seed": 7, "checkpoint": {"every_updates": 1}}
    train(config | {"optimizer": STILL, "schedule": None}, out="still")
    old, new = load_file("first/model.safetensors"), load_file("still/initial.safetensors")
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)
    kept = load_file("still/model.safetensors")
    assert all(torch.equal(old[name], kept[name]) for name in old if "layers" in name)
    assert (kept["policy.network.0.seen_count"] > old["policy.network.0.seen_count"]).all()
    crashing(0, lambda: train(config | {"checkpoint": {"every_updates": None, "every_seconds": None}}, out="killed"))
    shutil.rmtree("first")  # nothing needs it any more
    resume("killed")
    assert main(["reproduce", "killed", "--quiet"]) == 0
    assert first.settings.initial is None


def test_what_does_not_fit_is_no_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(SMALL, out="first")
    train(CLASSIFIER, out="table")
    for other, said in (
        ({"policy": {"hidden": [8]}}, r"policy.hidden is \[4\] there, and \[8\] here"),
        ({"policy": {"hidden": [4], "activation": "relu"}}, 'policy.activation is "tanh" there, and "relu" here'),
        ({"environment": "Pendulum-v1"}, 'actions is "Discrete" there, and "Box" here'),
        ({"environment": "Acrobot-v1"}, r"weight is \[4, 4\] there, and \[6, 4\] here"),
        ({"normalise_observations": True}, "seen_count is null there"),
        ({"baseline": "critic"}, "critic.network.0.layers.0.weight is null there"),
        ({"replicas": 3}, "it has 2 replicas, and must have 3"),
        ({"initial": "table"}, 'kind is "classifier" there, and "policy" here'),
        ({"initial": "nowhere"}, "nowhere: there is no such run or file of weights"),
    ):
        with pytest.raises(UsageError, match=f"^initial: .*{said}"):
            train(SMALL | {"initial": "first"} | other, out="second")
        assert not Path("second").exists()
    with pytest.raises(UsageError, match=r"classes is \[0, 1, 2\] there, and \[0, 1\] here"):
        train(CLASSIFIER | {"data": "breast_cancer", "initial": "table"}, out="second")


def test_one_replica_can_be_the_beginning_of_many(tmp_path: Path) -> None:
    train(SMALL | {"replicas": 1}, out=tmp_path / "one")
    config = SMALL | {"replicas": 3, "initial": str(tmp_path / "one/model.safetensors"), "optimizer": STILL}
    train(config, out=tmp_path / "many")
    a, b = (load_file(tmp_path / run / "model.safetensors") for run in ("one", "many"))
    assert all(torch.equal(a[name].expand_as(tensor), tensor) for name, tensor in b.items())


def test_a_classifier_that_goes_on_with_other_examples_is_the_same_at_first(tmp_path: Path) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    for name, chosen in (("old", slice(0, 300)), ("new", slice(100, 569))):
        np.savetxt(tmp_path / f"{name}.csv", np.column_stack([x, y])[chosen], delimiter=",")
    config = {"problem": "logistic", "updates": 30, "optimizer": {"name": "SGD", "lr": 0.1}, "dtype": "float64"}
    train(config | {"data": str(tmp_path / "old.csv")}, out=tmp_path / "a")
    more = {"data": str(tmp_path / "new.csv"), "initial": str(tmp_path / "a"), "optimizer": STILL}
    train(config | more, out=tmp_path / "b")
    a, b = (load(tmp_path / run) for run in "ab")
    assert not np.allclose(a.preprocessing.mean, b.preprocessing.mean)
    assert b.predict_proba(x) == pytest.approx(a.predict_proba(x), abs=1e-9)
    with pytest.raises(UsageError, match="without an intercept"):
        train(config | more | {"intercept": False}, out=tmp_path / "c")


def test_weights_are_not_given_to_other_categories(tmp_path: Path) -> None:
    rows = "".join(f"{{{k % 3}}},{k % 5},{'pq'[k % 7 % 2]}\n" for k in range(30))
    for name, words in {"old": "Bergen Oslo Rome", "same": "Rome Oslo Bergen", "other": "Oslo Rome Turin"}.items():
        (tmp_path / f"{name}.csv").write_text("city,dose,ill\n" + rows.format(*words.split()))
    (tmp_path / "fewer.csv").write_text("city,dose,ill\n" + rows.format("Oslo", "Rome", "Rome"))
    config = {"problem": "logistic", "updates": 9, "optimizer": {"name": "Newton"}, "l2": 0.1, "test_fraction": 0}
    train(config | {"data": str(tmp_path / "old.csv")}, out=tmp_path / "a")
    more = config | {"initial": str(tmp_path / "a"), "optimizer": STILL}
    train(more | {"data": str(tmp_path / "same.csv")}, out=tmp_path / "b")
    asked = {"city": ["Oslo", "Rome", "Bergen"], "dose": [1.0, 2.0, 3.0]}
    answers = [load(tmp_path / run).predict_proba(pandas.DataFrame(asked)) for run in "ab"]
    assert answers[1] == pytest.approx(answers[0], abs=1e-6)
    there = r'categories.city is \["Bergen", "Oslo", "Rome"\] there, and '
    for name, here in {"other": r'\["Oslo", "Rome", "Turin"\]', "fewer": r'\["Oslo", "Rome"\]'}.items():
        with pytest.raises(UsageError, match=f"^initial: .* does not fit: {there}{here} here$"):
            train(more | {"data": str(tmp_path / f"{name}.csv")}, out=tmp_path / "c")
    # a file whose description was written before it had categories is taken as it is
    old = weights.read(tmp_path / "a/model.safetensors")
    del old.description["preprocessing"]["categories"]
    words = {"update": 9, "sha256": weights.digest(old.tensors), "description": old.description}
    save_file(old.tensors, tmp_path / "old.safetensors", {weights.WORDS: json.dumps(words)})
    train(more | {"data": str(tmp_path / "same.csv"), "initial": str(tmp_path / "old.safetensors")}, out=tmp_path / "d")


def test_a_point_goes_on_from_where_another_run_has_left_it(tmp_path: Path) -> None:
    train(POINT, out=tmp_path / "a")
    run = train(POINT | {"initial": str(tmp_path / "a"), "optimizer": STILL}, out=tmp_path / "b")
    assert torch.equal(run.problem.model.point.detach(), load_file(tmp_path / "a" / "model.safetensors")["point"])
    with pytest.raises(UsageError, match="neither a policy nor a classifier"):
        load(tmp_path / "a")


# What is wrong with a run directory


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_run_directory_that_is_not_as_it_was_written_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    whole = train(SMALL, out=tmp_path / "whole").directory
    model = whole / "model.safetensors"

    def changed(name: str) -> Path:
        return Path(shutil.copytree(whole, tmp_path / name))

    def flipped(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[-9] ^= 64
        path.write_bytes(content)

    def infinite(path: Path) -> None:
        tensors = load_file(path)
        next(iter(tensors.values())).flatten()[0] = np.inf
        save_file(tensors, path)

    cases: list[tuple[str, Any, str]] = [
        ("cut", lambda run: (run / model.name).write_bytes(model.read_bytes()[:99]), "these are not weights of a run"),
        ("flipped", lambda run: flipped(run / model.name), "damaged, or was changed after it was written"),
        ("infinite", lambda run: infinite(run / model.name), "is not finite"),
        (
            "activation",
            lambda run: edited(run / "config.yaml", "activation: tanh", "activation: relu"),
            "policy.activation",
        ),
        ("hidden", lambda run: edited(run / "config.yaml", "hidden: [4]", "hidden: [5]"), "config"),
        ("setting", lambda run: edited(run / "config.yaml", "seed: 0", "sede: 0"), "did you mean seed"),
        ("unfinished", lambda run: (run / model.name).unlink(), "this run has not ended"),
        ("fifo", lambda run: ((run / model.name).unlink(), os.mkfifo(run / model.name)), "no model yet"),
    ]
    for name, change, said in cases:
        change(changed(name))
        for command in (
            ["evaluate"],
            ["play", "--to", str(tmp_path / "x.gif")],
            ["export", "--to", str(tmp_path / "x.onnx")],
        ):
            assert said in one_line(capsys, command[0], str(tmp_path / name), *command[1:]), name
    assert not list(tmp_path.glob("x.*"))


def test_an_older_run_says_how_to_make_it_usable(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = train(SMALL, out=tmp_path / "run").directory
    save_file(load_file(path / "model.safetensors"), path / "model.safetensors")  # as version 0.1 wrote it
    with pytest.raises(UsageError, match=f"older version.*rlgrad train --resume {path}"):
        load(path)
    assert main(["evaluate", str(path)]) == 0
    assert main(["train", "--resume", str(path), "--quiet"]) == 0
    assert load(path, replica=0).predict(np.zeros(4))[0] in (0, 1)


def test_an_unfinished_run_is_used_and_named_so(tmp_path: Path) -> None:
    path = train(SMALL, out=tmp_path / "run").directory
    edited(path / "summary.json", '"completed"', '"interrupted"')
    assert "the run is interrupted; --resume goes on with it" in load(path, replica=0).origin


def test_an_environment_that_is_missing_or_other_now_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    gymnasium.register("tests/Leaving-v0", "gymnasium.envs.classic_control.cartpole:CartPoleEnv", max_episode_steps=20)
    path = train(SMALL | {"environment": "tests/Leaving-v0"}, out=tmp_path / "run").directory
    gymnasium.registry.pop("tests/Leaving-v0")
    gymnasium.register("tests/Leaving-v0", "gymnasium.envs.classic_control.acrobot:AcrobotEnv", max_episode_steps=20)
    assert "was changed since these were written: observations.Box" in one_line(capsys, "evaluate", str(path))
    gymnasium.registry.pop("tests/Leaving-v0")
    for command in ("evaluate", "play"):
        words = ["--to", str(tmp_path / "x.gif"), "--replica", "0"] if command == "play" else []
        assert "Gymnasium knows no environment 'tests/Leaving-v0'" in one_line(capsys, command, str(path), *words)
    assert load(path, replica=0).predict(np.zeros(4))


def test_nothing_of_a_run_is_imported_unless_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_activation.py").write_text("import torch\nbend = torch.sin\n")
    monkeypatch.chdir(tmp_path)
    config = SMALL | {"imports": ["own_activation"], "policy": {"hidden": [4], "activation": "own_activation:bend"}}
    train(config, out="run", allow_imports=True)
    with pytest.raises(UsageError, match="--allow-imports"):
        load("run", replica=0)
    assert load("run", replica=0, allow_imports=True).predict(np.zeros(4))[0] in (0, 1)


# Playing


def test_a_film_shows_the_episodes_of_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    pygame = pytest.importorskip("pygame", reason="pygame is not installed: the extra `play` brings it")
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed: the extra `play` brings it")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    path = train(SMALL | {"environment_options": {"max_episode_steps": 9}}, out=tmp_path / "run").directory
    film = tmp_path / "film.gif"
    assert main(["play", str(path), "--to", str(film), "--seed", "5", "--replica", "0", "--episodes", "2"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ["episode 0: return 9", "episode 1: return 9", f"written: {film}"]
    environment = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    environment.reset(seed=5)
    with image.open(film) as found:
        first = np.asarray(found.convert("RGB")).astype(int)
        shown = sum(found.seek(k) or found.info["duration"] for k in range(found.n_frames))
    assert np.abs(first - environment.render()).mean() < 2  # as it is, but for the palette
    assert shown == 2 * (9 + 1) * 20  # milliseconds: 50 pictures a second
    for place in ("", ":987"):  # no screen; one that is not there any more
        pygame.display.quit()
        monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)  # the film drew without a screen
        monkeypatch.setenv("DISPLAY", place)
        said = one_line(capsys, "play", str(path), "--replica", "0")
        assert "there is no screen" in said
        assert "--to film.gif" in said
    assert "must end in .gif or .mp4" in one_line(capsys, "play", str(path), "--to", "film.avi")
    assert "there is no directory" in one_line(capsys, "play", str(path), "--to", str(tmp_path / "no" / "film.gif"))
    assert "there is no replica 2" in one_line(capsys, "play", str(path), "--to", str(film), "--replica", "2")
    for replica in (-1, "0", 0.5, True):
        with pytest.raises(UsageError, match=f"there is no replica {replica!r}: the run has "):
            load(path, replica=replica)  # type: ignore[arg-type]


def test_play_ends_where_its_window_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame", reason="pygame is not installed: the extra `play` brings it")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    path = train(SMALL | {"environment_options": {"max_episode_steps": 9}}, out=tmp_path / "run").directory
    show = Show(load(path, replica=0), "human")
    for number, _ in enumerate(show.frames(episodes=2), 1):
        if number == 10 + 3:
            pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert number == 10 + 3
    assert show.returns == [9]


def drawable(environment: str, **options: Any) -> Any:
    """What it shows at its beginning; the test is skipped where a package or OpenGL is missing."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    try:
        made = gymnasium.make(environment, render_mode="rgb_array", **options)
        made.reset(seed=0)
        return made.render()
    except Exception as error:
        return pytest.skip(f"{environment} cannot be drawn here: {error}")


@pytest.mark.parametrize(
    ("environment", "options"),
    [("InvertedPendulum-v5", {"width": 64, "height": 48}), ("LunarLander-v3", {})],
    ids=["MuJoCo", "Box2D"],
)
def test_robots_and_landers_are_filmed_without_a_screen(tmp_path: Path, environment: str, options: Any) -> None:
    image = pytest.importorskip("PIL.Image", reason="pillow is not installed: the extra `play` brings it")
    seen = drawable(environment, **options)
    config = SMALL | {"environment": environment, "environment_options": options | {"max_episode_steps": 5}}
    path = train(config, out=tmp_path / "run").directory
    assert main(["play", str(path), "--to", str(tmp_path / "film.gif"), "--replica", "0"]) == 0
    with image.open(tmp_path / "film.gif") as found:
        first = np.asarray(found.convert("RGB")).astype(int)
        found.seek(found.n_frames - 1)
        last = np.asarray(found.convert("RGB")).astype(int)
    assert np.abs(first - seen).mean() < 12  # as it is, but for the palette
    assert (first != last).any()


def test_where_there_is_no_opengl_a_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo leaves half a window behind, whose end fails."""

    class HalfAWindow:
        def __del__(self) -> None:
            raise AttributeError("no context")

    class Blind(CartPoleEnv):
        def render(self) -> Any:
            window = HalfAWindow()
            raise ImportError(f"Cannot initialize a EGL device display {type(window).__name__}")

    monkeypatch.setattr(Blind, "__module__", "my_mujoco")
    path = train(SMALL, environment=Blind, out=tmp_path / "run").directory
    policy, unraisable = load(path, replica=0, environment=Blind), []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with pytest.raises(UsageError, match="MuJoCo needs OpenGL: set MUJOCO_GL=egl"):
        play(policy, str(tmp_path / "film.gif"), 1, 0, False)
    assert not unraisable
    assert not (tmp_path / "film.gif").exists()


def test_a_film_can_be_a_video(tmp_path: Path) -> None:
    pytest.importorskip("pygame", reason="pygame is not installed: the extra `play` brings it")
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="imageio-ffmpeg is not installed: the extra `play` brings it")
    path = train(SMALL | {"environment_options": {"max_episode_steps": 9}}, out=tmp_path / "run").directory
    assert main(["play", str(path), "--to", str(tmp_path / "film.mp4"), "--replica", "0"]) == 0
    frames, _ = ffmpeg.count_frames_and_secs(str(tmp_path / "film.mp4"))
    assert frames == 9 + 1


def test_what_cannot_be_shown_is_refused_and_what_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path = train(SMALL | {"environment": "tests/Countdown-v0"}, out=tmp_path / "run").directory
    to = ["--to", str(tmp_path / "film.gif"), "--replica", "0"]
    assert "has no pictures to show" in one_line(capsys, "play", str(path), *to)
    table = train(CLASSIFIER, out=tmp_path / "table").directory
    assert "has learned a classifier: rlgrad predict uses it" in one_line(capsys, "play", str(table), *to)
    path = train(SMALL, out=tmp_path / "pole").directory
    said = one_line(capsys, "predict", str(path), "none.csv", "--out", str(tmp_path / "found.csv"))
    assert "has learned a policy: rlgrad play shows what it does" in said
    for module in ("PIL", "pygame"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)
            assert "pip install 'rlgrad[play]'" in one_line(capsys, "play", str(path), *to)
    for command, file, module in (("play", "film.gif", "PIL"), ("export", "model.onnx", "onnxscript")):
        with monkeypatch.context() as without:  # it is missed before the replica is looked for: there is no such one
            without.setitem(sys.modules, module, None)
            said = one_line(capsys, command, str(path), "--to", str(tmp_path / file), "--replica", "99")
            assert f"{module} is not installed: pip install 'rlgrad[{command}]'" in said


# Exporting; `checks/test_export.py` does so with policies of all kinds of spaces


def test_a_loaded_policy_sees_the_digits_that_it_learned_from(tmp_path: Path) -> None:
    train(SMALL | {"environment": "tests/Far-v0", "normalise_observations": True}, out=tmp_path / "run")
    policy = load(tmp_path / "run", replica=0)
    low, high = policy.observation_space.low, policy.observation_space.high  # the same in single precision
    p, q = policy.distribution(np.stack([low, high])).probs[0]
    assert not torch.allclose(p, q, rtol=1e-4)


@pytest.mark.parametrize("name", ["Discrete", "MultiDiscrete", "MultiBinary", "Box", "Fixed"])
def test_what_is_exported_takes_the_greedy_action_in_the_form_of_the_environment(tmp_path: Path, name: str) -> None:
    config = {
        "environment": f"tests/{name}-v0",
        "updates": 1,
        "schedule": None,
        "optimizer": {"name": "SGD", "lr": 1.0},
    }
    train(SMALL | config | {"policy": {"hidden": [4], "squash": name == "Fixed"}}, out=tmp_path / "run")
    policy = load(tmp_path / "run", replica=1)
    policy.observation_space.seed(0)
    seen = [policy.observation_space.sample() for _ in range(20)]
    graph = PolicyGraph(policy)
    with torch.no_grad():
        found = graph(torch.from_numpy(np.concatenate([policy.seen(one)[0] for one in seen])))[0].numpy()
    assert all(policy.action_space.contains(action) for action in found)
    np.testing.assert_allclose(found, [policy.predict(one, deterministic=True)[0] for one in seen], atol=1e-6)


def test_an_exported_classifier_has_its_preprocessing_and_its_card(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(name, reason=f"{name} is not installed: the extra `export` brings it")
    import onnx
    import onnxruntime
    import yaml

    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=(90, 2)) * [1, 1e4] + [0, 1e6], np.arange(90) % 3])
    x[::9, 0] = np.nan
    table = pandas.DataFrame(x[:, :2], columns=["size", "weight"]).assign(colour=[f"c{k % 3}" for k in range(90)])
    kinds = ["xyz"[int(a > 0) + int(b > 1e6)] for a, b, _ in x]
    table.assign(kind=kinds).to_csv(tmp_path / "t.csv", index=False)
    config = {"problem": "logistic", "data": str(tmp_path / "t.csv"), "missing_values": "median_and_indicator"}
    config |= {"updates": 20, "replicas": 2, "batch_size": 8, "keep": {"every_updates": 10}}
    run = train(config | {"optimizer": {"name": "SGD", "lr": 0.5}}, out=tmp_path / "run")
    to = tmp_path / "out" / "model.onnx"
    command = ["export", str(run.directory), "--replica", "1", "--to"]
    assert main([*command, str(to)]) == 0
    model, session = load(run.directory, replica=1), onnxruntime.InferenceSession(to)
    (takes,), gives = session.get_inputs(), [output.name for output in session.get_outputs()]
    found = dict(zip(gives, session.run(None, {takes.name: x}), strict=True))
    assert np.allclose(found["probabilities"], model.predict_proba(table), atol=1e-6)
    assert model.classes_[found["class"]].tolist() == model.predict(table).tolist()
    said = {each.key: each.value for each in onnx.load(to).metadata_props}
    assert json.loads(said["form"])["classes"] == ["x", "y", "z"]
    card = (to.parent / "README.md").read_text()
    assert "data: " in card
    assert "data: /" not in card
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["library_name"] == "rlgrad"
    other, accuracy = summary(run.directory)["evaluation.accuracy"]["per_replica"]
    assert other != accuracy
    assert front["model-index"][0]["results"][0]["metrics"] == [
        {"type": "accuracy", "name": "accuracy", "value": accuracy}
    ]
    before = tmp_path / "before" / "model.onnx"
    assert main([*command, str(before), "--update", "10"]) == 0  # the summary has no results of these weights
    card = (before.parent / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"] == []
    (to.parent / "README.md").write_text("somebody's own\n")
    assert "into a folder of its own" in one_line(capsys, *command, str(to))
    assert (to.parent / "README.md").read_text() == "somebody's own\n"


@pytest.mark.parametrize("missing_values", ["drop", "zero"])
def test_a_card_says_what_an_exported_classifier_gives_for_a_missing_value(tmp_path: Path, missing_values: str) -> None:
    (data := tmp_path / "t.csv").write_text("a,y\n" + "1,u\n2,v\n" * 9)
    settings: dict[str, Any] = {"missing_values": missing_values, "test_fraction": 0, "updates": 2}
    settings |= {"problem": "logistic", "data": str(data), "optimizer": {"name": "Newton"}, "l2": 0.1}
    run = train(settings, out=tmp_path / "run").directory
    model = load(run)
    number, probabilities = ClassifierGraph(model)(torch.tensor([[float("nan")]], dtype=torch.float64))
    dropped = bool(probabilities.isnan().all())
    assert dropped == (missing_values == "drop") == (model.predict(np.array([[np.nan]])).tolist() == [None])
    assert number.tolist() == [0]
    card = model_card(model, recorded_config(run, False), run, "m.onnx", ClassifierGraph.gives)
    assert ("A row with a missing value has no class: its probabilities are NaN" in card) == dropped


def test_a_missing_exporter_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    path = train(SMALL, out=tmp_path / "run").directory

    def absent(*arguments: Any, **options: Any) -> None:
        raise ModuleNotFoundError("no such module", name="onnxscript")

    monkeypatch.setattr(torch.onnx, "export", absent)
    said = one_line(capsys, "export", str(path), "--to", str(tmp_path / "model.onnx"), "--replica", "0")
    assert "onnxscript is not installed: pip install 'rlgrad[export]'" in said
