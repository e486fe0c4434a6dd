"""Signals that reach a run, whoever still listens to what it says."""

import json
import os
import pty
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.vector import AsyncVectorEnv

from rlgrad import cli
from rlgrad.cli import main
from rlgrad.run import checkpoint, resume, train
from rlgrad.run.observers.log import Log
from rlgrad.run.signals import received
from tests.run.support import POINT, assert_same, forked, summary

CONFIG = POINT | {"updates": 50, "checkpoint": {"every_updates": 100}}
KEPT: list[Any] = []
INT, TERM, HUP, USR1 = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1


def at_update(step: int, act: Callable[[], Any]) -> None:
    """Do something after the update with this number, in this process."""
    original = Log.seen

    def seen(self: Log, run: Any, update: Any, record: Any) -> None:
        original(self, run, update, record)
        if update.step == step:
            act()

    Log.seen = seen  # type: ignore[method-assign]


def kills(*numbers: int) -> Callable[[], None]:
    """Signals to this process, each handled before the next one is sent."""

    def act() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)

    return act


def command(folder: Path, act: Callable[[], Any], *words: str, streams: Callable[[], Any] = lambda: None) -> int:
    """The exit status of `rlgrad train` in a process of its own, where `act` happens after update 2. streams: makes
    its standard streams other ones."""

    def work() -> int:
        streams()
        (folder / "config.yaml").write_text(json.dumps(CONFIG))
        at_update(2, act)
        code = main(["train", "--config", str(folder / "config.yaml"), "--out", str(folder / "run"), *words])
        sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 - for `forked`
        return code

    return os.waitstatus_to_exitcode(os.waitpid(forked(work, folder / "output"), 0)[1])


def redirected(descriptor: int, *numbers: int) -> None:
    """Let standard output (1) or error (2) go elsewhere, as a shell does."""
    for number in numbers:
        name = {1: "stdout", 2: "stderr"}[number]
        KEPT.append(getattr(sys, name))  # as it closes its descriptor when it goes
        os.dup2(descriptor, number)
        setattr(sys, name, os.fdopen(number, "w", buffering=1, closefd=False))


