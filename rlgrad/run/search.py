"""Search: settings that cannot differ between replicas, such as a network's size, are tried run by run. Optuna chooses.

A trial is an ordinary run of R replicas in a directory of its own. Several workers may search together. The storage
holds the list of trials. A lock shows that a worker is at a trial; the system releases it, however the process ends. A
trial that has not ended and has no lock was left by a worker that was killed or interrupted: the next worker continues
it from its checkpoint.
"""

import contextlib
import itertools
import json
import math
import platform
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.exceptions import OptunaError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from rlgrad.config import Config, gathered, located
from rlgrad.errors import RunError, SettingError, UsageError, said, short
from rlgrad.loop import Direction, Update
from rlgrad.named import try_out
from rlgrad.run.directory import dotted, leave, take, write_json
from rlgrad.run.following import Following
from rlgrad.run.identity import MOVED, listed
from rlgrad.run.observer import Observer, Record
from rlgrad.run.resuming import resume
from rlgrad.run.sitting import Run
from rlgrad.run.statistics import interval, number
from rlgrad.run.training import train
from rlgrad.settings import Key, meant, replaced
from rlgrad.usage import split_overrides
from rlgrad.written import parse_overrides

PRUNED = 0  # used like the number of a signal that ends a run
CHOOSING, AGAIN, TRIALS = range(3)  # bytes in the file of locks; trial n has byte TRIALS + n


class Space:
    """A config in which some settings have several values to search: a list of choices, or a range of numbers."""

    def __init__(self, source: str | Path | Mapping[str, Any], words: Sequence[str] = (), allow_imports: bool = False):
        """words: those of a command line; a setting that is given several values is searched. Raises UsageError."""
        given = parse_overrides(words)
        several = [name for name, values in split_overrides(words).items() if len(values) > 1]
        self.data, self.sources, self.name = gathered(source, given | {n: {"search": given[n]} for n in several})
        self.allow_imports, self.searched = allow_imports, meant(self.data, "search")
        if not self.searched:
            raise UsageError("nothing is searched: give a setting several values, as --episodes 16 32 64")
        with located(self.sources):
            ends = {path: ends_of(path, asked) for path, asked in self.searched.items()}
        first = {path: values[0] for path, values in ends.items()}
        self.first = self.at(first)
        self.others = [self.at(first | {path: value}) for path, values in ends.items() for value in values[1:]]

    def at(self, point: Mapping[Key, Any]) -> Config:
        """The config with one value for each searched setting. Raises UsageError."""
        return Config(replaced(self.data, point), self.sources, self.name, self.allow_imports)

    def point(self, trial: Trial | FrozenTrial) -> dict[Key, Any]:
        """The values that a trial tries, by the path of the setting."""
        return {path: value_of(trial, ".".join(path), asked) for path, asked in self.searched.items()}

    def grid(self, most: int) -> list[dict[str, Any]]:
        """All points, in Optuna's form; an empty list if there are more than `most`, as in a range."""
        if math.prod(len(asked) if isinstance(asked, list) else math.inf for asked in self.searched.values()) > most:
            return []
        points = itertools.product(*map(labels, self.searched.values()))
        return [dict(zip(map(".".join, self.searched), point, strict=True)) for point in points]


def ends_of(path: Key, asked: Any) -> list[Any]:
    """The choices, or the two ends of a range. Raises SettingError if `asked` is neither."""
    try:
        if isinstance(asked, list):
            if not asked:
                raise ValueError("the list is empty")
            return asked
        (IntDistribution if whole(asked) else FloatDistribution)(**asked)
        if not math.isfinite(asked["high"] - asked["low"]):
            raise ValueError("both ends must be finite")
        return [asked["low"], asked["high"]]
    except (TypeError, ValueError) as error:
        form = "a search has [choices], or {low: .., high: ..} and, if wanted, log: true or step: .."
        reason = re.sub(r"^\w+\.__init__\(\) ", "", str(error))
        raise SettingError(path, f"{form} (here: {short(asked)}): {reason}") from error


def whole(asked: Mapping[str, Any]) -> bool:
    """Whether a range has only whole numbers."""
    return all(isinstance(asked[key], int) for key in ("low", "high", "step") if key in asked)


def labels(choices: Sequence[Any]) -> list[Any]:
    """Choices in a form that Optuna's storage can hold: a list or a mapping becomes a text."""
    return [json.dumps(each) if isinstance(each, list | dict) else each for each in choices]


def value_of(trial: Trial | FrozenTrial, name: str, asked: Any) -> Any:
    if isinstance(asked, list):
        return asked[labels(asked).index(trial.suggest_categorical(name, labels(asked)))]
    return (trial.suggest_int if whole(asked) else trial.suggest_float)(name, **asked)


