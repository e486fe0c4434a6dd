"""Problems made in Python, followed: what comes out, going on with them, and what is refused."""

import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    ReduceLROnPlateau,
    SequentialLR,
)  # fmt: skip
from torch.optim.swa_utils import SWALR

import rlgrad
from rlgrad import cli
from rlgrad.run import checkpoint, guest
from rlgrad.run.clock import running, seconds_since_start
from rlgrad.run.directory import held
from tests.run.support import AGENT, POINT, assert_same, events, rows, summary


class Bowl(rlgrad.Trainable):
    """Maximize −|θ − target|² under noise that a stream of the update's number gives; solved where θ is close."""

    direction = rlgrad.Direction.MAXIMIZE
    solved = ("closeness", -0.5)
    tags = {"bowl/distance": "How far the point is from the middle (units).", "evaluation/closeness": "Minus that."}

    def __init__(self, replicas: int = 3):
        self.model = nn.Module()
        self.model.point = nn.Parameter(torch.linspace(1, 2, 2 * replicas).reshape(replicas, 2))
        self.seen = 0

    def sample(self, step: int) -> Tensor:
        self.seen += 1
        return torch.from_numpy(np.random.default_rng(step).standard_normal(self.model.point.shape)).float()

    def objective(self, batch: Tensor) -> rlgrad.Estimate:
        distance = (self.model.point - 0.1 * batch).norm(dim=1)
        return rlgrad.Estimate(-distance.square(), {"bowl/distance": distance.detach()})

    def evaluate(self, step: int) -> Mapping[str, Tensor]:
        return {"closeness": -self.model.point.detach().norm(dim=1)}

    def conclusion(self) -> list[str]:
        return [f"seen {self.seen} batches"]

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seen = state["seen"]


class Counts(rlgrad.Observer):
    """Remembers what it has seen; at an update it does something."""

    def __init__(self, at: int = -1, act: Callable[[Any], None] | None = None):
        self.at, self.act, self.steps, self.closed = at, act, [], 0

    def seen(self, run: Any, update: rlgrad.Update, record: rlgrad.Record) -> None:
        self.steps.append(update.step)
        if update.step == self.at and self.act:
            self.act(run)

    def close(self) -> None:
        self.closed += 1

    def state_dict(self) -> Any:
        return {"steps": self.steps}

    def load_state_dict(self, state: Any) -> None:
        self.steps = list(state["steps"])


def interrupt(run: Any) -> None:
    raise KeyboardInterrupt


def fail(run: Any) -> None:
    raise ValueError("my own\nmistake")


def ask_to_end(run: Any) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def followed(out: Path, updates: int = 8, plateau: bool = False, **how: Any) -> rlgrad.Run:
    problem = how.pop("problem", None) or Bowl()
    optimizer = rlgrad.make_optimizer(problem, "Adam", lr=0.05)
    schedule = ReduceLROnPlateau(optimizer, "max", patience=0) if plateau else ExponentialLR(optimizer, 0.9)
    how = {"schedule": schedule, "evaluation": {"every_updates": 3}, "checkpoint": {"every_updates": 2}} | how
    return rlgrad.follow(problem, optimizer, updates=updates, out=out, **how)


def test_everything_that_a_configs_problem_has(tmp_path: Path) -> None:
    run = followed(tmp_path / "a")
    path = run.directory
    assert [row["update"] for row in rows(path)] == list(range(1, 9))
    assert [row["update"] for row in rows(path) if "evaluation/closeness" in row] == [3, 6, 8]
    assert all(len(row["bowl/distance"]) == 3 for row in rows(path))
    found = summary(path)
    assert found["status"] == "completed"
    assert (found["direction"], found["updates"], found["replicas"]) == ("maximize", 8, 3)
    assert found["conclusion"] == ["seen 8 batches"]
    assert len(found["evaluation.closeness"]["per_replica"]) == 3
    low, high = found["evaluation.closeness"]["ci95"]
    assert low < found["evaluation.closeness"]["mean"] < high
    board = events(path)
    assert len(board.Scalars("objective/value")) == 8
    assert len(board.Scalars("replicas/evaluation/closeness/ci95_low")) == 3
    assert board.SummaryMetadata("update/bowl/distance").summary_description == Bowl.tags["bowl/distance"]
    assert board.SummaryMetadata("evaluation/closeness/mean").summary_description.startswith("Minus that.")
    trained = load_file(path / "model.safetensors")["point"]
    assert torch.equal(trained, run.problem.model.point)
    assert set(checkpoint.load(path)["model"]) == {"point"}


