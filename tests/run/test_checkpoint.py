"""Checkpoints: whole or not there, the one before in reserve, nothing executed, nothing silently wrong."""

import errno
import io
import os
import pickle
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlgrad import files
from rlgrad.config import load_config
from rlgrad.errors import RunError, UsageError
from rlgrad.loop import Update
from rlgrad.run import checkpoint, resume, train
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, Record
from rlgrad.run.observers.checkpoints import Checkpoints
from rlgrad.run.observers.log import reopened
from rlgrad.run.state import State
from tests.run.support import POINT, assert_same, crashing, forked, rows

CONFIG = POINT | {"updates": 6}  # checkpoints after updates 2, 4 and 6
OPERATIONS = ("open", "write", "flush", "fsync", "replace", "fsync of the directory")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(CONFIG, out=tmp_path_factory.mktemp("whole") / "run").directory


def copy_of(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


class FaultyFile(io.FileIO):
    """A file on a disk that is full: `fail` says at which operation it is noticed."""

    fail = ""

    def write(self, data):
        if self.fail == "write":
            super().write(bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", self.name)
        return super().write(data)

    def flush(self):
        if self.fail == "flush":
            raise OSError(errno.ENOSPC, "No space left on device", self.name)
        super().flush()


class FaultySystem:
    """The module `os`, where the operation called `fail` fails at its `number`th use."""

    def __init__(self, fail: str, number: int):
        self.fail, self.number = fail, number

    def __getattr__(self, name):
        return getattr(os, name)

    def _count(self, operation: str) -> None:
        if operation == self.fail:
            self.number -= 1
            if self.number == 0:
                raise OSError(errno.EIO, "Input/output error")

    def fsync(self, descriptor):
        self._count("fsync of the directory" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "fsync")
        os.fsync(descriptor)

    def replace(self, old, new):
        self._count("replace")
        os.replace(old, new)

    def open_file(self, path, mode):
        self._count("open")
        file = FaultyFile(path, mode.replace("b", ""))
        for operation in ("write", "flush"):
            self.number -= operation == self.fail
            if operation == self.fail and self.number == 0:
                file.fail = operation
        return file


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fault_at_any_file_operation_loses_nothing(tmp_path: Path, monkeypatch, operation: str) -> None:
    """Each use of the operation fails in turn, from the first checkpoint on, until the run gets through."""
    whole = train(POINT, out=tmp_path / "whole").directory
    failures: list[tuple[str, bool]] = []
    for number in range(1, 100):
        path = tmp_path / str(number)
        with monkeypatch.context() as patch:

            def save(directory, content, number=number, patch=patch, original=checkpoint.save):
                if not isinstance(files.os, FaultySystem):  # the config is written: from here on things go wrong
                    system = FaultySystem(operation, number)
                    patch.setattr(files, "os", system)
                    patch.setattr(files, "open", system.open_file, raising=False)
                original(directory, content)

            patch.setattr(checkpoint, "save", save)
            try:
                train(POINT, out=path)
                break
            except RunError as error:
                failures.append((str(error), checkpoint.exists(path)))
        assert not list(path.glob("*.tmp"))
        (path / "summary.json").unlink(missing_ok=True)  # as after a kill: without any checkpoint, it begins again
        resume(path)
        assert_same(whole, path, with_events=False)
    assert len(failures) >= 4  # two checkpoints and their weights, at the least
    for text, saved in failures:
        assert "\n" not in text
        assert "the run directory cannot be written to: " in text
        assert text.endswith("the last checkpoint is whole" if saved else "there is no checkpoint")


@pytest.mark.parametrize("limit", [1_000, 4_000, 8_000])
def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(tmp_path: Path, limit: int) -> None:
    """A process that may write no file larger than that."""
    whole = train(CONFIG, out=tmp_path / "whole", updates=30).directory
    path, output = tmp_path / "run", tmp_path / "output"

    def work() -> int:
        from rlgrad.cli import main

        (tmp_path / "config.yaml").write_text(str(CONFIG | {"updates": 30}))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return main(["train", "--config", str(tmp_path / "config.yaml"), "--out", str(path), "--quiet"])

    assert os.waitstatus_to_exitcode(os.waitpid(forked(work, output), 0)[1]) == 1
    (line,) = output.read_text().splitlines()
    assert "cannot be written to: " in line
    assert "File too large" in line
    resume(path) if checkpoint.exists(path) else resume_without(path)
    assert_same(whole, path, with_events=False)


def resume_without(path: Path) -> None:
    (path / "summary.json").unlink(missing_ok=True)
    resume(path)


def test_a_run_directory_that_vanishes_is_one_line(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "run"
    original = checkpoint.save

    def save(directory, content):
        if (path / "checkpoint.pt").exists():
            shutil.rmtree(path)
        original(directory, content)

    monkeypatch.setattr(checkpoint, "save", save)
    with pytest.raises(RunError, match=r"update 4: .* cannot be written to: .*there is no checkpoint") as caught:
        train(CONFIG, out=path)
    assert str(caught.value).count("\n") == 0
    assert not path.exists()


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(whole: Path, tmp_path: Path, capsys) -> None:
    path = tmp_path / "run"
    crashing(4, lambda: train(CONFIG, out=path))  # with checkpoints after updates 2 and 4
    content = (path / "checkpoint.pt").read_bytes()
    (path / "checkpoint.pt").write_bytes(content[: len(content) // 2])
    resume(path)
    error = capsys.readouterr().err
    assert f"{path / 'checkpoint.pt'}: not a readable checkpoint: it is cut off" in error
    assert "going on from checkpoint.previous.pt" in error
    assert error.count("\n") == 1
    assert_same(whole, path)


def test_a_missing_checkpoint_is_replaced_by_the_one_before(whole: Path, tmp_path: Path) -> None:
    """A kill between two renames leaves nothing under the first name."""
    path = tmp_path / "run"
    crashing(5, lambda: train(CONFIG, out=path))
    (path / "checkpoint.pt").rename(path / "checkpoint.pt.tmp")
    assert checkpoint.exists(path)
    resume(path)
    assert_same(whole, path)


def test_where_no_checkpoint_is_left_one_line_says_so(whole: Path, tmp_path: Path) -> None:
    path = copy_of(whole, tmp_path)
    (path / "checkpoint.pt").write_bytes(b"torn")
    (path / "checkpoint.previous.pt").write_bytes(b"")
    with pytest.raises(UsageError, match=r"checkpoint.pt: not a readable .*; .*previous.pt: not a readable") as caught:
        resume(path)
    assert str(caught.value).count("\n") == 0
    (path / "checkpoint.pt").unlink()
    (path / "checkpoint.previous.pt").unlink()
    with pytest.raises(UsageError, match="there is no checkpoint to resume from"):
        resume(path)
    assert rows(path) == rows(whole)


class Trap:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_checkpoint_is_executed(whole: Path, tmp_path: Path) -> None:
    """Not even where a stranger has given it the right checksum."""
    path = copy_of(whole, tmp_path)
    sprung = tmp_path / "sprung"
    (path / "checkpoint.previous.pt").unlink()
    buffer = io.BytesIO()
    torch.save({"format": checkpoint.FORMAT, "model": Trap(sprung)}, buffer)
    for data in (buffer.getvalue(), pickle.dumps(Trap(sprung)), pickle.dumps(Trap(sprung), protocol=0)):
        (path / "checkpoint.pt").write_bytes(checkpoint.sealed(data))
        with pytest.raises(UsageError, match="not a readable checkpoint: it holds more than numbers"):
            resume(path)
        assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))  # the trap does work
    assert sprung.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"log": {"../victim": 0, "events.out.tfevents.1.rlgrad": 0}},
        {"log": {"metrics.jsonl": 0, "events.out.tfevents./../../victim": 0}},
        {"log": {"metrics.jsonl": 10**9, "events.out.tfevents.1.rlgrad": 0}},
        {"log": {"metrics.jsonl": "x", "events.out.tfevents.1.rlgrad": 0}},
        {"log": [1]},
        {"state": {"done": "many"}},
        {"state": {"done": 10**30, "work": [0.0]}},
        {"state": {"done": 2, "work": [0.0] * 2}},
        {"state": {"nothing": 1}},
        {"state": None},
        {"model": {"point": torch.zeros(1)}},
        {"model": 3},
        {"optimizer": {}},
        {"format": 1},
    ],
)
def test_a_checkpoint_of_something_else_is_refused_in_one_line(whole: Path, tmp_path: Path, change: dict) -> None:
    path = copy_of(whole, tmp_path)
    (path / "checkpoint.previous.pt").unlink()
    (tmp_path / "victim").write_text("kept")
    if "log" in change:
        change = {"observers": {"rlgrad.run.observers.log.Log": change["log"]}}
    content = checkpoint.read(path / "checkpoint.pt") | change
    buffer = io.BytesIO()
    torch.save(content, buffer)
    (path / "checkpoint.pt").write_bytes(checkpoint.sealed(buffer.getvalue()))
    with pytest.raises(UsageError) as caught:
        resume(path)
    assert str(caught.value).count("\n") == 0
    assert (tmp_path / "victim").read_text() == "kept"
    assert rows(path) == rows(whole)


