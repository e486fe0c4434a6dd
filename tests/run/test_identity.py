"""What was written is what is read: a run whose settings, data or files have changed is refused in a sentence."""

import csv
import json
import math
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from rlgrad.cli import main
from rlgrad.errors import RunError, UsageError
from rlgrad.run import checkpoint, resume, train
from rlgrad.run.observers.log import Log
from rlgrad.run.reproduction import reproduce
from tests.run.support import POINT, assert_same, crashing, rows, summary

CONFIG = POINT | {"updates": 6}  # checkpoints after updates 2, 4 and 6
TABLE = [["width", "height", "kind"], *[[f"{k}.5", str(k * k % 7), "ab"[k % 2]] for k in range(16)]]


def write(file: Path, table: list[list[str]]) -> None:
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows(table)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's run, beside its table."""
    folder = tmp_path_factory.mktemp("trained")
    write(folder / "table.csv", TABLE)
    config = {"problem": "logistic", "data": str(folder / "table.csv"), "updates": 4, "batch_size": 4, "l2": 0.1}
    train(config | {"optimizer": {"name": "SGD", "lr": 0.1}}, out=folder / "run")
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, where the table is in its old place and may be changed."""
    shutil.copytree(trained / "run", tmp_path / "run")
    write(trained / "table.csv", TABLE)
    return tmp_path


def change(path: Path, key: str, value: Any) -> None:
    content = yaml.safe_load((path / "config.yaml").read_text())
    *sections, last = key.split(".")
    section = content
    for each in sections:
        section = section[each]
    section[last] = value
    (path / "config.yaml").write_text(yaml.safe_dump(content))


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


COMMANDS = (["train", "--resume"], ["evaluate"], ["reproduce"])


def refused(path: Path, capsys: pytest.CaptureFixture[str], said: str) -> None:
    """By every command, in one line, with nothing changed."""
    before = content(path)
    for words in COMMANDS:
        assert main([*words, str(path)]) == 2
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1
        assert said in printed
    assert content(path) == before


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("seed", 1, "config.yaml is not what it was trained with: seed: 0 -> 1; restore it first"),
        ("l2", 0.2, "l2: 0.1 -> 0.2;"),
        ("batch_size", 8, "batch_size: 4 -> 8;"),
        ("optimizer.lr", 0.2, "optimizer.lr: 0.1 -> 0.2;"),
        ("optimizer.momentum", 0.9, "optimizer.momentum: None -> 0.9;"),
        ("split_seed", 1, "split_seed: 0 -> 1;"),
        ("threads", 2, "threads: 1 -> 2;"),
    ],
)
def test_a_setting_that_has_changed_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any, said: str
) -> None:
    change(folder / "run", key, value)
    refused(folder / "run", capsys, said)


def with_row(table: list[list[str]]) -> list[list[str]]:
    return [*table, ["3", "3", "a"]]


def with_label(table: list[list[str]]) -> list[list[str]]:
    return [table[0], [*table[1][:2], "b"], *table[2:]]


def with_value(table: list[list[str]]) -> list[list[str]]:
    return [*table[:5], ["99.5", *table[5][1:]], *table[6:]]


def with_columns(table: list[list[str]]) -> list[list[str]]:
    return [[height, width, kind] for width, height, kind in table]


def with_classes(table: list[list[str]]) -> list[list[str]]:
    return [[*row[:2], {"a": "y", "b": "z"}.get(row[2], row[2])] for row in table]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (with_row, "rows: 16 -> 17"),
        (with_label, "digest of the labels: "),
        (with_value, "digest of the values: "),
        (with_columns, "columns: width, height -> height, width"),
        (with_classes, "classes: a, b -> y, z"),
    ],
)
def test_data_that_have_changed_are_named(
    trained: Path, folder: Path, capsys: pytest.CaptureFixture[str], edit: Callable[[Any], Any], said: str
) -> None:
    write(trained / "table.csv", edit(TABLE))
    refused(folder / "run", capsys, f"{folder / 'run'}: its data is not what it was trained on: ")
    main(["evaluate", str(folder / "run")])
    assert said in capsys.readouterr().err
    with (trained / "table.csv").open("w") as file:  # the same content, written otherwise
        file.writelines(",".join(cell + " " for cell in row) + "\n\n" for row in TABLE)
    assert main(["evaluate", str(folder / "run")]) == 0


def test_what_changes_no_update_may_be_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "run"
    for key, value in {
        "checkpoint": {"every_updates": 1, "every_seconds": None},
        "update_seconds_limit": 7.0,
        "log_every_updates": 2,
        "diagnose_every_updates": 3,
        "updates": 6,  # as with --extend-to
    }.items():
        change(path, key, value)
    (path / "config.yaml").write_text("# mine\n" + (path / "config.yaml").read_text())
    assert main(["evaluate", str(path)]) == 0
    assert main(["train", "--resume", str(path)]) == 0
    assert summary(path)["updates"] == 6
    assert json.loads((path / "environment.json").read_text())["extended_from"] == [4]


def test_runs_of_before_know_less_and_are_used_all_the_same(trained: Path, folder: Path) -> None:
    path = folder / "run"
    saved = checkpoint.load(path)
    for key in ("config", "data", "format"):
        del saved[key]
    saved["observers"] = {
        name: {file: length for file, (length, _) in state.items()} for name, state in saved["observers"].items()
    }
    checkpoint.save(path, saved)
    assert main(["evaluate", str(path)]) == 0
    assert main(["train", "--resume", str(path), "--extend-to", "5"]) == 0
    assert checkpoint.load(path)["data"]["rows"] == "16"


def test_another_version_is_said_before_anything_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "run" / "environment.json"
    file.write_text(file.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "1.0"'))
    for words in (*COMMANDS[:2], ["reproduce", "--out", str(folder / "again")]):
        assert main([*words, str(folder / "run")]) == 0
        assert f"packages.torch: 1.0 -> {torch.__version__}" in capsys.readouterr().err


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    file = folder / "run" / "model.safetensors"
    weights = load_file(file)
    weights["linear.weight"][0, 0] = value
    save_file(weights, file)
    assert main(["evaluate", str(folder / "run")]) == 2
    assert "model.safetensors: linear.weight is not finite" in capsys.readouterr().err


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(CONFIG, out=tmp_path_factory.mktemp("whole") / "run").directory


def broken_off(tmp_path: Path) -> Path:
    """A run with checkpoints after updates 2 and 4, and a log of 5."""
    path = tmp_path / "run"
    crashing(4, lambda: train(CONFIG, out=path))
    return path


def flip(file: Path, place: int) -> None:
    damaged = bytearray(file.read_bytes())
    damaged[place] ^= 1
    file.write_bytes(damaged)


def log_at(path: Path, name: str) -> dict[str, int]:
    """How long the files of the log were at a checkpoint."""
    states = checkpoint.read(path / name)["observers"]["rlgrad.run.observers.log.Log"]
    return {file: length for file, (length, _) in states.items()}


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("how", ["flipped late", "short", "flipped early", "behind"])
def test_a_log_that_has_changed_is_noticed(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], which: int, how: str
) -> None:
    path = broken_off(tmp_path)
    late, early = log_at(path, checkpoint.CURRENT), log_at(path, checkpoint.PREVIOUS)
    name = list(late)[which]
    if how == "short":
        os.truncate(path / name, early[name])
    else:
        flip(path / name, {"flipped late": early[name], "flipped early": early[name] - 1, "behind": late[name]}[how])
    if how == "flipped early":
        with pytest.raises(
            UsageError, match=rf"{name} is damaged: .*; .*checkpoint.previous.pt: it does not fit"
        ) as caught:
            resume(path)
        assert "\n" not in str(caught.value)
        return
    resume(path)
    said = "" if how == "behind" else f"{name} is "
    assert said in (printed := capsys.readouterr().err)
    assert ("going on from checkpoint.previous.pt instead" in printed) == (how != "behind")
    assert_same(whole, path)


def test_a_damaged_checkpoint_does_not_displace_the_good_one(whole: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Killed between the renames of the first save after it."""
    path = broken_off(tmp_path)
    flip(path / checkpoint.CURRENT, 100)

    class Killed(BaseException):
        pass

    def replace(old: Any, new: Any, original: Any = os.replace) -> None:
        original(old, new)
        if Path(new).name == checkpoint.PREVIOUS:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("rlgrad.files.os.replace", replace)
        with pytest.raises(Killed):
            resume(path)
    assert checkpoint.load(path)["state"]["done"] == 2
    resume(path)
    assert_same(whole, path)


