"""Searches: what is tried and how it is judged, several workers, and those that are killed."""

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import scipy.stats

from rlgrad.cli import main
from rlgrad.config import load_config
from rlgrad.errors import RunError, UsageError
from rlgrad.loop import Direction
from rlgrad.run import resume, train
from rlgrad.run.observers.log import Log
from rlgrad.run.search import Search, Space, best
from rlgrad.run.statistics import summarize
from tests.run.support import AGENT, Crash, assert_same, forked, rows, summary

RATES = [0.15, 0.2, 0.3, 0.35, 0.45, 0.0001]
BOWL: dict[str, Any] = {
    "problem": "surface", "function": "x**2", "box": {"x": [-1, 1]}, "start": [[1.0], [-0.5]], "replicas": 2,
    "direction": "minimize", "optimizer": {"name": "SGD", "lr": {"search": RATES}}, "updates": 6,
    "evaluation": {"every_updates": 2},
}  # fmt: skip


@pytest.fixture(autouse=True)
def on_a_fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", id)


def of(*rates: float) -> dict[str, Any]:
    return BOWL | {"optimizer": {"name": "SGD", "lr": {"search": list(rates)}}}


def searched(config: Any, path: Path, trials: int = 20, storage: str | None = None) -> dict[str, Any]:
    assert Search(Space(config), path, trials, storage)() is None
    return json.loads((path / "search.json").read_text())


def known(path: Path, storage: str | None = None) -> list[optuna.trial.FrozenTrial]:
    backend = optuna.storages.journal.JournalFileBackend(str(path / "journal.log"))
    held = storage or optuna.storages.JournalStorage(backend)
    return optuna.load_study(study_name=path.name, storage=held).trials


def reached(rate: float, updates: int = 6) -> float:
    """x -> x - 2 rate x, from 1 and from -1/2: the mean of x**2."""
    return 0.625 * (1 - 2 * rate) ** (2 * updates)


def test_every_choice_is_tried_once_and_what_falls_behind_is_stopped(tmp_path: Path) -> None:
    found = searched(BOWL, tmp_path / "s")
    trials = known(tmp_path / "s")
    assert [trial.params["optimizer.lr"] for trial in trials] == RATES
    came_to = [reached(rate, 6 if rate > 0.1 else 2) for rate in RATES]
    assert [trial.value for trial in trials] == pytest.approx(came_to, rel=1e-4, abs=1e-12)
    assert (found["best"], found["settings"], found["trials"]) == (4, {"optimizer.lr": 0.45}, 6)

    behind = tmp_path / "s" / "trial-5"  # it was stopped, as any run can be
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 5 + ["PRUNED"]
    assert (found["pruned"], summary(behind)["status"], summary(behind)["updates"]) == (1, "interrupted", 2)
    resume(behind)
    assert summary(behind)["updates"] == 6


def test_a_grid_needs_as_many_trials_as_it_has_points() -> None:
    space = Space(of(0.1, 0.2, 0.3) | {"updates": {"search": [5, 6]}})
    points = [{"optimizer.lr": rate, "updates": number} for rate in (0.1, 0.2, 0.3) for number in (5, 6)]
    assert [space.grid(most) for most in (5, 6, 7)] == [[], points, points]


def test_a_range_is_searched_within_its_ends_and_the_same_way_again(tmp_path: Path) -> None:
    config = BOWL | {"optimizer": {"name": "SGD", "lr": {"search": {"low": 0.01, "high": 0.4, "log": True}}}}
    config |= {"updates": {"search": {"low": 2, "high": 8, "step": 2}}}
    for name, trials in (("a", 11), ("b", 3)):
        searched(config, tmp_path / name, trials)
    tried = [[trial.params for trial in known(tmp_path / name)] for name in "ab"]
    assert tried[0][:3] == tried[1]
    assert len({point["optimizer.lr"] for point in tried[0]}) == 11
    assert all(0.01 <= point["optimizer.lr"] <= 0.4 and point["updates"] in (2, 4, 6, 8) for point in tried[0])
    for number, point in enumerate(tried[0]):
        settings = load_config(tmp_path / "a" / f"trial-{number}" / "config.yaml").settings
        assert (settings.optimizer.arguments["lr"], settings.updates) == tuple(point.values())


