"""TensorBoard: an event file with scalars by evaluation and the recipe as text; files of the run lie beside it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter


class TensorboardRun:
    """See attar.watchers.base.Tool."""

    def __init__(self, title: str, params: Mapping[str, str], dest: Path | None) -> None:
        self.folder = (Path("runs") if dest is None else dest) / f"{title}-{time.strftime('%Y%m%d-%H%M%S')}"
        self.folder.mkdir(parents=True, exist_ok=True)
        # Not EventFileWriter: it opens files by TensorFlow where that is installed, which takes ten seconds to load.
        self._file = (self.folder / f"events.out.tfevents.{time.time():.0f}.attar").open("wb")
        self._writer = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        rows = [f"| {name} | {value} |" for name, value in params.items()]
        text = "\n".join(["| parameter | value |", "|---|---|", *rows])
        self._add([self._text("recipe", text)], 0, time.time())

    @staticmethod
    def _text(tag: str, text: str) -> Summary.Value:
        """Markdown."""
        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode("utf-8")])
        return Summary.Value(tag=tag, tensor=tensor, metadata=create_summary_metadata(tag, None))

    def _add(self, values: list[Summary.Value], step: int, when: float) -> None:
        """One event."""
        self._write(Event(wall_time=when, step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        """One record, on its way to the disk, since somebody is looking."""
        self._writer.write(event.SerializeToString())
        self._file.flush()

    def metrics(self, values: Mapping[str, float], step: int, when: float) -> None:
        """Scalars."""
        self._add([Summary.Value(tag=name, simple_value=value) for name, value in values.items()], step, when)

    def file(self, path: Path) -> None:
        """A copy in the run's folder."""
        shutil.copyfile(path, self.folder / path.name)

    def close(self, finished: bool) -> None:
        """Everything is on disk; whether the run finished is a text."""
        self._add([self._text("state", "finished" if finished else "broken off")], 0, time.time())
        self._file.close()