def test_a_run_that_failed_before_its_first_checkpoint_begins_again(
    whole: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(RunError, match="there is no checkpoint"):
            train(CONFIG, out=tmp_path / "run")
    assert summary(tmp_path / "run")["status"] == "failed"
    resume(tmp_path / "run")
    assert_same(whole, tmp_path / "run")


@pytest.mark.parametrize(
    "state",
    [
        {"done": -3}, {"set_aside": {0: 1}}, {"set_aside": {5: 1}}, {"seconds": math.inf}, {"seconds": -1.0},
        {"saving": math.nan}, {"evaluations": -1}, {"work": [math.inf]}, {"work": [math.nan]}, {"work": [-1.0]},
        {"work": [1e300]},
        {"first_solved": {"seconds": math.inf}}, {"evaluations": 2**70},
    ],
)  # fmt: skip
def test_absurd_contents_under_a_right_seal_are_refused(whole: Path, tmp_path: Path, state: dict[str, Any]) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "run"))
    forged = checkpoint.read(path / checkpoint.CURRENT)
    forged["state"] |= state
    checkpoint.save(path, {key: value for key, value in forged.items() if key != "format"})
    before = content(path)
    with pytest.raises(UsageError, match="does not belong to the rest of the run") as caught:
        resume(path)
    assert "\n" not in str(caught.value)
    assert content(path) == before


