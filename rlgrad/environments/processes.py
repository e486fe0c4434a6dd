"""Copies of an environment in several processes, with the same interface and the same results, to the last bit.

Each process has some neighbouring copies: this one the first of them, its workers the others. Observations, actions,
rewards and ends are in shared memory; short messages through a pipe say that they are there. A worker is a new
interpreter that gets a description of its copies: no process is forked beside torch's threads, and no user's script
runs twice. A worker ends when its pipe closes, so it never outlives its parent, whatever the parent died of.
"""

import contextlib
import importlib
import json
import math
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from rlgrad import ranks
from rlgrad.environments.around import NOTHING, Around
from rlgrad.environments.interface import Transition, seeds_from
from rlgrad.environments.moments import moments, recall
from rlgrad.environments.packages import get_ready
from rlgrad.environments.vector import GymnasiumEnvironments
from rlgrad.errors import Elsewhere, RunError, place

START = (
    "import json, sys; path, *files = sys.argv[1:]; sys.path[:] = json.loads(path); "
    "from rlgrad.environments.processes import serve; serve(*map(int, files))"
)
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # all cores are in use
PATIENCE = 1.0  # seconds in which a worker has to end by itself
NOT_FOR_WORKERS = [  # signals for the parent only, which saves the run first
    vars(signal)[name] for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if name in vars(signal)
]