@pytest.mark.parametrize("act", [interrupt, fail, ask_to_end])
@pytest.mark.parametrize("plateau", [False, True])
def test_a_run_goes_on_to_the_same_bits(tmp_path: Path, act: Callable[[Any], None], plateau: bool) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    watched = Counts()
    followed(whole, plateau=plateau, observers=[watched])
    if act is ask_to_end:
        assert followed(part, plateau=plateau, observers=[Counts(4, act)]).signal == signal.SIGINT
        assert summary(part)["status"] == "interrupted"
    else:
        with pytest.raises(KeyboardInterrupt if act is interrupt else rlgrad.RunError):
            followed(part, plateau=plateau, observers=[Counts(4, act)])
    again = Counts()
    run = followed(part, plateau=plateau, observers=[again], resume=True)
    assert_same(whole, part)
    assert again.steps == watched.steps == list(range(8))
    assert run.problem.seen == 8


def test_a_run_that_is_killed_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    followed(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        followed(tmp_path / "part", observers=[Counts(0, interrupt)])
    followed(tmp_path / "part", resume=True)
    assert_same(tmp_path / "whole", tmp_path / "part")


def test_more_updates_lengthen_a_run(tmp_path: Path) -> None:
    """Both have an evaluation after update 6: 3 divides it."""
    followed(tmp_path / "whole", 9)
    followed(tmp_path / "part", 6)
    followed(tmp_path / "part", 9, resume=True)
    assert_same(tmp_path / "whole", tmp_path / "part")
    followed(tmp_path / "part", 9, resume=True)  # its settings are those of the longer run now
    with pytest.raises(rlgrad.UsageError, match=r"updates: 9 -> 5; to go on, give the same settings"):
        followed(tmp_path / "part", 5, resume=True)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"max_gradient_norm": 1.0}, r"max_gradient_norm: None -> 1\.0"),
        ({"evaluation": {"every_updates": 4}}, r"evaluation\.every_updates: 3 -> 4"),
        ({"schedule": None}, r"given\.schedule: .*ExponentialLR -> None"),
        ({"problem": Bowl(2)}, "replicas: 3 -> 2"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    followed(tmp_path / "a", 4)
    before = (tmp_path / "a" / "metrics.jsonl").read_bytes()
    with pytest.raises(rlgrad.UsageError, match=named):
        followed(tmp_path / "a", **({"updates": 4} | change), resume=True)
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == before


class Busy(Bowl):
    """Each update does the work of seven."""

    work = "bowl/work"

    def objective(self, batch: Tensor) -> rlgrad.Estimate:
        found = super().objective(batch)
        return found._replace(metrics={**found.metrics, "bowl/work": torch.full_like(found.value.detach(), 7.0)})


@pytest.mark.parametrize(
    "make",
    [
        lambda o: MultiplicativeLR(o, lambda step: 1.0 if step < 3 else 0.5),
        lambda o: SequentialLR(o, [ConstantLR(o), ExponentialLR(o, 0.9)], [2]),
        lambda o: ChainedScheduler([ConstantLR(o), ExponentialLR(o, 0.9)], o),
        lambda o: SWALR(o, 0.5),
    ],
    ids=["MultiplicativeLR", "SequentialLR", "ChainedScheduler", "SWALR"],
)
def test_a_schedule_that_cannot_count_steps_is_refused(
    tmp_path: Path, make: Callable[[Any], Any], request: pytest.FixtureRequest
) -> None:
    problem = Busy()
    schedule = make(optimizer := rlgrad.make_optimizer(problem, "Adam", lr=0.05))
    before = repr(optimizer.param_groups)
    said = f"schedule: {request.node.callspec.id} can only go on from update to update.*: give `updates`, or"
    with pytest.raises(rlgrad.UsageError, match=said):
        rlgrad.follow(problem, optimizer, schedule=schedule, steps=50, out=tmp_path / "a")
    assert repr(optimizer.param_groups) == before
    assert not (tmp_path / "a").exists()
    with warnings.catch_warnings(action="ignore"):  # torch's SequentialLR warns of itself
        run = rlgrad.follow(problem, optimizer, schedule=schedule, updates=5, out=tmp_path / "a")
    assert run.summary["status"] == "completed"


@pytest.mark.parametrize(
    ("make", "rate"),
    [
        (lambda o: LambdaLR(o, lambda step: 1 / (1 + step)), lambda step: 0.05 / (1 + step)),
        (lambda o: LinearLR(o, 1.0, 0.0, 100), lambda step: 0.05 * (1 - step / 100)),
        (lambda o: CyclicLR(o, 0.1, 0.5, 25, cycle_momentum=False), lambda step: 0.5 - abs(step % 50 - 25) / 25 * 0.4),
        (lambda o: ReduceLROnPlateau(o, "max"), lambda step: 0.05 + 0 * step),
    ],
    ids=["LambdaLR", "LinearLR", "CyclicLR", "ReduceLROnPlateau"],
)
def test_a_schedule_counts_steps(tmp_path: Path, make: Callable[[Any], Any], rate: Callable[[int], float]) -> None:
    problem = Busy()
    optimizer = rlgrad.make_optimizer(problem, "Adam", lr=0.05)
    rlgrad.follow(problem, optimizer, schedule=make(optimizer), steps=50, out=tmp_path / "a")
    found = [row["update/learning_rate"] for row in rows(tmp_path / "a")]
    assert found == pytest.approx([rate(7 * update) for update in range(8)])


def test_what_is_no_run_of_its_own_is_refused(tmp_path: Path) -> None:
    rlgrad.train(POINT, out=tmp_path / "config")
    with pytest.raises(rlgrad.UsageError, match=r"rlgrad\.resume"):
        followed(tmp_path / "config", resume=True)
    with pytest.raises(rlgrad.UsageError, match="no run here"):
        followed(tmp_path / "nothing", resume=True)
    with pytest.raises(rlgrad.UsageError, match="unknown setting"):
        followed(tmp_path / "new", update_limit=3)
    with pytest.raises(rlgrad.UsageError, match=r"Counts must be an object"):
        followed(tmp_path / "new", observers=[Counts])
    with pytest.raises(rlgrad.UsageError, match=r"Counts must be an object"):
        rlgrad.train(POINT, out=tmp_path / "new", observers=[Counts])  # type: ignore[list-item]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("wrong_sign", [False, True])
def test_an_optimizer_that_goes_the_other_way_is_refused(tmp_path: Path, maximize: bool, wrong_sign: bool) -> None:
    problem = Bowl()
    optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.01, maximize=maximize)

    def run() -> rlgrad.Run:
        return rlgrad.follow(problem, optimizer, updates=2, out=tmp_path / "a", wrong_sign=wrong_sign)

    if maximize != wrong_sign:
        assert run().summary["status"] == "completed"
        return
    with pytest.raises(rlgrad.UsageError, match=r"rlgrad\.make_optimizer"):
        run()
    for wrong in (None, torch.optim.SGD):
        with pytest.raises(rlgrad.UsageError, match=r"is no torch\.optim\.Optimizer"):
            rlgrad.follow(problem, wrong, updates=2, out=tmp_path / "a")  # type: ignore[arg-type]
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("words", [["train", "--resume"], ["evaluate"], ["reproduce"]])
def test_commands_say_in_one_line_that_they_cannot_make_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    followed(tmp_path / "a", 2)
    assert cli.main([*words, str(tmp_path / "a")]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "Bowl" in printed
    assert "resume=True" in printed


def test_settings_act(tmp_path: Path) -> None:
    stopped = followed(tmp_path / "a", 200, stop_when_solved=True, schedule=None)
    assert stopped.summary["updates"] < 200
    assert stopped.summary["first_solved"]["env_steps"] == stopped.summary["updates"]
    problem = Bowl()
    optimizer = rlgrad.make_optimizer(problem, "SGD", lr=1.0)
    run = rlgrad.follow(problem, optimizer, updates=1, out=tmp_path / "b", max_gradient_norm=0.5)
    assert rows(run.directory)[0]["update/size"] == pytest.approx([0.5] * 3)
    assert min(rows(run.directory)[0]["gradient/norm"]) > 1


def test_each_evaluation_is_of_its_update(tmp_path: Path) -> None:
    """As its episodes are drawn by the number of it."""
    asked: list[int] = []

    class Asked(Bowl):
        def evaluate(self, step: int) -> Mapping[str, Tensor]:
            asked.append(step)
            return super().evaluate(step)

    followed(tmp_path / "a", problem=Asked())
    assert asked == [2, 5, 7]


def test_a_run_in_python_is_held_while_it_is_written(tmp_path: Path) -> None:
    def look(run: Any) -> None:
        with pytest.raises(rlgrad.UsageError, match="another process"), held(tmp_path / "a"):
            pass

    watching = Counts(1, look)
    followed(tmp_path / "a", 4, observers=[watching])
    watching.at = 5
    followed(tmp_path / "a", 6, resume=True, observers=[watching])
    assert watching.steps == list(range(6))


def test_an_infinite_gradient_is_noticed_even_where_the_step_is_finite(tmp_path: Path) -> None:
    """Rprop looks at its sign only."""

    class Steep(Bowl):
        def objective(self, batch: Tensor) -> rlgrad.Estimate:
            slope = torch.full_like(self.model.point, float("inf") if self.seen == 3 else -1.0)
            return rlgrad.Estimate(super().objective(batch).value.detach(), {}, gradient=[slope])

    problem = Steep()
    optimizer = rlgrad.make_optimizer(problem, "Rprop", lr=0.01)
    with pytest.raises(rlgrad.RunError, match=r"update 2: gradient/norm of replica 0 is not finite"):
        rlgrad.follow(problem, optimizer, updates=5, out=tmp_path / "a")
    assert problem.model.point.isfinite().all()


def test_a_replica_that_diverges_is_set_aside(tmp_path: Path) -> None:
    class Cliff(Bowl):
        def objective(self, batch: Tensor) -> rlgrad.Estimate:
            found = super().objective(batch)
            fallen = torch.tensor([1.0, float("nan") if self.seen > 2 else 1.0, 1.0])
            return found._replace(value=found.value * fallen)

    run = followed(tmp_path / "a", problem=Cliff(), on_divergence="set_aside")
    assert run.summary["set_aside"] == {"1": 2}
    assert run.summary["evaluation.closeness"]["per_replica"][1] is None
    assert run.summary["status"] == "completed"


@pytest.mark.parametrize("method", ["begin", "seen", "end", "close", "state_dict"])
def test_an_observer_that_raises_is_named_and_all_else_is_closed(tmp_path: Path, method: str) -> None:
    class Broken(Counts):
        pass

    other, before = Counts(), signal.getsignal(signal.SIGINT)
    broken = Broken()

    def call(*arguments: Any) -> None:
        raise OSError("no such\nthing")

    setattr(broken, method, call)
    with pytest.raises(
        rlgrad.RunError, match=r"the observer .*Broken: OSError: no such thing \(test_follow.py:"
    ) as caught:
        followed(tmp_path / "a", observers=[broken, other])
    assert "\n" not in str(caught.value)
    assert other.closed == 1
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "a" / "summary.json").is_file()
    assert summary(tmp_path / "a")["status"] == "failed"
    assert "no such thing" in summary(tmp_path / "a")["error"]
    if method in ("begin", "seen", "state_dict"):  # before the first checkpoint
        assert str(caught.value).endswith("there is no checkpoint")
        return
    followed(tmp_path / "a", observers=[other], resume=True)
    followed(tmp_path / "b")
    assert_same(tmp_path / "b", tmp_path / "a", with_events=False)


