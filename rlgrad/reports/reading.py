"""Reads a run from its directory. Nothing in it is executed."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rlgrad.errors import UsageError, text_of
from rlgrad.run.observers.log import EVENTS, METRICS
from rlgrad.run.statistics import summarize
from rlgrad.settings import Cell, cells, meant, replaced
from rlgrad.usage import check_run

AXES = {"step": "work of one replica", "update": "updates", "seconds": "seconds"}
UNENDED = "not ended"  # the status of a run that goes on, or was killed
WORK = ("episode/env_steps", "batch/examples", "surface/evaluations", "work/evaluations")
UNITS = {"env_steps": "environment steps", "examples": "examples", "evaluations": "evaluations"}


@dataclass(frozen=True)
class Curve:
    """The values of a tag over a run."""

    x: np.ndarray  # [N]
    values: np.ndarray  # [N, R]; NaN where a replica is set aside
    by_chance: bool = True  # whether replicas differ by chance alone

    @cached_property
    def mean(self) -> np.ndarray:
        return np.asarray([each["mean"] for each in self._summaries], dtype=float)

    @cached_property
    def interval(self) -> np.ndarray:
        """[N, 2], the lower and the upper end of the interval; NaN if there is none."""
        return np.asarray([each["ci95"] for each in self._summaries], dtype=float)

    @cached_property
    def _summaries(self) -> list[Mapping[str, Any]]:
        aside = [np.flatnonzero(~np.isfinite(row)).tolist() for row in self.values]
        pairs = zip(self.values.tolist(), aside, strict=True)
        return [summarize(values, without, self.by_chance) for values, without in pairs]


@dataclass(frozen=True)
class Recorded:
    """A run, read from its directory."""

    path: Path
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]  # empty while the run goes on, or if it was killed
    environment: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    cell: Cell | None = None  # the cell of a sweep, if this is only a part of a run

    @property
    def name(self) -> str:
        return self.cell.name if self.cell else self.path.name

    @property
    def replicas(self) -> int:
        how = self.settings.get("replicas", 1)
        return int((how.get("folds") or how.get("bootstrap") or 1) if isinstance(how, Mapping) else how)

    @property
    def by_chance(self) -> bool:
        """Whether replicas differ by chance alone."""
        return bool(self._said.get("by_chance", True))

    @property
    def _said(self) -> Mapping[str, Any]:
        """What the run recorded about its problem, before its first update and at its end."""
        older = {"by_chance": self.settings.get("problem") != "surface"}  # older versions did not record this
        return older | {**self.environment, **self.summary}

    @property
    def status(self) -> str:
        return str(self.summary.get("status", UNENDED))

    @property
    def tags(self) -> list[str]:
        """The tags with a value for each replica, in the order of their first appearance."""
        return list({tag: None for row in self.rows for tag, value in row.items() if isinstance(value, list)})

    @property
    def work(self) -> str:
        """The unit of a replica's work."""
        found = next((tag for tag in WORK if tag in self.tags), WORK[-1])
        return UNITS[found.rpartition("/")[2]]

    @property
    def evaluated(self) -> list[str]:
        """The most important tags of the evaluation; the first two if the run does not name them."""
        headline = self._said.get("headline")
        most = [f"evaluation/{name}" for name in headline] if isinstance(headline, list) else []
        every = [tag for tag in self.tags if tag.startswith("evaluation/")]
        return [tag for tag in most if tag in every] or every[:2]

    def smaller_is_better(self, tag: str) -> bool:
        metric, direction = self._said.get("judged") or ("", "")
        if tag == f"evaluation/{metric}":
            return bool(direction == "minimize")
        return any(word in tag for word in ("loss", "deviance", "error"))

    def curve(self, tag: str, axis: str = "step") -> Curve:
        """The curve of a tag. axis: one of AXES."""
        rows = [row for row in self.rows if tag in row]
        x = [self._seconds.get(update(row), np.nan) if axis == "seconds" else AT[axis](row) for row in rows]
        values = [[np.nan if value is None else value for value in row[tag]] for row in rows]
        return Curve(np.asarray(x, dtype=float), np.asarray(values, dtype=float).reshape(len(rows), -1), self.by_chance)

    @cached_property
    def _seconds(self) -> dict[int, float]:
        """The wall seconds of all sittings up to each update. Only TensorBoard's event file has them."""
        found: dict[int, float] = {}
        for file in sorted(self.path.glob(f"{EVENTS}*")):
            for points in scalars(file):
                if "speed/seconds" in points and "update/number" in points:
                    found[round(points["update/number"])] = points["speed/seconds"]
        return found


def by_cell(run: Recorded) -> list[Recorded]:
    """Split a sweep into its cells, each as if it were a run of its own. A run without a sweep stays whole."""
    grid = meant(run.settings, "sweep")
    return [of_cell(run, number, cell) for number, cell in enumerate(cells(grid, run.replicas))] if grid else [run]


def of_cell(run: Recorded, number: int, cell: Cell) -> Recorded:
    """The part of a sweep with one cell, as a run of its own."""
    own = slice(cell.replicas.start, cell.replicas.stop)
    rows = [{tag: value[own] if isinstance(value, list) else value for tag, value in row.items()} for row in run.rows]
    for row in rows:  # the recorded step is the mean over all replicas; here it is that of the cell
        done = [value for value in next((row[tag] for tag in WORK if tag in row), []) if value is not None]
        row["step"] = round(sum(done) / len(done)) if done else row["step"]
    swept = run.summary.get("sweep")
    summary = {**run.summary, **swept[number]} if isinstance(swept, list) else {"by_chance": True}
    settings = replaced(run.settings, cell.values)
    return Recorded(run.path, settings, summary, run.environment, rows, cell)


def update(row: Mapping[str, Any]) -> int:
    """The number of the update, counted from 1; version 0.1 stored it as `step`, counted from 0."""
    return int(row["update"] if "update" in row else row["step"] + 1)


def step(row: Mapping[str, Any]) -> float:
    """The work of one replica by then."""
    if "update" in row:
        return float(row["step"])
    work = next((row[tag] for tag in WORK if tag in row), [np.nan])
    return float(np.nanmean(np.asarray(work, dtype=float)))


AT = {"step": step, "update": update}


def read_run(path: str | Path) -> Recorded:
    """Read a run. Raises UsageError if there is no run, or if it cannot be read."""
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
                raise ValueError("it is not a line of a run's log")
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no update has been logged yet (no {Path(error.filename).name})") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: the run cannot be read: {where}{text_of(error)}") from error
    if not rows:
        raise UsageError(f"{path}: no update has been logged yet")
    if not isinstance(settings, dict):
        raise UsageError(f"{path}: config.yaml holds no settings")
    return Recorded(path, settings, summary, environment, rows)


def read_runs(paths: Iterable[str]) -> list[Recorded]:
    """Read several runs, and split their sweeps. Raises UsageError."""
    return [each for run in map(read_run, paths) for each in by_cell(run)]


def content(file: Path) -> dict[str, Any]:
    """The content of a JSON file; empty if there is no such file yet. Raises OSError and ValueError."""
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{file.name} holds no mapping")
    return found


def scalars(file: Path) -> Iterator[dict[str, float]]:
    """Yield the scalars of each event in TensorBoard's event file."""
    from tensorboard.compat.proto.event_pb2 import Event

    from rlgrad.run.records import read_records

    with file.open("rb") as opened:
        for record in read_records(opened):
            values = Event.FromString(record).summary.value
            yield {value.tag: value.simple_value for value in values if value.HasField("simple_value")}
