"""A run as its directory has it. Nothing of it is executed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rlgrad.config import meant
from rlgrad.errors import UsageError
from rlgrad.run.observers.log import EVENTS, METRICS
from rlgrad.run.statistics import summarize
from rlgrad.settings import Cell, cells, replaced
from rlgrad.usage import check_run

AXES = {"step": "work of one replica", "update": "updates", "seconds": "seconds"}
WORK = ("episode/env_steps", "batch/examples", "surface/evaluations", "work/evaluations")
UNITS = {"env_steps": "environment steps", "examples": "examples", "evaluations": "evaluations"}


@dataclass(frozen=True)
class Curve:
    """A tag over a run."""

    x: np.ndarray  # [N]
    values: np.ndarray  # [N, R]; NaN where a replica is set aside
    by_chance: bool = True  # whether replicas differ by chance alone

    @cached_property
    def mean(self) -> np.ndarray:
        return np.asarray([each["mean"] for each in self._summaries], dtype=float)

    @cached_property
    def interval(self) -> np.ndarray:
        """[N, 2], the lower and the upper end; NaN where there is none."""
        return np.asarray([each["ci95"] for each in self._summaries], dtype=float)

    @cached_property
    def _summaries(self) -> list[Mapping[str, Any]]:
        aside = [np.flatnonzero(~np.isfinite(row)).tolist() for row in self.values]
        pairs = zip(self.values.tolist(), aside, strict=True)
        return [summarize(values, without, self.by_chance) for values, without in pairs]


@dataclass(frozen=True)
class Recorded:
    """A run that has been written."""

    path: Path
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]  # empty while it goes on, or where it was killed
    environment: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    cell: Cell | None = None  # of a sweep: the values that it is about

    @property
    def name(self) -> str:
        return self.cell.name if self.cell else self.path.name

    @property
    def replicas(self) -> int:
        told = self.settings.get("replicas", 1)
        return int((told.get("folds") or told.get("bootstrap") or 1) if isinstance(told, Mapping) else told)

    @property
    def by_chance(self) -> bool:
        """Whether replicas differ by chance alone."""
        return bool(self._said.get("by_chance", True))

    @property
    def _said(self) -> Mapping[str, Any]:
        """What the run said of its problem: before its first update, and at its end."""
        older = {"by_chance": self.settings.get("problem") != "surface"}  # a version that said nothing
        return older | {**self.environment, **self.summary}

    @property
    def status(self) -> str:
        return str(self.summary.get("status", "not ended"))

    @property
    def tags(self) -> list[str]:
        """Those with a value for each replica, in the order in which they came."""
        return list({tag: None for row in self.rows for tag, value in row.items() if isinstance(value, list)})

    @property
    def work(self) -> str:
        """What one replica's work is counted in."""
        found = next((tag for tag in WORK if tag in self.tags), WORK[-1])
        return UNITS[found.rpartition("/")[2]]

    @property
    def evaluated(self) -> list[str]:
        """The tags of its evaluation, as far as it is known those that matter most."""
        headline = self._said.get("headline")
        most = [f"evaluation/{name}" for name in headline] if isinstance(headline, list) else []
        every = [tag for tag in self.tags if tag.startswith("evaluation/")]
        return [tag for tag in most if tag in every] or every[:2]

    def curve(self, tag: str, axis: str = "step") -> Curve:
        """axis: one of AXES."""
        rows = [row for row in self.rows if tag in row]
        x = [self._seconds.get(update(row), np.nan) if axis == "seconds" else AT[axis](row) for row in rows]
        values = [[np.nan if value is None else value for value in row[tag]] for row in rows]
        return Curve(np.asarray(x, dtype=float), np.asarray(values, dtype=float).reshape(len(rows), -1), self.by_chance)

    @cached_property
    def _seconds(self) -> dict[int, float]:
        """By update, the wall seconds of all sittings until then. They are in TensorBoard's file alone."""
        found: dict[int, float] = {}
        for file in sorted(self.path.glob(f"{EVENTS}*")):
            for points in scalars(file):
                if "speed/seconds" in points and "update/number" in points:
                    found[round(points["update/number"])] = points["speed/seconds"]
        return found


def apart(run: Recorded) -> list[Recorded]:
    """The values of a sweep, each as if it had been a run of its own; of a run that sweeps nothing itself."""
    grid = meant(run.settings, "sweep")
    return [of_cell(run, number, cell) for number, cell in enumerate(cells(grid, run.replicas))] if grid else [run]


def of_cell(run: Recorded, number: int, cell: Cell) -> Recorded:
    own = slice(cell.replicas.start, cell.replicas.stop)
    rows = [{tag: value[own] if isinstance(value, list) else value for tag, value in row.items()} for row in run.rows]
    for row in rows:  # whose step is the mean over all
        done = [value for value in next((row[tag] for tag in WORK if tag in row), []) if value is not None]
        row["step"] = round(sum(done) / len(done)) if done else row["step"]
    swept = run.summary.get("sweep")
    summary = {**run.summary, **swept[number]} if isinstance(swept, list) else {"by_chance": True}
    settings = replaced(run.settings, cell.values)
    return Recorded(run.path, settings, summary, run.environment, rows, cell)


def update(row: Mapping[str, Any]) -> int:
    """The number of the update; version 0.1 had it as the step, counted from 0."""
    return int(row["update"] if "update" in row else row["step"] + 1)


def step(row: Mapping[str, Any]) -> float:
    """The work of one replica."""
    if "update" in row:
        return float(row["step"])
    work = next((row[tag] for tag in WORK if tag in row), [np.nan])
    return float(np.nanmean(np.asarray(work, dtype=float)))


AT = {"step": step, "update": update}


def read_run(path: str | Path) -> Recorded:
    """Raises UsageError where there is no run, or none that can be read."""
    path = Path(path)
    check_run(str(path))
    rows: list[dict[str, Any]] = []
    where = ""
    try:
        settings = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
        summary, environment = (content(path / f"{name}.json") for name in ("summary", "environment"))
        for number, line in enumerate((path / METRICS).read_text(encoding="utf-8").splitlines(), 1):
            where = f"{METRICS}, line {number}: "
            rows.append(row := json.loads(line))
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                raise ValueError("it is no line of a run's log")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no update has been logged yet (no {Path(error.filename).name})") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: the run cannot be read: {where}{' '.join(str(error).split())[:200]}") from error
    if not rows:
        raise UsageError(f"{path}: no update has been logged yet")
    if not isinstance(settings, dict):
        raise UsageError(f"{path}: config.yaml holds no settings")
    return Recorded(path, settings, summary, environment, rows)


def content(file: Path) -> dict[str, Any]:
    """What a file of JSON says; nothing where there is none yet. Raises OSError and ValueError."""
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{file.name} holds no mapping")
    return found


def scalars(file: Path) -> Iterator[dict[str, float]]:
    """The scalars of each event in TensorBoard's file."""
    from tensorboard.compat.proto.event_pb2 import Event

    from rlgrad.run.records import read_records

    with file.open("rb") as opened:
        for record in read_records(opened):
            values = Event.FromString(record).summary.value
            yield {value.tag: value.simple_value for value in values if value.HasField("simple_value")}