def test_observers_of_one_class_keep_their_own_state(tmp_path: Path) -> None:
    first, second = Counts(), Counts()
    second.steps = [-1]
    followed(tmp_path / "a", 4, observers=[first, second])
    one, other = Counts(), Counts()
    followed(tmp_path / "a", 6, observers=[one, other], resume=True)
    assert one.steps == list(range(6))
    assert other.steps == [-1, *range(6)]


def test_a_state_that_no_checkpoint_can_hold_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    odd = Counts()
    odd.steps = np.zeros(2)  # type: ignore[assignment]
    odd.seen = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(rlgrad.RunError, match="Counts: its state_dict must be made of"):
        followed(tmp_path / "a", observers=[odd])


def test_what_a_problem_returns_is_checked(tmp_path: Path) -> None:
    def changed(**members: Any) -> Bowl:
        return type("Odd", (Bowl,), members)()

    def evaluate(self: Bowl, step: int) -> Any:
        return {"closeness": 1.0}

    for number, (problem, said) in enumerate(
        [
            (changed(evaluate=evaluate), r"closeness must be a tensor of shape \[3\]"),
            (changed(solved=("return", 1)), "solved names 'return'"),
            (changed(work="bowl/work"), "work is 'bowl/work', which is not among the metrics"),
            (changed(state_dict=lambda _: {"it": object()}), "its state_dict must be made of"),
            (changed(state_dict=lambda _: 1 / 0), "ZeroDivisionError"),
        ]
    ):
        with pytest.raises(rlgrad.RunError, match=said):
            followed(tmp_path / str(number), problem=problem)