@pytest.fixture(autouse=True)
def nothing_is_ignored() -> Iterator[None]:
    """As in a terminal: what runs the tests may have begun them with `nohup`, which ignores a hangup."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (TERM, HUP, USR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(CONFIG, out=tmp_path_factory.mktemp("whole") / "run").directory


@pytest.mark.parametrize(("number", "code"), [(INT, 130), (TERM, 143), (HUP, 129)])
@pytest.mark.parametrize("broken", ["nothing", "full", "tee", "closed", "all"])
def test_a_signal_saves_and_ends_whatever_has_become_of_the_streams(
    tmp_path: Path, whole: Path, number: int, code: int, broken: str
) -> None:
    reading, writing = os.pipe()

    def act() -> None:
        os.close(reading)  # of `2>&1 | tee`, which has got the signal before
        kills(number)()

    def streams() -> None:
        if broken in ("full", "all"):
            redirected(os.open("/dev/full", os.O_WRONLY), *((2,) if broken == "full" else (1, 2)))
        if broken == "tee":
            redirected(writing, 1, 2)
            os.close(writing)
        if broken == "closed":
            KEPT.append(sys.stderr)
            os.close(2)
            sys.stderr = None  # what Python makes of it

    quiet = ["--quiet"] if broken == "all" else []  # else the run ends with its first line
    assert command(tmp_path, act, *quiet, streams=streams) == code
    os.close(reading), os.close(writing)
    assert summary(tmp_path / "run")["status"] == "interrupted"
    assert checkpoint.load(tmp_path / "run")["state"]["done"] == 3
    if broken == "nothing":
        assert "interrupted: finishing this update" in (tmp_path / "output").read_text()
    resume(tmp_path / "run")
    assert_same(whole, tmp_path / "run", with_events=False)


@pytest.mark.parametrize(
    ("numbers", "code", "saved"),
    [
        ((TERM, TERM), 143, False),
        ((INT, TERM), 143, False),
        ((TERM, INT), 130, False),
        ((HUP, HUP), 129, True),  # a shell sends it beside the system's own
        ((HUP, TERM), 129, True),  # and whoever shuts down sends both
        ((TERM, HUP), 143, True),
        ((USR1, USR1, INT), 130, True),
    ],
)
def test_only_who_is_impatient_leaves_at_once(tmp_path: Path, numbers: tuple[int, ...], code: int, saved: bool) -> None:
    assert command(tmp_path, kills(*numbers), "--quiet") == code
    assert checkpoint.exists(tmp_path / "run") is saved
    assert (tmp_path / "run" / "summary.json").exists() is saved
    assert "Traceback" not in (tmp_path / "output").read_text()


def test_a_terminal_that_hangs_up_saves_and_ends(tmp_path: Path) -> None:
    """A closed session of ssh: the signal, and from then on no stream can be written to."""
    (tmp_path / "config.yaml").write_text(json.dumps(CONFIG))
    ready, go = os.pipe(), os.pipe()
    child, terminal = pty.fork()
    if not child:
        try:
            redirected(os.dup(1), 1, 2)
            at_update(2, lambda: (os.write(ready[1], b"!"), os.read(go[0], 1)))
            code = main(["train", "--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "run")])
        finally:
            os._exit(code)
    attributes = termios.tcgetattr(terminal)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    reader = threading.Thread(target=lambda: [os.read(terminal, 1000)])  # the bar is shown
    reader.start()
    os.read(ready[0], 1)
    reader.join()
    os.close(terminal)
    os.write(go[1], b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 129
    assert summary(tmp_path / "run")["status"] == "interrupted"
    assert checkpoint.load(tmp_path / "run")["state"]["done"] == 3
    for descriptor in (*ready, *go):
        os.close(descriptor)


def test_a_run_is_saved_when_it_is_asked_for_and_goes_on(tmp_path: Path, whole: Path) -> None:
    def act() -> None:
        kills(USR1)()
        at_update(4, kills(signal.SIGKILL))

    assert command(tmp_path, act, "--quiet") == -signal.SIGKILL
    assert checkpoint.load(tmp_path / "run")["state"]["done"] == 3
    assert (tmp_path / "output").read_text() == "\nsaving after this update\n"
    resume(tmp_path / "run")
    assert_same(whole, tmp_path / "run")


def test_a_signal_that_somebody_else_has_a_use_for_is_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """nohup ignores SIGHUP; a job's own code may handle SIGUSR1."""
    theirs: list[int] = []
    before = {HUP: signal.signal(HUP, signal.SIG_IGN), USR1: signal.signal(USR1, lambda n, _: theirs.append(n))}
    try:
        with received() as (ends, saves):
            kills(HUP, USR1)()
        assert (ends, saves, theirs) == ([], [], [USR1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in (HUP, USR1):
        monkeypatch.delattr(signal, signal.Signals(number).name)  # a system without them
    with received() as (ends, saves):
        kills(INT)()
    assert (ends, saves) == ([INT], [])


@pytest.mark.parametrize("words", [["train"], ["train", "--config", "no such"], ["evaluate", "no such"]])
def test_a_refusal_that_nobody_can_read_is_one_all_the_same(tmp_path: Path, words: list[str]) -> None:
    def work() -> int:
        redirected(os.open("/dev/full", os.O_WRONLY), 1, 2)
        return main(words)

    assert os.waitstatus_to_exitcode(os.waitpid(forked(work, tmp_path / "output"), 0)[1]) == 2


def test_a_signal_for_a_checkpoint_may_come_before_there_is_anything_to_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work() -> int:
        signal.signal(INT, signal.default_int_handler)  # as in a process that has just begun
        signal.signal(USR1, signal.SIG_DFL)
        monkeypatch.setattr(cli, "import_torch", lambda _: kills(USR1)())  # it takes a second or two
        words = ["train", "--config", "bowl", "--updates", "3", "--out", str(tmp_path / "run")]
        monkeypatch.setattr(sys, "argv", ["rlgrad", *words])
        return main()

    assert os.waitstatus_to_exitcode(os.waitpid(forked(work, tmp_path / "output"), 0)[1]) == 0
    assert summary(tmp_path / "run")["status"] == "completed"


class Slow(CartPoleEnv):
    """Says who plays, before it does."""

    def reset(self, **how: Any) -> Any:
        with open(os.environ["PLAYERS"], "a") as file:
            file.write(f"{os.getpid()}\n")
        return super().reset(**how)


def players(num_envs: int) -> AsyncVectorEnv:
    return AsyncVectorEnv([Slow] * num_envs)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_leaves_no_process_of_a_vector_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A terminal sends it to all processes of the group, the helpers included."""
    gymnasium.register("tests/Players-v0", CartPoleEnv, vector_entry_point=players)
    monkeypatch.setenv("PLAYERS", str(tmp_path / "players"))
    config = {"problem": "reinforce", "environment": "tests/Players-v0", "simulator": "vector", "episodes": 2}
    config |= {"updates": 1000, "optimizer": {"name": "SGD", "lr": 0.1}, "evaluation": {"episodes": 2}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))

    def work() -> int:
        os.setsid()
        at_update(2, lambda: [os.killpg(0, INT) for _ in range(times)])
        return main(["train", "--config", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "run")])

    child = forked(work, tmp_path / "output")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130, (tmp_path / "output").read_text()
    played = {int(number) for number in (tmp_path / "players").read_text().split()} - {child}
    assert len(played) >= 2
    for number in played:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
    assert "Traceback" not in (tmp_path / "output").read_text()