def shared(memory: int, start: int, like: GymnasiumEnvironments, copies: int) -> tuple[dict[str, np.ndarray], int]:
    """Return arrays for the copies, in the shared memory from `start` on, and where the next arrays may begin."""
    row = np.dtype([
        ("observation", like.observation.dtype, like.observation.shape[1:]), ("reward", "f8"), ("terminated", "?"),
        ("truncated", "?"), ("over", "?"), ("seeds", "i8"), ("action", "u1", 8 * math.prod(like.spaces[1].shape)),
    ])  # fmt: skip
    size = -(-copies * row.itemsize // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
    if os.fstat(memory).st_size < start + size:
        os.ftruncate(memory, start + size)
    rows = np.frombuffer(mmap.mmap(memory, size, offset=start), row, copies)
    return {name: rows[name] for name in row.names or ()}, start + size


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Block the signals that are for a parent, here and in any process that is started in the body."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_FOR_WORKERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class Worker:
    """A process that steps some copies, as its parent sees it."""

    def __init__(self) -> None:
        own, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as file, held_back():
            linux = sys.platform == "linux"  # Linux has shared memory without a file, and without its limits
            self.memory, self.end = os.memfd_create("rlgrad") if linux else os.dup(file.fileno()), 0
            files = theirs.fileno(), self.memory
            self.process = subprocess.Popen(  # in its own session: a Ctrl-C is for its parent only
                [sys.executable, "-c", START, json.dumps(sys.path), *map(str, files)],
                stdin=subprocess.PIPE, env={**os.environ, **ONE_THREAD}, pass_fds=files, start_new_session=True,
            )  # fmt: skip
        self.pipe = Connection(own.detach())

    def ask(self, *words: Any) -> None:
        try:
            self.pipe.send(words)
        except OSError:
            raise self.obituary() from None

    def answer(self) -> Any:
        """Return the worker's answer. Raises what the environment raised, or RunError if the worker has ended."""
        try:
            fine, found = self.pipe.recv()
        except (EOFError, OSError):
            raise self.obituary() from None
        if not fine:
            name, text, where = found
            raise RunError(text) if name == "RunError" else type(name, (Elsewhere,), {"place": where})(text)
        return found

    def obituary(self) -> RunError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        code = self.process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"
        return RunError(f"a worker, a process that steps environments, has ended: {how} (`workers: 0` needs none)")


class Crew:
    """The workers of an agent, started when they are needed, and the description of the environment for them.

    Raises TypeError if another process cannot make the environment.
    """

    def __init__(self, id: str, options: Mapping[str, Any], around: Around = NOTHING, imports: Sequence[str] = (),
                 count: int = 1):  # fmt: skip
        self.count, self.workers = count, list[Worker]()
        if os.name != "posix":
            raise TypeError("workers need a POSIX system")
        self.of = around.spec(id) or gymnasium.spec(id), dict(options), tuple(imports)
        try:
            pickled = self.pickled(around)
        except Exception as error:  # objects of the user may raise anything
            raise TypeError("it is made of things that cannot be sent to another process, such as a lambda") from error
        if b"__main__" in pickled:
            raise TypeError("it is defined in the script or notebook itself: put it into a module")

    def pickled(self, around: Around) -> bytes:
        """Return the description from which a worker makes copies."""
        return pickle.dumps((*self.of, around))

    def at_work(self) -> list[Worker]:
        while len(self.workers) < self.count:
            self.workers.append(Worker())
        return self.workers

    def close(self) -> None:
        """End the workers. One that is busy for too long is killed."""
        for worker in self.workers:
            worker.pipe.close()
        until = time.monotonic() + PATIENCE
        while self.workers:
            worker = self.workers.pop()
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.process.wait(max(0.0, until - time.monotonic()))
            finally:
                worker.process.kill()
                worker.process.communicate()
                os.close(worker.memory)


class Share(NamedTuple):
    """Some neighbouring copies, and the worker that has them."""

    worker: Worker
    own: slice
    key: int  # by which the worker finds them: where their memory begins
    arrays: dict[str, np.ndarray]


class Processes:
    """Copies of Gymnasium's environments that this process and the workers of a crew step at the same time.

    pool: as in GymnasiumEnvironments; the workers have one each, if there is one here.
    each: how many copies a replica has.
    """

    repeatable = True

    def __init__(self, id: str, copies: int, options: Mapping[str, Any], pool: list[Any] | None, around: Around,
                 crew: Crew, each: int):  # fmt: skip
        self.crew, self.shares, pickled = crew, list[Share](), crew.pickled(around)
        ends = [copies * (k + 1) // (crew.count + 1) for k in range(crew.count + 1)]
        ends = [end for end in ends if end]  # there may be fewer copies than processes
        try:
            for worker, first, end in zip(crew.at_work(), ends, ends[1:], strict=False):
                worker.ask("make", worker.end, pickled, first, end - first, each, pool is not None)
                self.shares.append(Share(worker, slice(first, end), worker.end, {}))
            self.here = GymnasiumEnvironments(id, ends[0], options, pool, around)
            for worker, own, key, arrays in self.shares:
                worker.answer()
                found, worker.end = shared(worker.memory, key, self.here, own.stop - own.start)
                arrays.update(found)
        except BaseException:
            self.close()
            raise
        self.observation = np.zeros((copies, *self.here.observation.shape[1:]), self.here.observation.dtype)
        self.over, self.own = np.ones(copies, bool), np.ones(copies, bool)

    def close(self) -> None:
        """Close all copies: those of this process, and the workers with theirs."""
        if "here" in vars(self):
            self.here.close()
        for share in self.shares:
            share.arrays.clear()
        self.crew.close()

    def reset(self, streams: Sequence[np.random.Generator], begin: bool = True) -> np.ndarray:
        self.here.each, self.own = len(self.over) // len(streams), ranks.own(len(self.over))
        return self.restart(np.full(len(self.over), begin), seeds_from(streams, self.here.each))[0]

    def restart(self, over: np.ndarray, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        over = over & self.own
        shares, own = [share for share in self.shares if over[share.own].any()], slice(len(self.here.copies))
        for share in shares:
            share.arrays["over"][:], share.arrays["seeds"][:] = over[share.own], seeds[share.own]
        observation = self.observation.copy()
        observation[own] = self._together("restart", shares, lambda: self.here.restart(over[own], seeds[own]))[0][0]
        for share in shares:
            observation[share.own] = share.arrays["observation"]
        self.over, self.observation = self.over & ~over, observation
        return observation, np.ones(len(over), bool)

    def step(self, action: np.ndarray) -> Transition:
        shares, own = [share for share in self.shares if not self.over[share.own].all()], len(self.here.copies)
        for share in shares:
            given = action[share.own].reshape(share.own.stop - share.own.start, -1).view(np.uint8)
            share.arrays["action"][:, : given.shape[1]] = given
        found, _ = self._together("step", shares, lambda: self.here.step(action[:own]), action.dtype.str)
        zero = np.zeros(len(self.over))
        whole = Transition(self.observation.copy(), zero, self.over.copy(), zero.astype(bool))
        for name, part in whole._asdict().items():
            part[:own] = getattr(found, name)
            for share in shares:
                part[share.own] = share.arrays[name]
        self.over, self.observation = whole.terminated | whole.truncated, whole.observation
        return whole

    def moments(self) -> np.ndarray:
        """Return the moments [N, M] of all copies, as the function `moments` does."""
        own, others = self._together("moments", self.shares, lambda: moments(self.here.copies))
        return np.concatenate([own, *others])

    def set_moments(self, rows: np.ndarray, frozen: bool) -> None:
        """Give all copies their moments. rows: [N, M]."""
        self._together("set_moments", self.shares, lambda: recall(self.here.copies, rows, frozen), rows, frozen)

    def _together(
        self, name: str, shares: Sequence[Share], here: Callable[[], Any], *words: Any
    ) -> tuple[Any, list[Any]]:
        """Let all processes do something at once. Return the result of this one, and the answers of the workers. If
        anything fails, all of them end, as their states are unknown; the error of the first copy is raised."""
        try:
            for share in shares:
                share.worker.ask(name, share.key, *words)
            return here(), [share.worker.answer() for share in shares]
        except BaseException:
            self.close()
            raise


class Station:
    """The copies of a worker, and what it does with them. Each set of copies has a key."""

    def __init__(self, memory: int):
        self.memory, self.pool = memory, list[Any]()
        self.made = dict[int, tuple[GymnasiumEnvironments, dict[str, np.ndarray]]]()

    def make(self, key: int, pickled: bytes, first: int, copies: int, each: int, pooled: bool) -> None:
        spec, options, imports, around = pickle.loads(pickled)  # it comes from the parent
        for module in imports:
            importlib.import_module(module)
        get_ready(spec.id)  # so that games are not registered again later
        gymnasium.registry[spec.id] = spec
        made = GymnasiumEnvironments(spec.id, copies, options, self.pool if pooled else None, around)
        made.first, made.each = first, each
        self.made[key] = made, shared(self.memory, key, made, copies)[0]

    def restart(self, key: int) -> None:
        made, arrays = self.made[key]
        arrays["observation"][:] = made.restart(arrays["over"].copy(), arrays["seeds"])[0]

    def step(self, key: int, kind: str) -> None:
        made, arrays = self.made[key]
        shape = made.spaces[1].shape
        action = arrays["action"].view(kind)[:, : math.prod(shape)].reshape(-1, *shape)
        for name, part in made.step(action)._asdict().items():
            arrays[name][:] = part

    def moments(self, key: int) -> np.ndarray:
        return moments(self.made[key][0].copies)

    def set_moments(self, key: int, rows: np.ndarray, frozen: bool) -> None:
        made, _ = self.made[key]
        recall(made.copies, rows[made.first :], frozen)

    def close(self) -> None:
        for made, _ in self.made.values():
            made.close()


def serve(pipe: int, memory: int) -> None:
    """Run a worker: answer what the parent asks, until the pipe closes."""
    for number in NOT_FOR_WORKERS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, NOT_FOR_WORKERS)
    warnings.simplefilter("ignore")  # the parent's own copies have warned already
    parent, nothing = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)

    def follow() -> None:
        os.read(parent, 1)  # the parent sends nothing: this returns when it has ended
        time.sleep(PATIENCE)
        os._exit(1)  # even if an environment is busy

    threading.Thread(target=follow, daemon=True).start()
    asked, station = Connection(pipe), Station(memory)
    with contextlib.suppress(EOFError, OSError):
        while True:
            name, *words = asked.recv()
            try:
                answer = True, vars(Station)[name](station, *words)
            except BaseException as error:  # an environment may raise anything
                answer = False, (type(error).__name__, str(error), place(error))
            asked.send(answer)
    station.close()
