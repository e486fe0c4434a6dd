"""The written record of a run: `metrics.jsonl` and TensorBoard's event file.

A point's step is the work that one replica has done by then, so that runs with batches of different sizes can be
compared. Both files only grow. A checkpoint remembers their lengths and digests, so that a resumed run can cut off what
was written after it: no point is there twice, and none is missing.
"""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlgrad.files import Growing, write
from rlgrad.loop import Update
from rlgrad.run.directory import dotted, dump
from rlgrad.run.events import Events
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, Record
from rlgrad.run.statistics import finite, interval, number
from rlgrad.run.tags import charts, description, in_cell, shown

FLUSH_SECONDS = 2.0
METRICS, EVENTS = "metrics.jsonl", "events.out.tfevents."


class Log(Observer):
    """Appends all values of all replicas to `metrics.jsonl`, and their statistics to the event file."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.files: dict[str, Growing] = {}
        self.flushed = time.monotonic()

    def begin(self, run: Following) -> None:
        """Write what TensorBoard shows of a run before its first update. Raises OSError."""
        self.tags = run.problem.tags
        if self.files:  # a resumed run continues its files
            return
        files = (METRICS, f"{EVENTS}{int(time.time())}.rlgrad")
        self._use({name: Growing(self.directory / name) for name in files})
        settings, evaluated = run.settings, [f"evaluation/{name}" for name in run.problem.headline]
        self.events.version()
        names = [cell.name for cell in run.swept]
        self.events.layout(charts(evaluated, int(settings.replicas) > 1 and run.problem.by_chance, names))
        given = settings.model_dump(mode="json", exclude_defaults=True) | {"seed": settings.seed}
        self.events.session(dotted(given), ["objective/value", *(f"{tag}/mean" for tag in evaluated)])
        self.events.text("config", f"```yaml\n{dump(settings)}```")
        against = ", but this run goes **the wrong way, on purpose**" if settings.wrong_sign else ""
        way = f"is to be **{run.problem.direction.name.lower()}d**{against}"
        self.events.text("direction", f"`objective/value` is the {run.problem.measures}. It {way}")
        self.flush()

    def extend(self, step: int, config: str) -> None:
        """Write the new config of a run that was made longer."""
        self.events.text("config", f"```yaml\n{config}```", step)

    def seen(self, run: Following, update: Update, record: Record) -> None:
        """Write a line with the values [R] of all replicas, and a point for their mean; for the objective and for an
        evaluation also their interval. Replicas set aside do not count."""
        state = run.state
        for tag, encoded in record.pictures.items():
            self.events.picture(tag, encoded, state.steps)
        if not record.evaluated and state.done % run.settings.log_every_updates:
            return
        # the speed is left out, so that the files of two equal runs are equal
        numbers_alone = {tag: number for tag, number in record.numbers.items() if not tag.startswith("speed/")}
        line: dict[str, Any] = {"step": state.steps, "update": state.done, **numbers_alone}
        points = {"update/number": state.done, **record.numbers}
        for tag, value in record.values.items():
            numbers = value.tolist()
            line[tag] = [finite(number) for number in numbers]
            if tag.startswith("evaluation/") or tag == "objective/value":
                banded = run.by_chance and len(numbers) > 1
                statistics = endings(state.statistics(numbers, run.by_chance), banded)
                points |= {f"{tag}/{ending}": number for ending, number in statistics.items()}
                points |= self.of_cells(run, tag, numbers)
            elif tag.startswith("point/") and len(numbers) > 1:  # the mean of several points means nothing
                continue
            elif math.isfinite(alone := state.mean(value)):
                points[tag] = alone
        if (mean := points.pop("objective/value/mean", None)) is not None:
            points["objective/value"] = mean
        self.metrics.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        if run.swept and record.evaluated:
            self.events.text("sweep", "\n".join(table(run)), state.steps)
        placed = {shown(tag): tag for tag in points}
        new = placed.keys() - self.events.described
        sentences = {place: description(placed[place], self.tags) for place in new}
        self.events.scalars(state.steps, {place: points[tag] for place, tag in placed.items()}, sentences)
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()

    def of_cells(self, run: Following, tag: str, numbers: list[float]) -> dict[str, float]:
        """The points of each cell of a sweep."""
        points: dict[str, float] = {}
        by_chance = run.problem.by_chance
        for cell in run.swept:
            found = endings(run.state.statistics(numbers, by_chance, cell), by_chance and len(cell.replicas) > 1)
            points |= {f"{in_cell(tag, cell.name)}/{ending}": number for ending, number in found.items()}
        return points

    def end(self, run: Following, summary: Mapping[str, Any]) -> None:
        """Write the problem's documents, and close the session in TensorBoard. Raises OSError."""
        for name, text in run.problem.documents().items():
            write(self.directory / name, text)
            if self.files and name.endswith(".md"):
                self.events.text(name.removesuffix(".md"), text, run.state.steps)
        if self.files:
            self.events.session_end(summary["status"])
            self.flush()
            for file in self.files.values():
                file.keep()

    def close(self) -> None:
        """Close the files. What could not be written by now is lost."""
        for file in self.files.values():
            with contextlib.suppress(OSError):
                file.close()

    def state_dict(self) -> dict[str, tuple[int, str]]:
        """Flush the files to the disk; return the length of each and the digest of its content."""
        self.flush()
        for file in self.files.values():
            file.keep()
        return {name: file.state for name, file in self.files.items()}

    def fits(self, content: Mapping[str, Any]) -> None:
        """Raises ValueError or OSError if the files do not begin with their content at a checkpoint."""
        for file in reopened(self.directory, content).values():
            file.close()

    def load_state_dict(self, state: Any) -> None:
        """Cut the files to their lengths at a checkpoint. Raises ValueError or OSError."""
        files = reopened(self.directory, state)
        for file in files.values():
            file.cut()
        self._use(files)

    def _use(self, files: dict[str, Growing]) -> None:
        self.files = files
        self.metrics, events = files.values()
        self.events = Events(events)

    def flush(self) -> None:
        for file in self.files.values():
            file.flush()
        self.flushed = time.monotonic()