@pytest.mark.parametrize("direction", Direction)
def test_a_trial_is_judged_by_the_worse_end_of_its_interval(direction: Direction) -> None:
    narrow, wide = [1.0, 1.1, 0.9], [3.0, -1.0, 1.0]
    value, place = best([summarize(wide), summarize(narrow)], direction)
    margin = scipy.stats.t.ppf(0.975, 2) * 0.1 / math.sqrt(3)
    assert (value, place) == (pytest.approx(1 - direction.sign * margin), 1)
    assert best([summarize([2.0, 2.0])], direction)[0] == 2
    assert math.isnan(best([summarize([2.0, 3.0, 4.0], [1])], direction)[0])
    endless = {"mean": None, "ci95": [None, None], "per_replica": [1.7e308, 1.6e308]}
    assert math.isnan(best([endless], direction)[0])


def test_the_winner_runs_again_on_seeds_that_no_trial_had(tmp_path: Path) -> None:
    config = AGENT | {"episodes": {"search": [2, 4]}, "policy": {"hidden": {"search": [[3], [4, 4]]}}, "seed": 5}
    found = searched(config, tmp_path / "s")
    values = [trial.value for trial in known(tmp_path / "s")]
    assert values == [summary(tmp_path / "s" / f"trial-{k}")["evaluation.return"]["ci95"][0] for k in range(4)]
    assert found["best"] == values.index(max(values))
    point = {"episodes": found["settings"]["episodes"], "policy": {"hidden": found["settings"]["policy.hidden"]}}
    for key, seed in (("chosen", 5), ("fresh", 7)):
        again = train(AGENT | point | {"seed": seed}, out=tmp_path / key)
        assert found[key] == {**again.summary["evaluation.return"], "seeds": [seed, seed + 1]}


def test_what_can_be_a_replica_is_swept_in_every_trial(tmp_path: Path) -> None:
    config = {key: value for key, value in BOWL.items() if key != "start"}
    config |= {"optimizer": {"name": {"search": ["SGD", "Adam"]}, "lr": {"sweep": [0.01, 0.45, 0.001]}}}
    found = searched(config, tmp_path / "s")
    assert found["settings"] == {"optimizer.name": "SGD", "optimizer.lr": 0.45}
    assert found["fresh"]["mean"] < 1e-9
    assert summary(tmp_path / "s" / "trial-0-fresh-seeds")["replicas"] == 2


def test_a_trial_that_fails_is_named_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Search(Space(of(1e30, 0.1)), tmp_path / "s", 2, quiet=False)() is None
    assert "trial 0: optimizer.lr=1e+30: failed: " in capsys.readouterr().out
    assert [trial.state.name for trial in known(tmp_path / "s")] == ["FAIL", "COMPLETE"]
    with pytest.raises(RunError, match="none of the 1 trials ended with a result"):
        searched(of(1e30), tmp_path / "t")


def test_a_storage_that_is_away_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def away(*words: Any, **how: Any) -> None:
        raise optuna.exceptions.StorageInternalError("gone")

    monkeypatch.chdir(tmp_path)
    command = ["search", "--config", "bowl", "--updates", "4", "--optimizer.lr", "0.1"]
    command = [*command, "0.2", "--evaluation.every_updates", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(optuna.Trial, "report", away)
        patched.setattr(optuna.Study, "tell", away)
        assert main(command) == 1
    assert "the storage cannot be reached any more: StorageInternalError: gone; the same" in capsys.readouterr().err
    ended = (tmp_path / "runs/bowl-search/trial-0/metrics.jsonl").read_bytes()
    assert main(command) == 0
    assert (tmp_path / "runs/bowl-search/trial-0/metrics.jsonl").read_bytes() == ended
    assert [trial.state.name for trial in known(tmp_path / "runs/bowl-search")] == ["COMPLETE"] * 2


def at_update(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], Any], trial: str = "trial-1") -> None:
    """Do something once a trial has come so far."""
    original = Log.seen

    def seen(self: Log, run: Any, update: Any, record: Any) -> None:
        original(self, run, update, record)
        if update.step == number and self.directory.name == trial:
            act()

    monkeypatch.setattr(Log, "seen", seen)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_s_trial_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = of(0.4, 0.3) | {"checkpoint": {"every_updates": 1}}
    searched(config, tmp_path / "whole")
    with monkeypatch.context() as patched:
        at_update(patched, 3, killed)
        child = forked(lambda: searched(config, tmp_path / "s"))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert [trial.state.name for trial in known(tmp_path / "s")][:2] == ["COMPLETE", "RUNNING"]
    again: list[int] = []
    with monkeypatch.context() as patched:
        original = Log.seen
        patched.setattr(Log, "seen", lambda *told: (again.append(told[2].step), original(*told)))
        searched(config, tmp_path / "s")
    assert again == [
        3,
        4,
        5,
        0,
        1,
        2,
        3,
        4,
        5,
    ]  # the rest of trial 1 from its checkpoint, and the winner on fresh seeds
    for each in ("trial-1", "trial-0-fresh-seeds"):
        assert_same(tmp_path / "whole" / each, tmp_path / "s" / each)
    ours, theirs = known(tmp_path / "s"), known(tmp_path / "whole")
    assert [(t.params, t.value, t.intermediate_values) for t in ours] == [
        (t.params, t.value, t.intermediate_values) for t in theirs
    ]


