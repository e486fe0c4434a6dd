"""The written record of a run: `metrics.jsonl` and TensorBoard's event file.

Both only grow. A checkpoint remembers how long they were, so that a resumed run can cut off what came after it: no
point is there twice, and none is missing.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

from rlgrad.loop import Update
from rlgrad.run.directory import dotted, dump
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, Record
from rlgrad.run.records import RecordWriter
from rlgrad.run.statistics import finite, summarize
from rlgrad.run.tags import description

FLUSH_SECONDS = 2.0
METRICS, EVENTS = "metrics.jsonl", "events.out.tfevents."


class Log(Observer):
    """Appends to the two files: all values of all replicas to the one, what they say together to the other."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.files: dict[str, BinaryIO] = {}
        self.described: set[str] = set()  # tags whose first point is written: TensorBoard reads their sentence from it
        self.flushed = time.monotonic()

    def begin(self, run: Following) -> None:
        """What TensorBoard shows of a run before its first update. Raises OSError."""
        self.tags = run.problem.tags
        if self.files:  # they are continued
            return
        self._use(
            {name: (self.directory / name).open("xb") for name in (METRICS, f"{EVENTS}{int(time.time())}.rlgrad")}
        )
        self._event(file_version="brain.Event:2")
        self._text("config", f"```yaml\n{dump(run.settings)}```")
        against = ", but this run goes **the wrong way, on purpose**" if run.settings.wrong_sign else ""
        self._text("direction", f"`objective/value` is to be **{run.problem.direction.name.lower()}d**{against}")

    def extend(self, step: int, config: str) -> None:
        """Show the config of a run that is to go on for longer than it was begun for."""
        self._text("config", f"```yaml\n{config}```", step)

    def seen(self, run: Following, update: Update, record: Record) -> None:
        """An update: a line with the values [R] of all replicas, and a point for their mean; of an evaluation also
        their interquartile mean and interval. Replicas set aside do not count.
        """
        state = run.state
        if not record.evaluated and state.done % run.settings.log_every_updates:
            return
        numbers_alone = {tag: number for tag, number in record.numbers.items() if not tag.startswith("speed/")}
        line: dict[str, Any] = {"step": update.step, **numbers_alone}  # no two runs have the same speed
        points = dict(record.numbers)
        for tag, value in record.values.items():
            numbers = value.tolist()
            line[tag] = [finite(number) for number in numbers]
            if tag.startswith("evaluation/"):
                statistics = summarize(numbers, state.set_aside)
                points |= {f"{tag}/{ending}": number for ending, number in endings(statistics).items()}
            elif math.isfinite(mean := state.mean(value)):
                points[tag] = mean
        self.metrics.write(json.dumps(line, allow_nan=False).encode() + b"\n")
        self._scalars(update.step, points)
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()

    def end(self, run: Following, summary: Mapping[str, Any]) -> None:
        """The settings beside the results, and the intervals as bands. Raises OSError."""
        from torch.utils.tensorboard.summary import custom_scalars, hparams

        if not self.files:
            return
        state, settings = run.state, dotted(run.settings.model_dump(mode="json"))
        given = {key: value for key, value in settings.items() if value is not None}
        shown = {key: value if isinstance(value, bool | int | float) else str(value) for key, value in given.items()}
        evaluation = {name: state.remaining(values) for name, values in state.evaluation.items()}
        results = {f"evaluation/{name}/mean": sum(values) / len(values) for name, values in evaluation.items()}
        for summary in hparams(shown, results):  # type: ignore[no-untyped-call]
            self._event(step=0, summary=summary)
        bands = {
            name: ["Margin", [f"evaluation/{name}/{ending}" for ending in ("mean", "ci95_low", "ci95_high")]]
            for name, values in evaluation.items()
            if len(values) > 1
        }
        if bands:
            layout = {"mean and 95% interval over replicas": bands}
            self._event(step=0, summary=custom_scalars(layout))  # type: ignore[no-untyped-call]
        self.flush()

    def close(self) -> None:
        """Whatever could not be written by now is lost."""
        for file in self.files.values():
            with contextlib.suppress(OSError):
                file.close()

    def state_dict(self) -> dict[str, int]:
        """How long the files are, once all of it is on the disk."""
        self.flush()
        for file in self.files.values():
            os.fsync(file.fileno())
        return {name: file.tell() for name, file in self.files.items()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Cut the files off where a checkpoint says that they ended. Raises OSError, and ValueError where they are not
        those that it remembers."""
        self._use(reopened(self.directory, state))

    def _use(self, files: dict[str, BinaryIO]) -> None:
        self.files = files
        self.metrics, events = files.values()
        self.events = RecordWriter(events)

    def flush(self) -> None:
        for file in self.files.values():
            file.flush()
        self.flushed = time.monotonic()

    def _scalars(self, step: int, points: Mapping[str, float]) -> None:
        values = []
        for tag, number in points.items():
            metadata = None
            if tag not in self.described:
                self.described.add(tag)
                metadata = SummaryMetadata(display_name=tag, summary_description=description(tag, self.tags))
            values.append(Summary.Value(tag=tag, simple_value=number, metadata=metadata))
        self._event(step=step, summary=Summary(value=values))

    def _text(self, tag: str, markdown: str, step: int = 0) -> None:
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        tensor = TensorProto(
            dtype="DT_STRING",
            string_val=[markdown.encode()],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        )
        self._event(step=step, summary=Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]))

    def _event(self, **content: Any) -> None:
        self.events.write(Event(wall_time=time.time(), **content).SerializeToString())


def reopened(directory: Path, lengths: Mapping[str, int]) -> dict[str, BinaryIO]:
    """The two files, cut off where a checkpoint says that they ended. A checkpoint may come from a stranger: it can
    name no other files, and links are not followed. Raises OSError and ValueError."""
    metrics, events = lengths
    if metrics != METRICS or not events.startswith(EVENTS) or Path(events).name != events:
        raise ValueError(f"it names {', '.join(lengths)} as the log")
    opened: dict[str, BinaryIO] = {}
    for name, length in lengths.items():
        opened[name] = open(directory / name, "r+b", opener=without_links)  # noqa: SIM115
        if not 0 <= length <= os.fstat(opened[name].fileno()).st_size:
            raise ValueError(f"{name} is shorter than it was at that time")
    for name, file in opened.items():
        file.truncate(lengths[name])
        file.seek(lengths[name])
    return opened


def without_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))


def clear(directory: Path) -> None:
    """Remove the record of a run that was killed before its first checkpoint, and so is begun again."""
    for path in (directory / METRICS, *directory.glob(f"{EVENTS}*")):
        path.unlink(missing_ok=True)


def endings(statistics: Mapping[str, Any]) -> dict[str, float]:
    """The statistics of an evaluation by the endings of their tags, as far as there are any."""
    low, high = statistics["ci95"]
    every = {"mean": statistics["mean"], "iqm": statistics["iqm"], "ci95_low": low, "ci95_high": high}
    return {ending: number for ending, number in every.items() if number is not None}