class Watch(Observer):
    """Reports each evaluation to Optuna, and ends a run that is worse than other runs were at the same point."""

    def __init__(self, trial: Trial, tag: str, direction: Direction):
        self.trial, self.tag, self.direction = trial, tag, direction

    def seen(self, run: Following, update: Update, record: Record) -> None:
        if not record.evaluated or run.over:
            return
        values, every = record.values[self.tag].tolist(), run.settings.evaluation.every_steps
        found = [run.state.statistics(values, run.problem.by_chance, cell) for cell in run.settings.cells]
        # an error of the storage must not end the run, and a resumed run may report the same value again
        quiet = warnings.catch_warnings(action="ignore", category=UserWarning)
        with quiet, contextlib.suppress(OptunaError, SQLAlchemyError, OSError):
            self.trial.report(best(found, self.direction)[0], run.state.steps // every if every else run.state.done)
            if self.trial.should_prune():
                run.stop_signals.append(PRUNED)


def best(found: Sequence[Mapping[str, Any]], direction: Direction) -> tuple[float, int]:
    """The best of some statistics, and its position in the list. The worse end of the interval decides, or the mean if
    there is no interval. It is NaN if a replica has diverged."""
    ends = []
    for each in found:
        end = each["ci95"][0 if direction.sign > 0 else 1]
        end = each["mean"] if end is None else end
        ends.append(math.nan if end is None or None in each["per_replica"] else end)
    place = max(range(len(ends)), key=lambda k: -math.inf if math.isnan(ends[k]) else direction.sign * ends[k])
    return ends[place], place


def carry_on(config: Config, path: Path, observers: Sequence[Observer] = ()) -> Run:
    """Train a run in this directory, or continue the run that is there."""
    file = path / "config.yaml"
    if file.is_file() and file.stat().st_size:
        return resume(path, config=config, allow_imports=config.allow_imports, observers=observers)
    for each in path.glob("*"):  # left from a process that was killed before the run began
        each.unlink()
    return train(config, out=path, observers=observers)


class Search:
    """One worker's view of a search."""

    def __init__(self, space: Space, path: Path, trials: int, storage: str | None = None, quiet: bool = True):
        """Raises UsageError."""
        self.space, self.path, self.shown, grid = space, path.absolute(), path, space.grid(trials)
        self.quiet, self.trials = quiet, len(grid) or trials
        problem = space.first.build().problem
        for other in space.others:
            with other.located():
                try_out(other.settings, problem)
        judged, self.direction = problem.judged or ("", problem.direction)
        problem.close()
        self.tag = f"evaluation/{judged}" if judged else "objective/value"
        asked = json.loads(json.dumps({key: value for key, value in space.data.items() if key not in MOVED}))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.locks = (self.path / "locks").open("ab")
        except OSError as error:
            raise UsageError(f"--out {path}: the search cannot be written there: {error}") from error
        with self.choosing():
            try:
                self.study = self.opened(storage or str(self.path / "journal.log"))
                if not self.study.user_attrs and not any(self.path.glob("trial-*")):
                    self.study.set_user_attr("config", asked)
                begun = self.study.user_attrs.get("config")
                for point in grid if begun == asked else ():
                    self.study.enqueue_trial(point, skip_if_exists=True)
            except Exception as error:  # a database can raise anything; its URL is not shown: it may hold a password
                raise UsageError(f"--storage: it cannot be reached: {said(error)}") from error
        if begun is None:
            raise UsageError(f"{path}: its trials are in another storage; --out begins another search")
        if changed := listed(dotted(begun), dotted(asked)):
            raise UsageError(f"{path}: it was begun with other settings: {changed}; --out begins another search")

    def opened(self, storage: str) -> optuna.Study:
        """The study with the name of the directory, in a database or in the file of a journal."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if "://" not in storage:
            held: Any = JournalStorage(JournalFileBackend(str(Path(storage).expanduser())))
        how = {"study_name": self.path.name, "direction": self.direction.name.lower(), "load_if_exists": True}
        return optuna.create_study(storage=storage if "://" in storage else held, **how)

    def __call__(self) -> int | None:
        """Run trials until none is left, then run the winner again. Returns the signal that interrupted the search, or
        None. Raises RunError."""
        try:
            while trial := self.next():
                if signal := self.attempt(trial):
                    break
            else:
                signal = self.conclude()
        except (OptunaError, SQLAlchemyError) as error:
            message = f"the storage cannot be reached any more: {said(error)}; the same command goes on from here"
            raise RunError(message) from error
        if signal:
            self.say("the same command goes on from here")
        return signal

    @contextlib.contextmanager
    def choosing(self) -> Iterator[None]:
        """Let only one worker at a time into the body of a `with`."""
        take(self.locks, CHOOSING, wait=True)
        try:
            yield
        finally:
            leave(self.locks, CHOOSING)

    def folder(self, trial: Trial | FrozenTrial) -> Path:
        return self.path / f"trial-{trial.number}"

    def next(self) -> Trial | None:
        """A trial that another worker has left, or a new one; None if every trial has ended or has a worker."""
        with self.choosing():
            known = self.study.get_trials(deepcopy=False)
            for each in known:
                here = self.folder(each).is_dir() or "place" not in each.user_attrs
                if each.state is TrialState.RUNNING and here and take(self.locks, TRIALS + each.number):
                    trial = Trial(self.study, each._trial_id)
                    break
            else:
                if sum(each.state is not TrialState.WAITING for each in known) >= self.trials:
                    return None
                trial = self.study.ask()
                take(self.locks, TRIALS + trial.number)
            self.folder(trial).mkdir(exist_ok=True)
            trial.set_user_attr("place", f"{platform.node()}:{self.folder(trial)}")
        self.study.sampler = optuna.samplers.TPESampler(seed=trial.number)  # so that a search can be reproduced
        return trial

    def attempt(self, trial: Trial) -> int | None:
        """Run a trial. Returns the signal that interrupted it, or None if the trial has ended."""
        point = self.space.point(trial)
        name = f"trial {trial.number}: {named(point)}"
        try:
            run = carry_on(self.space.at(point), self.folder(trial), [Watch(trial, self.tag, self.direction)])
        except (RunError, UsageError) as error:
            self.study.tell(trial, state=TrialState.FAIL)
            self.say(f"{name}: failed: {error}")
            return None
        if run.signal:
            return run.signal
        found, pruned = self.results(run), run.signal == PRUNED
        value, cell = best(found, self.direction)
        state = TrialState.PRUNED if pruned else TrialState.FAIL if math.isnan(value) else TrialState.COMPLETE
        trial.set_user_attr("cell", cell)
        trial.set_user_attr("found", found[cell])
        self.study.tell(trial, value if state is TrialState.COMPLETE else None, state)
        self.say(f"{name}: {self.came_to(found[cell])}{', pruned' * pruned}")
        return None

    def results(self, run: Run) -> list[dict[str, Any]]:
        """The result of a run; if it sweeps a setting, the result of each cell."""
        key = "objective" if self.tag == "objective/value" else self.tag.replace("/", ".")
        return [each[key] for each in run.summary.get("sweep", [run.summary])]

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)

    def came_to(self, found: Mapping[str, Any]) -> str:
        name = "objective" if self.tag == "objective/value" else self.tag.partition("/")[2].replace("_", " ")
        return f"{name} {number(found['mean'])}" + (f" ({interval(found)})" if interval(found) else "")

    def conclude(self) -> int | None:
        """Run the winner again on fresh seeds. Returns the signal that interrupted it, or None. Raises RunError."""
        with self.choosing():
            known = self.study.get_trials(deepcopy=False)
            running = [str(each.number) for each in known if each.state is TrialState.RUNNING]
            if running or not take(self.locks, AGAIN):
                what = f"is at trial {', '.join(running)}; the last one runs" if running else "runs"
                self.say(f"another worker {what} the winner again")
                return None
        done = [each for each in known if each.state is TrialState.COMPLETE]
        if not done:
            raise RunError(f"{self.shown}: none of the {len(known)} trials ended with a result")
        won = max(done, key=lambda each: self.direction.sign * each.values[0])
        config, chosen = self.space.at(self.space.point(won)), won.user_attrs["found"]
        settings, swept = (each[won.user_attrs["cell"]] for each in (config.settings.each(), config.settings.cells))
        fresh = settings.model_copy(update={"seed": settings.seed + settings.replicas})
        run = carry_on(config.with_settings(fresh), self.folder(won).with_name(f"trial-{won.number}-fresh-seeds"))
        if run.signal:
            return run.signal
        point, again = self.space.point(won) | swept.values, self.results(run)[0]
        pruned = sum(each.state is TrialState.PRUNED for each in known)
        result = {"trials": len(known), "pruned": pruned, "best": won.number, "metric": self.tag}
        result |= {"settings": {".".join(path): value for path, value in point.items()}}
        result |= {"chosen": chosen | {"seeds": settings.seeds}, "fresh": again | {"seeds": fresh.seeds}}
        write_json(self.path / "search.json", result)
        by = f", by the {'lower' if self.direction.sign > 0 else 'upper'} end of its interval" * bool(interval(chosen))
        counts = f"of {len(known)} trials, {pruned} of them pruned"
        self.say(f"\n{self.shown}: {counts}, the best is trial {won.number}{by}:")
        self.say(named(point))
        for what, which, each in (("as it was chosen", settings, chosen), ("on fresh seeds", fresh, again)):
            self.say(f"  {what}, seeds {which.seed} to {which.seeds[-1]}: {self.came_to(each)}")
        return None


def named(point: Mapping[Key, Any]) -> str:
    """The values of a point as text: 'episodes=32, policy.hidden=[64, 64]'."""
    return ", ".join(f"{'.'.join(k)}={number(v) if isinstance(v, float) else labels([v])[0]}" for k, v in point.items())