def test_a_worker_that_dies_before_its_trial_has_begun_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*words: Any, **how: Any) -> None:
        raise Crash

    for place in ("rlgrad.run.search.Path.mkdir", "rlgrad.run.search.Space.point", "rlgrad.run.sitting.Log"):
        search = Search(Space(of(0.1, 0.2)), tmp_path / "s", 20)
        with monkeypatch.context() as patched:
            patched.setattr(place, crash)
            with pytest.raises(Crash):
                search()
    searched(of(0.1, 0.2), tmp_path / "s")
    assert [trial.value for trial in known(tmp_path / "s")] == pytest.approx([reached(0.1), reached(0.2)], rel=1e-4)


@pytest.mark.parametrize("storage", [None, "sqlite:///{}/x.db"])
def test_two_workers_share_the_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str | None) -> None:
    where, (hold, go), (at, ready) = storage and storage.format(tmp_path), os.pipe(), os.pipe()
    rates = [0.2, 0.4, 0.3]
    with monkeypatch.context() as patched:
        at_update(patched, 1, lambda: (os.write(ready, b"."), os.read(hold, 1)))
        child = forked(lambda: Search(Space(of(*rates)), tmp_path / "s", 20, where)())
    os.read(at, 1)
    try:
        assert Search(Space(of(*rates)), tmp_path / "s", 20, where)() is None  # it leaves the other's trial alone
        states = [trial.state.name for trial in known(tmp_path / "s", where)]
        assert (states, (tmp_path / "s" / "search.json").exists()) == (["COMPLETE", "RUNNING", "COMPLETE"], False)
    finally:
        os.write(go, b".")
        status = os.waitpid(child, 0)[1]
    assert status == 0
    assert json.loads((tmp_path / "s" / "search.json").read_text())["best"] == 1
    assert [trial.params["optimizer.lr"] for trial in known(tmp_path / "s", where)] == rates
    assert [len(rows(tmp_path / "s" / f"trial-{k}")) for k in range(3)] == [6] * 3


