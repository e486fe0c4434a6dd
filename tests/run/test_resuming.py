"""A run that stops, and goes on as if it had not."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from rlgrad.cli import main
from rlgrad.errors import UsageError
from rlgrad.files import read_json
from rlgrad.loop import Update
from rlgrad.named import subclasses_in
from rlgrad.run import resume, train
from rlgrad.run.directory import held
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, Record
from tests.run.support import AGENT, CLASSIFIER, SURFACE, assert_same, crashing, events, points, rows, summary, timeless

CRITIC = {
    "baseline": "critic",
    "critic": {"hidden": [4], "learning_rate": 0.1},
    "gae_lambda": 0.9,
    "time_limit": "bootstrap",
}
NORMALISED = {
    "normalise_observations": True,
    "normalise_returns": True,
    "entropy_bonus": {"coefficient": 0.1, "final": 0},
}
STOPPING = CLASSIFIER | {  # replicas stop at updates of their own, one of them before the run breaks off
    "optimizer": {"name": "SGD", "lr": 3.0},
    "schedule": None,
    "updates": 12,
    "validation_fraction": 0.2,
    "early_stopping": {"patience": 2},
    "evaluation": {"every_updates": 1},
}
PLACES = {"problem": "reinforce", "environment": "tests/Discrete-v0", "baseline": "running_mean", "episodes": 3}
CASES = {
    "agent": AGENT,
    "critic": AGENT | CRITIC | NORMALISED,
    "natural": AGENT  # whose critic has an optimizer of its own, and the policy's a schedule
    | CRITIC
    | {
        "optimizer": {"name": "NaturalGradient", "kl": 0.05},
        "critic": {"hidden": [4], "optimizer": {"name": "NAdam", "lr": 0.01}, "epochs": 2, "minibatches": 2},
        "schedule": {"name": "LinearLR", "start_factor": 1.0, "end_factor": 0.0, "total_iters": 6},
    },
    "segments": AGENT | CRITIC | {"segment": 20, "updates": 8},
    "running_mean": AGENT | PLACES | {"normalise_returns": True},
    "classifier": CLASSIFIER,
    "stopping": STOPPING,
    "surface": SURFACE | {"schedule": {"name": "CosineAnnealingLR", "T_max": 5}},
    "chained": SURFACE
    | {"schedule": {"name": "SequentialLR", "milestones": [2], "schedulers": [{"name": "ConstantLR", "factor": 0.5}, {"name": "ExponentialLR", "gamma": 0.9}]}},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_is_the_unbroken_one_bit_for_bit(tmp_path: Path, case: str) -> None:
    whole = train(CASES[case], out=tmp_path / "whole", checkpoint={"every_updates": 2}).directory
    broken = tmp_path / "broken"
    crashing(4, lambda: train(CASES[case], out=broken, checkpoint={"every_updates": 2}))
    assert len(rows(broken)) == 5  # more was logged than saved
    assert resume(broken).summary["status"] == "completed"
    assert_same(whole, broken)


@pytest.mark.parametrize("name", sorted(subclasses_in(torch.optim, torch.optim.Optimizer) - {"SparseAdam"}))
def test_every_optimizer_resumes_bit_for_bit(tmp_path: Path, name: str) -> None:
    arguments = {"lr": 1e-4} if name == "ASGD" else {}  # it would leap away
    config = SURFACE | {"optimizer": {"name": name, **arguments}, "checkpoint": {"every_updates": 3}}
    whole = train(config, out=tmp_path / "whole").directory
    crashing(4, lambda: train(config, out=tmp_path / "broken"))
    resume(tmp_path / "broken")
    assert_same(whole, tmp_path / "broken", with_events=False)


def test_a_resumed_run_that_breaks_off_again_is_still_the_same(tmp_path: Path) -> None:
    config = AGENT | {"checkpoint": {"every_updates": 1}}
    whole = train(config, out=tmp_path / "whole").directory
    crashing(1, lambda: train(config, out=tmp_path / "broken"))
    for step in (1, 3, 3, 5):
        crashing(step, lambda: resume(tmp_path / "broken"))
    resume(tmp_path / "broken")
    assert_same(whole, tmp_path / "broken")


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(tmp_path: Path, capsys) -> None:
    whole = train(AGENT, out=tmp_path / "whole").directory
    crashing(3, lambda: train(AGENT, out=tmp_path / "broken"))
    resume(tmp_path / "broken")
    assert "it was killed before its first checkpoint, and begins again" in capsys.readouterr().err
    assert_same(whole, tmp_path / "broken")


def test_a_run_that_was_killed_before_it_began_has_nothing_to_lose(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UsageError, match="killed before it began, and nothing is lost"):
        resume(tmp_path)
    (tmp_path / "checkpoint.pt").touch()  # there is something to lose
    with pytest.raises(UsageError, match=r"config\.yaml: the file is empty"):
        resume(tmp_path)


def test_resuming_a_completed_run_changes_nothing(tmp_path: Path, capsys) -> None:
    path = train(AGENT, out=tmp_path / "run").directory
    before = rows(path), points(path), timeless(path)
    assert main(["train", "--resume", str(path)]) == 0
    assert "completed already; --extend-to N lengthens it" in capsys.readouterr().out
    assert (rows(path), points(path), timeless(path)) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seed", "3"], "was begun with other settings: seed: 0 -> 3; --resume "),
        (["--optimizer.lr", "1", "--updates", "9"], "updates: 6 -> 9, optimizer.lr: 0.05 -> 1; --resume "),
        (["--updates", "9"], " goes on with its own, --extend-to N lengthens it"),
        (["--schedule", "null"], "schedule.name: ExponentialLR -> None"),
        (["--config", "cartpole"], " and "),
        (["--wrong-sign"], "wrong_sign: False -> True"),
        (["--extend-to", "6"], "--extend-to 6: {} has 6 updates already"),
        (["--extend-to", "9", "--seed", "1"], "seed: 0 -> 1; "),
        (["--sead", "3"], "--sead: unknown setting; did you mean seed"),
    ],
)
def test_other_settings_are_refused_and_shown(finished: Path, capsys, arguments: list[str], said: str) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    assert main(["train", "--resume", str(finished), *arguments]) == 2
    error = capsys.readouterr().err
    assert said.format(finished) in error
    assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_the_same_settings_are_not_refused(finished: Path) -> None:
    (finished / "again.yaml").write_text(yaml.safe_dump(AGENT))
    assert main(["train", "--resume", str(finished), "--config", str(finished / "again.yaml"), "--seed", "0"]) == 0
    (finished / "again.yaml").unlink()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(AGENT, out=tmp_path_factory.mktemp("finished") / "run").directory


@pytest.mark.parametrize("config", [CLASSIFIER, SURFACE], ids=["classifier", "surface"])
def test_an_extended_run_is_one_that_was_always_so_long(tmp_path: Path, config: dict, capsys) -> None:
    """All is as in the longer run, but that the evaluation at the old end stays."""
    config = config | {"evaluation": {"every_updates": 3}}
    whole = train(config, out=tmp_path / "whole", updates=11).directory
    path = train(config, out=tmp_path / "run", updates=7).directory
    run = resume(path, extend_to=11)
    assert (run.summary["status"], run.summary["updates"]) == ("completed", 11)
    assert yaml.safe_load((path / "config.yaml").read_text())["updates"] == 11
    longer, shorter = rows(whole), rows(path)
    assert any(key.startswith("evaluation/") for key in shorter[6])
    shorter[6] = {key: value for key, value in shorter[6].items() if not key.startswith("evaluation/")}
    assert shorter == longer
    assert timeless(path) == timeless(whole)
    found = events(path)
    begun, extended = 0, shorter[6]["step"]
    assert [point.step for point in found.Tensors("config")] == [begun, extended]
    assert b"updates: 11" in found.Tensors("config")[1].tensor_proto.string_val[0]
    assert len(set(points(path))) == len(points(path))
    if "schedule" in config:
        assert (
            "the schedule ReduceLROnPlateau goes on by its own settings (patience: 0, factor: 0.5)"
            in capsys.readouterr().err
        )


def test_a_run_is_not_extended_where_that_would_change_its_past(tmp_path: Path) -> None:
    config = AGENT | {"entropy_bonus": {"coefficient": 0.1, "final": 0.0}}
    path = train(config, out=tmp_path / "run").directory
    with pytest.raises(UsageError, match=r"its entropy_bonus.final is reached at the last update"):
        resume(path, extend_to=10)


def test_a_schedule_that_cannot_go_on_is_not_extended(tmp_path: Path) -> None:
    schedule = {"name": "OneCycleLR", "max_lr": 1e-4, "total_steps": 8}
    how = {"schedule": schedule, "optimizer": {"name": "SGD"}}
    path = train(SURFACE | how, out=tmp_path / "run").directory
    with pytest.raises(UsageError, match="OneCycleLR ends after 8 updates, before the run"):
        resume(path, extend_to=9)
    assert yaml.safe_load((path / "config.yaml").read_text())["updates"] == 8


def test_auto_finds_the_newest_run_of_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("surface", "surface-2"):  # surface-2-1 is a run of another config
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(SURFACE))
    for number in (1, 2):
        crashing(3, lambda: train("surface", checkpoint={"every_updates": 1}))
        os.utime(f"runs/surface-{number}/config.yaml", (number, number))
    crashing(3, lambda: train("surface-2", checkpoint={"every_updates": 1}))
    command = ["train", "--resume", "auto", "--config", "surface"]
    assert main([*command, "--quiet"]) == 2
    assert (
        "runs/surface-2 was begun with other settings: checkpoint.every_updates: 1 -> None" in capsys.readouterr().err
    )
    assert main([*command, "--quiet", "--checkpoint.every_updates", "1"]) == 0
    assert summary(tmp_path / "runs" / "surface-2")["status"] == "completed"
    assert not (tmp_path / "runs" / "surface-1" / "summary.json").exists()


class Looks(Observer):
    """Calls a function with the run, before its first update and after each."""

    def __init__(self, look: Callable[[Following], None]):
        self.look, self.count = look, 0

    def begin(self, run: Following) -> None:
        self.look(run)
        self.count += 1

    def seen(self, run: Following, update: Update, record: Record) -> None:
        self.begin(run)


def test_a_run_that_goes_on_has_no_summary_until_it_ends(tmp_path: Path) -> None:
    path = train(SURFACE, out=tmp_path / "run").directory

    def look(run: Following) -> None:
        assert not (path / "summary.json").exists()

    looks = Looks(look)
    resume(path, extend_to=10, observers=[looks])
    assert looks.count == 3
    assert summary(path)["updates"] == 10


def test_threads_are_those_of_the_settings_in_each_sitting(tmp_path: Path) -> None:
    before, config = torch.get_num_threads(), SURFACE | {"threads": 2, "checkpoint": {"every_updates": 2}}

    def look(run: Following) -> None:
        assert torch.get_num_threads() == 2

    looks = Looks(look)
    crashing(4, lambda: train(config, out=tmp_path / "run", observers=[looks]))
    assert resume(tmp_path / "run", observers=[looks]).summary["status"] == "completed"
    assert looks.count == 6 + 5
    assert torch.get_num_threads() == before


def test_a_run_is_held_by_whoever_works_on_it(tmp_path: Path) -> None:
    def look(run: Following) -> None:
        with pytest.raises(UsageError, match="another process is at work on this run"), held(tmp_path / "run"):
            pass

    looks = Looks(look)
    path = train(SURFACE, out=tmp_path / "run", observers=[looks]).directory
    resume(path, extend_to=9, observers=[looks])
    assert looks.count == 9 + 2
    with held(path):  # until it ends
        pass


@pytest.mark.parametrize("text", ["{", None], ids=["damaged", "missing"])
def test_a_lost_record_of_the_environment_is_said_and_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    train(SURFACE, out=tmp_path / "run")
    file = tmp_path / "run" / "environment.json"
    before = read_json(file)
    file.write_text(text) if text else file.unlink()
    resume(tmp_path / "run", extend_to=13)
    assert "environment.json was lost: it is written again" in capsys.readouterr().err
    assert read_json(file).keys() == before.keys() | {"extended_from"}


def test_a_run_that_is_lengthened_in_the_midst_of_it_had_no_end_there(tmp_path: Path, monkeypatch) -> None:
    """And so what is reproduced is one run, and not a shorter one that was gone on with."""
    monkeypatch.chdir(tmp_path)
    config = SURFACE | {"checkpoint": {"every_updates": 2}, "evaluation": {"every_updates": 100}}
    crashing(4, lambda: train(config, out="run"))
    resume("run", extend_to=11)
    assert "extended_from" not in read_json(Path("run") / "environment.json")
    resume("run", extend_to=13)
    assert read_json(Path("run") / "environment.json")["extended_from"] == [11]
    resume("run", extend_to=14)
    assert read_json(Path("run") / "environment.json")["extended_from"] == [11, 13]
    assert main(["reproduce", "run", "--quiet"]) == 0


def test_two_processes_never_work_on_one_run(tmp_path: Path) -> None:
    path = train(SURFACE, out=tmp_path / "run").directory
    with held(path), pytest.raises(UsageError, match="another process is at work on this run"):
        resume(path)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # holds the run until it is killed
        with held(path):
            os.write(writing, b"!")
            signal.pause()
    assert os.read(reading, 1) == b"!"
    with pytest.raises(UsageError, match="another process"):
        resume(path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert resume(path).summary["status"] == "completed"


def test_a_problem_may_have_a_state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlgrad.problems.surface import SurfaceProblem

    class WithMemory(SurfaceProblem):
        """The function is added to how often it has been asked for."""

        asked = 0

        def objective(self, batch):
            self.asked += 1
            estimate = super().objective(batch)
            return estimate._replace(value=estimate.value + self.asked)

        def state_dict(self):
            return {"asked": self.asked, "more": torch.zeros(2)}

        def load_state_dict(self, state):
            self.asked = state["asked"]

    monkeypatch.setattr("rlgrad.problems.surface.SurfaceProblem", WithMemory)
    config = SURFACE | {"checkpoint": {"every_updates": 2}}
    whole = train(config, out=tmp_path / "whole").directory
    crashing(4, lambda: train(config, out=tmp_path / "broken"))
    resume(tmp_path / "broken")
    assert_same(whole, tmp_path / "broken")


def test_other_versions_are_pointed_out(tmp_path: Path, capsys) -> None:
    path = train(SURFACE, out=tmp_path / "run").directory
    file = path / "environment.json"
    file.write_text(file.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "1.0"'))
    resume(path)
    assert (
        f"its last bits may change, as these have: packages.torch: 1.0 -> {torch.__version__}"
        in capsys.readouterr().err
    )
    file.write_text("[1]")  # whatever it holds
    assert resume(path).summary["status"] == "completed"