def test_a_forged_checkpoint_does_not_turn_a_run_around(whole: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "run"))
    forged = checkpoint.read(path / checkpoint.CURRENT)
    (group,) = forged["optimizer"]["param_groups"]
    group["maximize"] = not group["maximize"]
    checkpoint.save(path, {key: value for key, value in forged.items() if key != "format"})
    with pytest.raises(UsageError, match="does not belong to the rest of the run: its optimizer has another maximize"):
        resume(path)


@pytest.mark.parametrize(
    "part",
    [
        {"config": "a: &a [*a]"}, {"config": 3}, {"config": "seed: [" * 50}, {"data": [1]}, {"data": {(1,): {2: 3}}},
        {"observers": None}, {"observers": [1]}, {"observers": {"x": 1}}, {"observers": {"rlgrad.run.observers.log.Log": 5}},
    ],
)  # fmt: skip
def test_forged_identities_are_no_traceback(whole: Path, tmp_path: Path, part: dict[str, Any]) -> None:
    path = Path(shutil.copytree(whole, tmp_path / "run"))
    forged = checkpoint.read(path / checkpoint.CURRENT) | part
    checkpoint.save(path, {key: value for key, value in forged.items() if key != "format"})
    assert main(["train", "--resume", str(path), "--quiet"]) in (0, 2)


@pytest.mark.parametrize("name", ["checkpoint.pt", "checkpoint.previous.pt", "environment.json", "model.safetensors",
                                  "summary.json", "metrics.jsonl", "config.yaml"])  # fmt: skip
def test_what_is_no_regular_file_is_no_reason_to_wait(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any, name: str
) -> None:
    """Nobody writes into these pipes: whoever opens one waits for ever."""
    path = Path(shutil.copytree(whole, tmp_path / "run"))
    (path / name).unlink()
    os.mkfifo(path / name)
    monkeypatch.chdir(tmp_path)
    ends: list[int] = []
    asked = threading.Thread(
        target=lambda: ends.extend(main([*words, str(path)]) for words in COMMANDS[1:]), daemon=True
    )
    asked.start()
    asked.join(60)
    assert len(ends) == 2
    assert capsys.readouterr().err.count("Traceback") == 0


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_data_that_are_no_regular_file_are_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "table.csv"
    os.mkfifo(file) if kind == "pipe" else file.symlink_to("/dev/zero")
    config = {"problem": "logistic", "data": str(file), "updates": 1, "optimizer": {"name": "SGD", "lr": 0.1}}
    with pytest.raises(UsageError, match=r"table\.csv: cannot be read: .*it is not a regular file"):
        train(config, out=tmp_path / "run")


@pytest.mark.parametrize("gone", [["metrics.jsonl"], ["config.yaml"], ["environment.json"], ["events"], ["everything"]])
def test_a_file_that_is_removed_meanwhile_is_written_again(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any, gone: list[str]
) -> None:
    """By somebody, after update 3; `rm -r` leaves the directory where a save gets in between."""
    path, original = tmp_path / "run", Log.seen

    def seen(self: Log, run: Any, update: Any, record: Any) -> None:
        original(self, run, update, record)
        if update.step == 2:
            for file in path.iterdir():
                if gone == ["everything"] or file.name.startswith(gone[0]):
                    file.unlink()

    with monkeypatch.context() as patch:
        patch.setattr(Log, "seen", seen)
        train(CONFIG, out=path)
    said = capsys.readouterr().err
    assert said.count("was removed; it is written again\n") == (4 if gone == ["everything"] else 1)
    assert {file.name.partition(".")[0] for file in path.iterdir()} == {
        file.name.partition(".")[0] for file in whole.iterdir()
    }
    assert_same(whole, path)
    assert rows(resume(path).directory) == rows(whole)


@pytest.mark.parametrize("name", ["metrics.jsonl", "events"])
def test_a_log_that_is_cut_meanwhile_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path, original = tmp_path / "run", Log.seen

    def seen(self: Log, run: Any, update: Any, record: Any) -> None:
        original(self, run, update, record)
        if update.step == 2:
            self.flush()
            os.truncate(next(path.glob(f"{name}*")), 1)

    with monkeypatch.context() as patch:
        patch.setattr(Log, "seen", seen)
        train(CONFIG, out=path)
    assert capsys.readouterr().err.count("was changed while the run went on: it is damaged") == 1
    with pytest.raises(
        UsageError, match=f"{name}.* is shorter .*; restore the files, or begin another run with --init"
    ):
        resume(path, extend_to=99)


def test_a_reproduction_of_other_data_does_not_begin(trained: Path, folder: Path) -> None:
    write(trained / "table.csv", with_label(TABLE))
    with pytest.raises(UsageError, match="its data is not what it was trained on"):
        reproduce(folder / "run", out=folder / "again")
    assert not (folder / "again").exists()