def test_workers_that_race_try_everything_once(tmp_path: Path) -> None:
    children = [forked(lambda: Search(Space(of(0.1, 0.2, 0.3)), tmp_path / "s", 20)()) for _ in range(2)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    assert [trial.params["optimizer.lr"] for trial in known(tmp_path / "s")] == [0.1, 0.2, 0.3]
    assert json.loads((tmp_path / "s" / "search.json").read_text())["best"] == 2


def test_interrupted_it_saves_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = ["--config", "bowl", "--updates", "6", "--optimizer.lr", "0.1", "0.2"]
    with monkeypatch.context() as patched:
        at_update(patched, 3, lambda: signal.raise_signal(signal.SIGINT))
        assert main(["search", *config]) == 130
    assert summary(tmp_path / "runs/bowl-search/trial-1")["updates"] == 4
    assert "the same command goes on" in capsys.readouterr().out
    assert main(["search", *config]) == 0
    said = capsys.readouterr().out
    assert "trial 0" not in said.partition("\n\n")[0]
    assert "of 2 trials, 0 of them pruned, the best is trial" in said
    assert main(["search", *config, "--out", "other", "--quiet"]) == 0
    assert_same(tmp_path / "runs/bowl-search/trial-1", tmp_path / "other/trial-1")


RATE = "--optimizer.lr"
REFUSED: dict[str, tuple[list[str], str]] = {
    "nothing to search": ([RATE, "0.1"], "nothing is searched: give a setting several values"),
    "no trials": ([RATE, "0.1", "0.2", "--trials", "0"], "--trials: must be 1 or more"),
    "a wrong choice": (["--replicas", "2", "-1"], "--replicas: input should be greater than 0"),
    "a wrong end": (["--replicas", "{search: {low: 0, high: 4}}"], "--replicas: input should be greater than 0"),
    "no choice": ([RATE, "{search: []}"], "--optimizer.lr: a search has .* the list is empty"),
    "half a range": ([RATE, "{search: {low: 1}}"], "--optimizer.lr: a search has .* missing .* 'high'"),
    "a range backwards": ([RATE, "{search: {low: 2, high: 1}}"], "`low <= high` must hold"),
    "a logarithm of nothing": ([RATE, "{search: {low: 0.0, high: 1, log: true}}"], "`low > 0` must hold"),
    "a learning rate below zero": ([RATE, "0.1", "-1"], "--optimizer.lr: input should not be negative"),
    "a mistyped optimizer": (["--optimizer.name", "SGD", "SDG"], "--optimizer.name: there is no optimizer 'SDG'"),
    "an argument of another optimizer": (
        ["--optimizer.momentum", "0.5", "--optimizer.name", "SGD", "Adam"], "--optimizer.momentum: Adam has no such"),
    "a wrong schedule": (
        ["--schedule.name", "StepLR", "--schedule.step_size", "3", "0"], "--schedule.*StepLR: ZeroDivisionError"),
    "an endless range": ([RATE, "{search: {low: 1, high: .inf}}"], "both ends must be finite"),
    "words": ([RATE, "{search: {low: a, high: b}}"], "--optimizer.lr: a search has"),
    "no such database": ([RATE, "1", "2", "--storage", "sqlite:////nowhere/x.db"], "--storage: it cannot be reached"),
    "no such kind": ([RATE, "1", "2", "--storage", "nothing://u:secret@x"], "--storage: it cannot be reached"),
    "no such place": ([RATE, "1", "2", "--storage", "/nowhere/x"], "--storage: it cannot be reached"),
    "a file in the way": ([RATE, "1", "2", "--out", "file"], "--out file: the search cannot be written there"),
    "no journal": ([RATE, "1", "2", "--storage", "file"], "--storage: it cannot be reached"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no journal\n\n")
    words, expected = REFUSED[name]
    assert main(["search", "--config", "bowl", *words]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "secret" not in said
    with pytest.raises(UsageError, match=expected):
        raise UsageError(said)


def test_without_optuna_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", {}.get)
    assert main(["search", "--config", "bowl", RATE, "1", "2"]) == 2
    assert "pip install 'rlgrad[sweep]'" in capsys.readouterr().err


def test_another_search_of_the_same_name_is_refused(tmp_path: Path) -> None:
    searched(of(0.1, 0.2) | {"updates": 1}, tmp_path / "s")
    for more, said in (
        (of(0.1, 0.2) | {"updates": 2}, "updates: 1 -> 2"),
        (of(0.1) | {"updates": 1}, "optimizer.lr.search"),
    ):
        with pytest.raises(UsageError, match=f"s: it was begun with other settings.*{said}"):
            Search(Space(more), tmp_path / "s", 20)
    with pytest.raises(UsageError, match="its trials are in another storage"):
        Search(Space(of(0.1, 0.2) | {"updates": 1}), tmp_path / "s", 20, str(tmp_path / "other.log"))


def test_a_run_refuses_what_is_to_be_searched_and_a_sweep_names_the_search() -> None:
    with pytest.raises(UsageError, match=r"optimizer.lr: a run has one value: rlgrad search tries several"):
        load_config(BOWL)
    with pytest.raises(UsageError, match=r"episodes: all replicas of a run share it.* rlgrad search tries"):
        load_config(AGENT, {"episodes": {"sweep": [1, 2]}})
