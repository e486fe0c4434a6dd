"""Bad input gets one clear line and exit code 2: what, where, and what to do. Nothing is written."""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rlgrad.cli import main
from rlgrad.config import load_config, schema
from rlgrad.errors import UsageError
from rlgrad.notation import write
from rlgrad.run.directory import split_arguments
from rlgrad.usage import SHIPPED, find
from rlgrad.written import parse_overrides

GOOD = """\
problem: reinforce
environment: CartPole-v1
updates: 2
episodes: 2
optimizer: {name: SGD, lr: 0.1}
"""


def refused(capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """The line that a refused command prints, having left no trace."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1, printed.err
    assert sorted(tmp_path.rglob("*")) == before
    return printed.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("epsiodes: 3", "bad.yaml:6: epsiodes: unknown setting; did you mean episodes"),
        ("policy: {hiden: [3]}", "bad.yaml:6: policy.hiden: unknown setting; did you mean hidden"),
        ("discount: 1.5", "bad.yaml:6: discount: input should be less than or equal to 1 (here: 1.5)"),
        ("replicas: many", "bad.yaml:6: replicas: input should be a valid integer"),
        ("replicas: 0", "bad.yaml:6: replicas: input should be greater than 0"),
        ("replicas: true", "bad.yaml:6: replicas: input should not be true or false (here: True)"),
        ("discount: {sweep: [0.9, true]}", "bad.yaml:6: discount.sweep: input should not be true or false"),
        (
            "policy: {hidden: [4, true]}",
            "bad.yaml:6: policy.hidden: input should not be true or false (here: [4, True])",
        ),
        ("seed: .nan", "bad.yaml:6: seed"),
        ("baseline: mean", "bad.yaml:6: baseline: input should be 'none', 'batch_mean', 'leave_one_out'"),
        ("evaluation: 3", "bad.yaml:6: evaluation"),
        ("policy:\n  hidden: [32]\n  activation: gelu", "bad.yaml:8: policy.activation"),
        ("schedule: {name: StepLR}", "bad.yaml:6: schedule: StepLR: "),
        ("schedule: {name: StepLRR, step_size: 3}", "did you mean StepLR"),
        ("schedule: {name: LambdaLR}", "LambdaLR"),
        ("schedule: {name: StepLR, step_siz: 3}", "did you mean step_size"),
        ("schedule: {name: SequentialLR, schedulers: [3], milestones: []}", "needs a `name`"),
        ("updates: 3", "bad.yaml:6: updates is set twice"),
        ("seed: [1", "bad.yaml:7:1: not valid YAML"),
        ("seed: 1\n\tepisodes: 2", "bad.yaml:7:1: not valid YAML"),
        ("1: 2", "a setting's name must be a word"),
        ("seed: &a [*a]", "bad.yaml:6"),
        ("imports: [this]", "bad.yaml:6: imports: importing 'this' runs its code; say --allow-imports if you trust it"),
        ("seed: !!python/object/apply:os.system ['echo hello']", "bad.yaml:6:7: not valid YAML"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_line(capsys, tmp_path, monkeypatch, change: str, said: str) -> None:
    (tmp_path / "bad.yaml").write_text(GOOD + change + "\n")
    assert said in refused(capsys, tmp_path, monkeypatch, "--config", "bad.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "bad.yaml: the file is empty"),
        ("# only a comment\n", "bad.yaml: the file is empty"),
        ("- 1\n- 2\n", "bad.yaml:1: a config is a list of `setting: value` lines, not a list"),
        ("hello", "not 'hello'"),
        ("updates: 3\n", "bad.yaml: `problem` is missing: one of classifier, logistic, ppo, reinforce"),
        ("problem: reinforc\n", "bad.yaml:1: problem: unknown problem 'reinforc'; did you mean reinforce"),
        ("problem: [reinforce]\n", "unknown problem"),
        (GOOD.replace("environment: CartPole-v1\n", ""), "bad.yaml: the setting `environment` is missing"),
        (GOOD.replace("CartPole-v1", "CartPole-v7"), "bad.yaml:2: environment: Gymnasium knows no environment"),
        (GOOD.replace("CartPole-v1", "CartPole"), "bad.yaml:2: environment: Gymnasium knows no environment"),
        (GOOD.replace("CartPole-v1", "tests/Levers-v0"), "bad.yaml:2: environment: no policy supports the actions"),
        (GOOD.replace("CartPole-v1", "tests/Texts-v0"), "bad.yaml:2: environment: no policy can read"),
        (GOOD.replace("episodes: 2", "episodes: 1"), "bad.yaml:4: episodes: the baseline leave_one_out needs at least two"),
        (GOOD.replace("SGD", "SDG"), "bad.yaml:5: optimizer.name: there is no optimizer 'SDG'; did you mean SGD"),
        (GOOD.replace("SGD", "PerStretch"), "bad.yaml:5: optimizer.name: there is no optimizer 'PerStretch'"),
        (GOOD.replace("lr: 0.1", "lrr: 0.1"), "bad.yaml:5: optimizer.lrr: SGD has no such argument; did you mean lr"),
        (GOOD.replace("lr: 0.1", "lr: -1"), "bad.yaml:5: optimizer.lr: input should not be negative (here: -1)"),
        (GOOD.replace("lr: 0.1", "lr: fast"), "bad.yaml:5: optimizer.lr: input should be a valid number, in digits (here: fast)"),
        (GOOD.replace("lr: 0.1", "maximize: true"), "the direction belongs to the problem"),
        (GOOD.replace("SGD, lr: 0.1", "SparseAdam"), "SparseAdam"),
        (GOOD.replace("SGD, lr: 0.1}", "LBFGS}\nbaseline: critic"), "bad.yaml:5: optimizer: LBFGS: it moves a model as a whole"),
        (GOOD + "policy: {hidden: [1_000_000_000]}\n", "4,000,000,000 weights, and 1,073,741,824 is the most"),
        ("problem: logistic\ndata: brest_cancer\nupdates: 1\noptimizer: {name: SGD}\n", "bad.yaml:2: data: there is no data set"),
        ("problem: logistic\ndata: iris\nupdates: 1\nepisodes: 2\noptimizer: {name: SGD}\n", "bad.yaml:4: episodes: unknown"),
        ("a: " * 100, "not valid YAML"),
        ("a: " + "[" * 5000, "bad.yaml"),
        ("x: &a [1,1,1,1,1,1,1,1,1,1]\ny: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nz: &c [*b,*b,*b,*b,*b,*b]\nw: &d [*c,*c,*c,*c,*c,*c]\n"
         "v: [*d,*d,*d,*d,*d,*d]\n", "more than a config can hold"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_as_a_whole(capsys, tmp_path, monkeypatch, text: str, said: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    assert said in refused(capsys, tmp_path, monkeypatch, "--config", "bad.yaml")


def test_a_file_that_is_not_text(capsys, tmp_path, monkeypatch) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00seed")
    assert "bad.yaml: cannot be read" in refused(capsys, tmp_path, monkeypatch, "--config", "bad.yaml")


@pytest.mark.parametrize(
    ("name", "given", "same"),
    [
        ("breast_cancer", {"replicas": {"folds": 5}}, ["--replicas", "{folds: 5}"]),
        ("cartpole", {"optimizer": {"lr": {"sweep": [0.1, 0.2]}}}, ["--optimizer.lr", "{sweep: [0.1, 0.2]}"]),
    ],
)
def test_a_mapping_replaces_a_number(name: str, given: dict[str, Any], same: list[str]) -> None:
    settings, _ = split_arguments(given)
    assert load_config(name, settings).settings == load_config(name, same).settings


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "cartpol"], "did you mean cartpole"),
        (
            ["--config", "cartpole", "--optimizer.lrr", "1"],
            "--optimizer.lrr: Adam has no such argument; did you mean lr",
        ),
        (["--config", "cartpole", "--replica", "2"], "--replica: unknown setting; did you mean replicas"),
        (["--config", "cartpole", "--replicas", "two"], "--replicas: input should be a valid integer"),
        (["--config", "cartpole", "--replicas"], "--replicas: a value is missing"),
        (["--config", "cartpole", "--seed", "1", "--seed", "2"], "--seed: given twice"),
        (["--config", "cartpole", "--seed.x", "1"], "--seed.x: seed: input should be a valid integer"),
        (["--config", "cartpole", "--updates.x", "1"], "--updates.x: updates: input should be a valid integer"),
        (["--config", "cartpole", "--optimizer.name", "Adan"], "--optimizer.name: there is no optimizer 'Adan'"),
        (["--config", "cartpole", "--policy.hidden", "[3"], "--policy.hidden: '[3' is not a value"),
        (["--config", "cartpole", "extra"], "unexpected argument 'extra'"),
        (["--confi", "cartpole"], "which config?"),
        ([], "which config? --config FILE, or a name: acrobot, bowl, breast_cancer, "),
        (["--resume", "nowhere"], "nowhere: there is no run here"),
        (["--resume", "nowhere", "--seed", "3"], "nowhere: there is no run here"),
        (["--resume", "nowhere", "--config", "cartpole"], "nowhere: there is no run here"),
        (["--resume", "nowhere", "--out", "x"], "--resume continues a run where it is: it takes no --out"),
        (["--resume", "auto"], "--config NAME is missing"),
        (["--resume", "auto", "--config", "cartpole"], "there is no run of cartpole in "),
        (["--extend-to", "9", "--config", "cartpole"], "--extend-to lengthens an existing run: --resume RUN"),
        (
            ["--resume", "nowhere", "--extend-to", "many"],
            "argument --extend-to: must be a whole number below 2^63 (here: many)",
        ),
        (["--config"], "expected one argument"),
    ],
)
def test_a_mistake_on_the_command_line(capsys, tmp_path, monkeypatch, arguments: list[str], said: str) -> None:
    assert said in refused(capsys, tmp_path, monkeypatch, *arguments)


def test_overrides_are_typed_and_win() -> None:
    words = (
        "--optimizer.lr 1e-3 --replicas 16 --seed=3 --policy.hidden 8 4 --optimizer.betas 0.8 0.9 --max_gradient_norm 2"
    )
    settings = load_config("cartpole", words.split()).settings
    assert settings.optimizer.arguments == {"lr": 1e-3, "betas": [0.8, 0.9]}
    assert (settings.replicas, settings.seed, settings.max_gradient_norm) == (16, 3, 2.0)
    assert settings.policy.hidden == (8, 4)
    assert load_config("cartpole", ["--policy.hidden", "8"]).settings.policy.hidden == (8,)
    assert load_config("cartpole", ["--schedule", "null"]).settings.schedule is None


def test_a_mapping_serves_as_a_config_and_is_left_as_it_was() -> None:
    given = {"problem": "reinforce", "environment": "CartPole-v1", "updates": 1, "optimizer": {"name": "SGD"}}
    assert load_config(given, {"optimizer.lr": 0.5}).settings.optimizer.arguments == {"lr": 0.5}
    assert given["optimizer"] == {"name": "SGD"}
    with pytest.raises(UsageError, match="config: updates"):
        load_config(given | {"updates": -1})


def test_a_config_imports_a_module_only_where_the_user_says_so(tmp_path, monkeypatch) -> None:
    (tmp_path / "my_package.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('mine/Pole-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    given = GOOD.replace("CartPole-v1", "mine/Pole-v0") + "imports: my_package\n"
    (tmp_path / "mine.yaml").write_text(given)
    with pytest.raises(UsageError, match="say --allow-imports"):
        load_config(tmp_path / "mine.yaml").build()
    assert "my_package" not in sys.modules
    batch = load_config(tmp_path / "mine.yaml", allow_imports=True).build().problem.sample(0)
    assert batch.length.max() == 9
    assert main(["train", "--config", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "run"), "--quiet"]) == 2
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="'nosuch' cannot be imported: No module named 'nosuch'"):
        load_config(tmp_path / "mine.yaml", {"imports": ["nosuch"]}, allow_imports=True).build()


def test_names_are_looked_up_with_and_without_their_ending(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find("cartpole") == find("cartpole.yaml") == SHIPPED / "cartpole.yaml"
    (tmp_path / "cartpole.yaml").write_text(GOOD)
    assert find("cartpole.yaml") == Path("cartpole.yaml")  # a file of one's own comes first


WRONG = [math.nan, math.inf, -1, "fast", True, [1.0], None]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize(
    "setting",
    ["optimizer.lr", "optimizer.momentum", "optimizer.weight_decay", "schedule.gamma", "schedule.step_size"],
)
def test_no_wrong_argument_reaches_the_first_update(capsys, tmp_path, monkeypatch, setting: str, value: object) -> None:
    (tmp_path / "bad.yaml").write_text(GOOD + "schedule: {name: StepLR, step_size: 3}\n")
    words = ["--config", "bad.yaml", f"--{setting}", write({"x": value})[3:].strip()]
    assert f"--{setting}" in refused(capsys, tmp_path, monkeypatch, *words)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"optimizer": {"name": "Adam", "betas": [0.9]}}, "optimizer.betas"),
        ({"optimizer": {"name": "Adam", "betas": [0.9, "x"]}}, "optimizer.betas.1"),
        ({"optimizer": {"name": "Adam", "capturable": True}}, "optimizer: Adam: AssertionError"),
        ({"optimizer": {"name": "LBFGS", "max_iter": 0}}, "optimizer: LBFGS: with these arguments it takes no step"),
        ({"optimizer": {"name": "LBFGS", "history_size": 0}}, "optimizer: LBFGS: IndexError"),
        ({"optimizer": {"name": "ByPart"}}, "optimizer.name"),
        ({"schedule": {"name": "StepLR", "step_size": 0}}, "schedule: StepLR: ZeroDivisionError"),
        ({"schedule": {"name": "ExponentialLR", "gamma": 1e9}, "updates": 99}, "schedule: the learning rate after"),
        ({"schedule": {"name": "MultiStepLR", "milestones": [1, -1]}}, "schedule.milestones.1"),
        ({"schedule": {"name": "StepLR", "step_size": 3, "last_epoch": 2}}, "schedule.last_epoch"),
        ({"schedule": {"name": "OneCycleLR", "max_lr": 1, "total_steps": 2}}, "optimizer.lr: it has no effect"),
        ({"discount": 0.9, "returns": "whole", "discount_weighting": False}, "discount_weighting: it has no effect"),
        ({"normalise_returns": True, "standardise_advantages": True}, "normalise_returns: it has no effect"),
        ({"normalise_returns": True, "reward_scale": 2}, "reward_scale: it has no effect with normalise_returns"),
        ({"standardise_advantages": True, "reward_scale": 2}, "reward_scale: it has no effect with standardise_adv"),
        ({"problem": "logistic", "data": "iris", "batch_growth": 2}, "batch_growth: it has no effect"),
        ({"problem": "logistic", "data": "iris", "order": "file"}, "order: it has no effect"),
        ({"problem": "logistic", "data": "iris", "curvature_examples": 9}, "curvature_examples: it has no effect"),
        ({"problem": "logistic", "data": "iris", "stop_when_solved": True}, "stop_when_solved: it has no effect"),
    ],
)
def test_what_torch_would_find_too_late_or_never(wrong: dict, said: str) -> None:
    given = {"problem": "reinforce", "updates": 2, "optimizer": {"name": "SGD", "lr": 0.1}} | wrong
    given |= {"environment": "CartPole-v1", "episodes": 2} if given["problem"] == "reinforce" else {}
    with pytest.raises(UsageError) as caught:
        load_config(given).build()
    assert f"config: {said}" in str(caught.value)


@pytest.mark.parametrize(("word", "meant"), [("yes", True), ("off", False), ("true", True)])
def test_a_word_for_a_switch_of_an_optimizer_is_no_truth_of_its_own(word: str, meant: bool) -> None:
    """bool("off") is True."""
    given = {"problem": "logistic", "data": "iris", "updates": 1, "optimizer": {"name": "Adam", "amsgrad": word}}
    assert load_config(given).build().optimizer.param_groups[0]["amsgrad"] is meant


def test_1e_minus_3_is_a_number(tmp_path) -> None:
    (tmp_path / "c.yaml").write_text(GOOD.replace("lr: 0.1", "lr: 1e-3, weight_decay: 1E-2"))
    assert load_config(tmp_path / "c.yaml").settings.optimizer.arguments == {"lr": 0.001, "weight_decay": 0.01}


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "OneCycleLR", "max_lr": 0.1, "total_steps": 10},
        {"name": "ReduceLROnPlateau", "patience": 1},
        {"name": "CyclicLR", "base_lr": 0.01, "max_lr": 0.1},
        {
            "name": "SequentialLR",
            "milestones": [2],
            "schedulers": [{"name": "ConstantLR", "factor": 0.5}, {"name": "ExponentialLR", "gamma": 0.9}],
        },
        {"name": "ChainedScheduler", "schedulers": [{"name": "ConstantLR"}, {"name": "ExponentialLR", "gamma": 0.9}]},
    ],
)
@pytest.mark.parametrize("optimizer", [{"name": "SGD", "lr": 0.1, "momentum": 0.9}, {"name": "LBFGS", "lr": 0.1}])
def test_schedules_by_name(schedule: dict, optimizer: dict) -> None:
    given = {"problem": "reinforce", "environment": "CartPole-v1", "updates": 1}
    if schedule["name"] in ("OneCycleLR", "CyclicLR") and optimizer["name"] == "LBFGS":
        schedule = schedule | {"cycle_momentum": False}
    if schedule["name"] in ("OneCycleLR", "CyclicLR"):  # which set the learning rate
        optimizer = {key: value for key, value in optimizer.items() if key != "lr"}
    built = load_config(given | {"optimizer": optimizer, "schedule": schedule}).build()
    assert isinstance(built.schedule, getattr(torch.optim.lr_scheduler, schedule["name"]))
    if schedule["name"] == "ReduceLROnPlateau":
        assert built.schedule.mode == "max"  # the return is to be maximized


def test_the_schema_is_written_down_and_every_shipped_config_points_to_it() -> None:
    assert json.loads((SHIPPED / "schema.json").read_text()) == json.loads(json.dumps(schema()))
    for path in SHIPPED.glob("*.yaml"):
        assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n"), path


def test_the_text_of_a_config_does_not_steer_the_terminal(capsys, tmp_path) -> None:
    wild = '"[/b] [red]x \\e[31m"'
    (tmp_path / "c.yaml").write_text(f"{GOOD}environment_options: {{a: {wild}}}\nimports: [{wild}]\n")
    assert main(["train", "--config", str(tmp_path / "c.yaml"), "--help"]) == 0
    printed = capsys.readouterr().out
    assert "[/b] [red]x" in printed
    assert "\x1b" not in printed


def test_help_shows_every_setting_of_a_config(capsys) -> None:
    """With its value as a config has it, and its meaning, which PPO's settings have from those of REINFORCE."""
    assert main(["train", "--config", "ppo_cartpole", "--help"]) == 0
    rows = [re.split("  +", line.strip(), maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    shown = {row[0]: row[1:] for row in rows if row[0].startswith("--") and len(row) == 3}
    for setting in ("--optimizer.lr", "--policy.hidden", "--checkpoint.every_seconds", "--problem", "--entropy_bonus"):
        assert shown[setting][1]
    assert shown["--discount"][1].startswith("gamma: ")
    assert (shown["--steps"][0], shown["--baseline"][0], shown["--imports"][0]) == ("null", "critic", "[]")


def test_a_setting_that_an_option_has_set_is_blamed_on_the_option(tmp_path: Path) -> None:
    """Also where it stands in the file, and where it is a group of settings there."""
    (tmp_path / "mine.yaml").write_text(
        "problem: reinforce\nenvironment: CartPole-v1\nupdates: 3\noptimizer: {name: SGD}\ndiscount: 0.9\n"
    )
    for overrides, named in (
        ({"discount": 7}, "--discount: "),
        ({"optimizer.name": "SGDD"}, "--optimizer.name: "),
        ({"optimizer": {"name": "SGDD"}}, "--optimizer"),
    ):
        with pytest.raises(UsageError) as caught:
            load_config(tmp_path / "mine.yaml", overrides).build()
        assert str(caught.value).startswith(named)
        assert "mine.yaml" not in str(caught.value)


def test_what_does_no_harm_but_has_no_effect_is_named() -> None:
    config = {"problem": "reinforce", "environment": "CartPole-v1", "updates": 1, "optimizer": {"name": "Adam"}}
    config |= {"policy": {"squash": True, "hidden": [4]}, "critic": {"hidden": [8]}}
    assert load_config(config).build().problem.facts["settings without effect here"] == "critic, policy.squash"
    endless = config | {"baseline": "critic", "segment": 5, "episode_limit": 9}
    assert load_config(endless).build().problem.facts["settings without effect here"] == "episode_limit, policy.squash"
    swept = config | {"policy": {"initial_deviation": {"sweep": [0.5, 1.0]}}, "critic": {}}
    assert load_config(swept).build().problem.facts["settings without effect here"] == "policy.initial_deviation"
    used = config | {"baseline": "critic", "environment": "Pendulum-v1"}
    assert "settings without effect here" not in load_config(used).build().problem.facts


def test_an_ampersand_on_the_command_line_is_text() -> None:
    assert parse_overrides(["--label", "&a", "--data=x&y.csv"]) == {"label": "&a", "data": "x&y.csv"}
    assert parse_overrides(["--environment_options", "{name: R&D}"]) == {"environment_options": {"name": "R&D"}}


def test_a_plateau_is_one_of_what_is_sought() -> None:
    plateau = {"name": "ReduceLROnPlateau", "patience": 3}
    for objective, mode in (("log_likelihood", "max"), ("negative_log_likelihood", "min")):
        built = load_config({
            "problem": "logistic", "data": "iris", "updates": 2, "optimizer": {"name": "SGD"},
            "objective": objective, "schedule": plateau,
        }).build()  # fmt: skip
        assert built.schedule.mode == mode