def test_a_link_in_the_place_of_a_file_is_not_followed(whole: Path, tmp_path: Path) -> None:
    path = copy_of(whole, tmp_path)
    victim = tmp_path / "victim"
    victim.write_bytes(bytes(10**5))
    for name in ("checkpoint.pt.tmp", "summary.json.tmp", "model.safetensors.tmp"):
        (path / name).symlink_to(victim)
    resume(path)
    (path / "metrics.jsonl").unlink()
    (path / "metrics.jsonl").symlink_to(victim)
    with pytest.raises(UsageError, match=r"does not fit the rest of the run: .*symbolic links"):
        resume(path)
    assert victim.read_bytes() == bytes(10**5)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_fuzzed_checkpoint_is_never_loaded(whole_content: bytes, data: st.DataObject) -> None:
    content = bytearray(whole_content)
    match data.draw(st.sampled_from(["flip", "cut", "insert", "overwrite"])):
        case "flip":
            for position in data.draw(
                st.lists(st.integers(0, 8 * len(content) - 1), min_size=1, max_size=3, unique=True)
            ):
                content[position // 8] ^= 1 << position % 8
        case "cut":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        case "insert":
            position = data.draw(st.integers(0, len(content)))
            content[position:position] = data.draw(st.binary(min_size=1, max_size=50))
        case "overwrite":
            position = data.draw(st.integers(0, len(content) - 1))
            content[position : position + 50] = data.draw(st.binary(min_size=1, max_size=50))
    if bytes(content) != whole_content:
        with pytest.raises(ValueError, match="its checksum "):
            checkpoint.unsealed(bytes(content))


@pytest.fixture(scope="module")
def whole_content(whole: Path) -> bytes:
    return (whole / "checkpoint.pt").read_bytes()


def test_a_checkpoint_is_a_file_of_torch_s(whole: Path) -> None:
    assert torch.load(whole / "checkpoint.pt", weights_only=True)["state"]["done"] == 6


def test_saving_by_the_clock_takes_no_more_than_a_fiftieth_of_the_time() -> None:
    settings = load_config(POINT, {"checkpoint.every_seconds": 1.0}).settings
    saver = Checkpoints()
    saver.saved, saver.cost = 100.0, 0.1  # seconds that the last checkpoint took
    settings = settings.model_copy(
        update={"checkpoint": settings.checkpoint.model_copy(update={"every_updates": None})}
    )
    run = SimpleNamespace(settings=settings, state=State(done=1))
    for seconds, due in ((0.9, False), (1.1, False), (4.9, False), (5.1, True)):
        run.now = 100.0 + seconds
        assert saver.due(run) is due
    saver.cost = 0.001
    run.now = 101.1
    assert saver.due(run)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metrics.jsonl": -5}, "is shorter than it was"),
        ({"metrics.jsonl": 10**9}, "is shorter than it was"),
        ({"events": -1}, "is shorter than it was"),
        ({"events": 10**9}, "is shorter than it was"),
        ({"more": 0}, "as the log"),
    ],
)
def test_a_log_that_is_not_as_long_as_it_was_is_left_alone(whole: Path, change: dict, said: str) -> None:
    lengths = {path.name: path.stat().st_size for path in sorted(whole.glob("*events*"))}
    lengths = {"metrics.jsonl": (whole / "metrics.jsonl").stat().st_size, **lengths}
    (events,) = lengths.keys() - {"metrics.jsonl"}
    before = {name: (whole / name).read_bytes() for name in lengths}
    with pytest.raises(ValueError, match=said):
        reopened(whole, lengths | {events if name == "events" else name: length for name, length in change.items()})
    assert {name: (whole / name).read_bytes() for name in lengths} == before
    for file in reopened(whole, lengths).values():  # as they are
        assert file.length == len(before[file.path.name])
        file.close()


