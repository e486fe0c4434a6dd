"""Writes the file of events that TensorBoard reads; each event is a record.

The protocol buffers are made here and not by torch's `SummaryWriter`, whose import takes longer than many runs.
"""

import struct
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from rlgrad.run.records import record

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

STATUS = {"completed": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}


class Band(NamedTuple):
    """The tags of a line with an interval around it."""

    middle: str
    low: str
    high: str


Charts = Mapping[str, Sequence[str] | Sequence[Band]]  # by title: the tags of a chart's lines, or bands


class Events:
    """Appends events to a file."""

    def __init__(self, file: "SupportsWrite[bytes]"):
        self.file = file
        self.described: set[str] = set()  # tags with a point written: the first one also holds the tag's description

    def version(self) -> None:
        """Write the first event of a file."""
        self._write(file_version="brain.Event:2")

    def scalars(self, step: int, points: Mapping[str, float], sentences: Mapping[str, str]) -> None:
        """Write one number for each tag. sentences: the meaning of each tag."""
        values = []
        for tag, number in points.items():
            metadata = None
            if tag not in self.described:
                self.described.add(tag)
                metadata = described("scalars", display_name=tag, summary_description=sentences[tag])
            values.append(Summary.Value(tag=tag, simple_value=number, metadata=metadata))
        self._write(step=step, summary=Summary(value=values))

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        self._tensor(tag, "text", markdown.encode(), step)

    def picture(self, tag: str, encoded: bytes, step: int) -> None:
        """Write a picture. encoded: a PNG, or a GIF, which can move; both hold their size in their first bytes."""
        width, height = struct.unpack_from(*(("<HH", encoded, 6) if encoded[:3] == b"GIF" else (">II", encoded, 16)))
        image = Summary.Image(encoded_image_string=encoded, width=width, height=height, colorspace=3)
        value = Summary.Value(tag=tag, image=image, metadata=described("images", display_name=tag))
        self._write(step=step, summary=Summary(value=[value]))

    def layout(self, categories: Mapping[str, Charts]) -> None:
        """Write the layout of the tab CUSTOM SCALARS: charts, in categories by title."""

        def chart(title: str, tags: Sequence[str] | Sequence[Band]) -> layout_pb2.Chart:
            if bands := [each for each in tags if isinstance(each, Band)]:
                kind = layout_pb2.MarginChartContent
                series = [kind.Series(value=each.middle, lower=each.low, upper=each.high) for each in bands]
                return layout_pb2.Chart(title=title, margin=kind(series=series))
            lines = [f"^{tag}$" for tag in tags]  # TensorBoard reads them as regular expressions
            return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=lines))

        shown = [
            layout_pb2.Category(title=title, chart=[chart(*each) for each in charts.items()])
            for title, charts in categories.items()
        ]
        content = layout_pb2.Layout(category=shown).SerializeToString()
        self._tensor("custom_scalars__config__", "custom_scalars", content)

    def session(self, settings: Mapping[str, Any], metrics: Sequence[str]) -> None:
        """Write what the tab HPARAMS shows: the settings, and the last point of each metric."""
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
        infos = []
        for name, value in settings.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value, kind = value, api_pb2.DATA_TYPE_BOOL
            elif isinstance(value, int | float):
                start.hparams[name].number_value, kind = value, api_pb2.DATA_TYPE_FLOAT64
            else:
                start.hparams[name].string_value, kind = str(value), api_pb2.DATA_TYPE_STRING
            infos.append(api_pb2.HParamInfo(name=name, type=kind))
        shown = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in metrics]
        self._hparams("experiment", experiment=api_pb2.Experiment(hparam_infos=infos, metric_infos=shown))
        self._hparams("session_start_info", session_start_info=start)

    def session_end(self, status: str) -> None:
        """Close the session of the tab HPARAMS. It stays open for an interrupted run, which may be continued."""
        if status in STATUS:
            end = plugin_data_pb2.SessionEndInfo(status=STATUS[status], end_time_secs=time.time())
            self._hparams("session_end_info", session_end_info=end)

    def _hparams(self, name: str, **content: Any) -> None:
        data = plugin_data_pb2.HParamsPluginData(**content).SerializeToString()
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="hparams", content=data))
        tensor = TensorProto(dtype="DT_FLOAT", tensor_shape=TensorShapeProto(), float_val=[0.0])
        value = Summary.Value(tag=f"_hparams_/{name}", metadata=metadata, tensor=tensor)
        self._write(step=0, summary=Summary(value=[value]))

    def _tensor(self, tag: str, plugin: str, content: bytes, step: int = 0) -> None:
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype="DT_STRING", string_val=[content], tensor_shape=shape)
        value = Summary.Value(tag=tag, metadata=described(plugin), tensor=tensor)
        self._write(step=step, summary=Summary(value=[value]))

    def _write(self, **content: Any) -> None:
        self.file.write(record(Event(wall_time=time.time(), **content).SerializeToString()))


def described(plugin: str, **more: str) -> SummaryMetadata:
    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin), **more)