def table(run: Following) -> Iterator[str]:
    """Yield the lines of a Markdown table with the last evaluation of each cell of a sweep."""
    metrics = [name for name in run.problem.headline if name in run.state.evaluation] or list(run.state.evaluation)
    yield f"| | {' | '.join(f'{name} | 95% interval' for name in metrics)} |"
    yield f"|---|{'---|---|' * len(metrics)}"
    for cell in run.swept:
        found = [run.state.statistics(run.state.evaluation[name], run.problem.by_chance, cell) for name in metrics]
        cells = [text for each in found for text in (number(each["mean"]), interval(each))]
        yield f"| {cell.name} | {' | '.join(cells)} |"


def reopened(directory: Path, states: Mapping[str, Any]) -> dict[str, Growing]:
    """Open the two files that a checkpoint names. A checkpoint may come from anyone: it cannot name other files, and
    links are not followed. Raises ValueError and OSError."""
    names = [str(name) for name in states] if isinstance(states, Mapping) else []
    if len(names) != 2 or names[0] != METRICS or not names[1].startswith(EVENTS) or Path(names[1]).name != names[1]:
        raise ValueError(f"it names {', '.join(names) or 'no files'} as the log")
    return {name: Growing(directory / name, states[name]) for name in names}


def clear(directory: Path) -> None:
    """Remove the log of a run that stopped before its first checkpoint, because such a run begins again."""
    names = (METRICS, "config.yaml", "environment.json", "summary.json")
    for path in (*(directory / name for name in names), *directory.glob(f"{EVENTS}*")):
        path.unlink(missing_ok=True)


def endings(statistics: Mapping[str, Any], banded: bool) -> dict[str, float]:
    """The statistics of an evaluation by the endings of their tags, without those that do not exist. banded: whether
    TensorBoard draws a line with a band. Each point must then have both ends, so if there is no interval, because all
    replicas are equal, the band gets width 0."""
    mean, ends = statistics["mean"], statistics["ci95"]
    low, high = (mean if banded and end is None else end for end in ends)
    every = {"mean": mean, "iqm": statistics["iqm"], "ci95_low": low, "ci95_high": high}
    return {ending: number for ending, number in every.items() if number is not None}