@pytest.fixture
def unusual() -> Iterator[None]:
    """Somebody's process, in which all is other than it is by default."""
    import torch._dynamo  # whichever test comes first: it brings in what filters warnings of its own

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    threads = torch.get_num_threads(), {library: library.num_threads for library in guest.numpy_libraries()}
    gc.disable()
    torch.set_num_threads(2)
    for library in guest.numpy_libraries():
        library.set_num_threads(2)
    for number in handlers:
        signal.signal(number, lambda *_: None)
    with warnings.catch_warnings():
        warnings.simplefilter("once")
        yield
    gc.enable()
    guest.set_threads(*threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def numpy_s() -> list[Any]:
    return [each for each in guest.numpy_libraries() if "scipy.libs" not in each.filepath]  # which a run may load


def surroundings() -> dict[str, Any]:
    return {
        "threads": (torch.get_num_threads(), {each.filepath: each.num_threads for each in numpy_s()}),
        "garbage": (gc.isenabled(), gc.get_freeze_count(), gc.get_threshold()),
        "handlers": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        "warnings": list(warnings.filters),
        "generators": (torch.get_rng_state().tolist(), str(np.random.get_state())),
        "torch": (torch.get_default_dtype(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()),
        "numpy": np.geterr(),
        "path": list(sys.path),
        "alive": threading.active_count(),
        "directory": os.getcwd(),
    }


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({}, None),
        ({"observers": [Counts(1, fail)]}, rlgrad.RunError),
        ({"observers": [Counts(1, interrupt)]}, KeyboardInterrupt),
        ({"environment": "None-v0"}, rlgrad.UsageError),
        ({"imports": ["json"], "allow_imports": True, "environment": "json:loads"}, rlgrad.UsageError),
    ],
)
@pytest.mark.usefixtures("unusual")
def test_a_good_guest(tmp_path: Path, change: dict[str, Any], error: type[BaseException] | None) -> None:
    before = surroundings()
    if error:
        with pytest.raises(error):
            rlgrad.train(AGENT, out=tmp_path / "a", **change)
    else:
        rlgrad.train(AGENT, out=tmp_path / "a", **change)
        rlgrad.resume(tmp_path / "a", extend_to=7)
        followed(tmp_path / "b")
    assert surroundings() == before