def on_the_disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How long each file was when it was last brought to the disk, by its name."""
    found: dict[str, int] = {}
    original = os.fsync

    def fsync(descriptor: int) -> None:
        found[os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))] = os.fstat(descriptor).st_size
        original(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_a_file_gets_its_name_when_all_of_it_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, original = on_the_disk(monkeypatch), os.replace

    def replace(old: Path, new: Path) -> None:
        if old.name == "file.tmp":
            assert found["file.tmp"] == 1000
        original(old, new)

    monkeypatch.setattr(os, "replace", replace)
    files.write(tmp_path / "file", bytes(1000), tmp_path / "before")
    files.write(tmp_path / "file", bytes(1000), tmp_path / "before")
    assert tmp_path.name in found  # the names too
    assert (tmp_path / "before").stat().st_size == 1000


def test_a_checkpoint_remembers_no_more_of_the_log_than_is_on_the_disk(tmp_path: Path, monkeypatch) -> None:
    found, original = on_the_disk(monkeypatch), checkpoint.save
    lengths: list[dict[str, int]] = []

    def save(directory: Path, content: dict) -> None:
        lengths.append(content["observers"]["rlgrad.run.observers.log.Log"])
        for name, (length, _) in lengths[-1].items():
            assert found[name] == (directory / name).stat().st_size == length > 0
        original(directory, content)

    monkeypatch.setattr(checkpoint, "save", save)
    train(CONFIG, out=tmp_path / "run")
    assert len(lengths) == 3


def test_the_seconds_that_checkpoints_take_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr("rlgrad.run.observers.checkpoints.time", SimpleNamespace(monotonic=lambda: clock.seconds))
    original, costs = checkpoint.save, iter([2.0, 3.0, 5.0])

    def save(directory: Path, content: dict) -> None:
        original(directory, content)
        clock.seconds += next(costs)

    monkeypatch.setattr(checkpoint, "save", save)

    class Watch(Observer):
        def seen(self, run: Following, update: Update, record: Record) -> None:
            (saver,) = [each for each in run.observers if isinstance(each, Checkpoints)]
            seen.append((saver.saved, saver.cost, run.state.saving))

    seen: list[tuple[float, float, float]] = []
    run = train(
        CONFIG, out=tmp_path / "run", observers=[Watch()], checkpoint={"every_updates": 2, "every_seconds": None}
    )
    assert seen == [(100, 0, 0), (100, 0, 0), (102, 2, 2), (102, 2, 2), (105, 3, 5), (105, 3, 5)]
    assert run.summary["saving_seconds"] == 10


def test_checkpoints_come_by_updates_and_by_the_clock(tmp_path: Path) -> None:
    """Whichever comes first."""
    settings = load_config(POINT).settings
    saver = Checkpoints()
    saver.saved, saver.cost = 0.0, 0.0

    def due(done: int, now: float, **every: float | None) -> bool:
        how = settings.checkpoint.model_copy(update=every)
        run = SimpleNamespace(settings=settings.model_copy(update={"checkpoint": how}), state=State(done=done), now=now)
        return saver.due(run)

    both = {"every_updates": 4, "every_seconds": 10.0}
    assert [due(done, 1.0, **both) for done in range(1, 9)] == [False] * 3 + [True] + [False] * 3 + [True]
    assert [due(3, now, **both) for now in (9.9, 10.1)] == [False, True]
    assert [due(done, 1e6, every_updates=3, every_seconds=None) for done in (1, 2, 3)] == [False, False, True]
    assert [due(1, now, every_updates=None, every_seconds=10.0) for now in (9.9, 10.1)] == [False, True]