def test_the_clock_starts_with_the_call(tmp_path: Path) -> None:
    """In a process that was there before; a clock that runs already goes on."""
    found: list[float] = []
    look = Counts(0, lambda _: found.append(seconds_since_start()))
    begun = seconds_since_start()  # since the import
    followed(tmp_path / "a", 1, observers=[look])
    rlgrad.train(POINT, out=tmp_path / "b", observers=[look])
    with pytest.raises(KeyboardInterrupt):
        rlgrad.train(POINT, out=tmp_path / "c", observers=[Counts(2, interrupt)])
    look.at = 2
    rlgrad.resume(tmp_path / "c", observers=[look])
    with running(0.0):  # long ago
        followed(tmp_path / "d", 3, observers=[look])
    assert len(found) == 4
    assert max(found[:3]) < seconds_since_start() - begun < found[3]


def test_a_run_of_version_0_1_goes_on(tmp_path: Path) -> None:
    """Its checkpoint had the log's lengths at its top, and knew no `final`, no `evaluations`, no problem's state."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    settings = POINT | {"optimizer": {"name": "LBFGS", "lr": 0.01, "max_iter": 2}, "replicas": 2}
    rlgrad.train(settings, out=whole)
    with pytest.raises(KeyboardInterrupt):
        rlgrad.train(settings, out=part, observers=[Counts(2, interrupt)])
    content = checkpoint.load(part)
    content["lengths"] = content.pop("observers")["rlgrad.run.observers.log.Log"]
    content["problem"] = None
    for key in ("final", "evaluations"):
        del content["state"][key]
    (part / checkpoint.PREVIOUS).unlink(missing_ok=True)
    checkpoint.save(part, {key: value for key, value in content.items() if key != "format"})
    old = [
        line for line in (part / "config.yaml").read_text().splitlines() if not line.startswith(("given", "observers"))
    ]
    (part / "config.yaml").write_text("\n".join(old))
    rlgrad.resume(part)
    a, b = (load_file(path / "model.safetensors") for path in (whole, part))
    assert torch.equal(a["point"], b["point"])
    assert len(rows(part)) == 4
    assert cli.main(["evaluate", str(part)]) == 0
