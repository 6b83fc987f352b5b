"""A run in TensorBoard: scalars, in an event file of the run's folder ``tensorboard``.

The file is written here, record by record, with TensorBoard's own messages. Its own writer starts a
thread, which hides a full disk and makes forking unsafe, and loads TensorFlow if that is installed.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from vggspec.base.files import refusals
from vggspec.base.optional import require

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

    from vggspec.training.progress import Epoch, Step

FOLDER = "tensorboard"


class Board:
    """Writes what TensorBoard shows, on disk as soon as it is known.

    A resumed run names the step from which it resumes: what was written about later steps before is
    no longer shown.

    Raises:
        MissingLibraryError: TensorBoard is not installed.
        VggspecError: the system refuses.
    """

    def __init__(self, run: Path, *, after_step: int = 0) -> None:
        require("tensorboard", "a record for TensorBoard")
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder = run / FOLDER
        self._path = folder / f"events.out.tfevents.{time.time():.6f}"
        with refusals(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "xb", buffering=0)  # noqa: SIM115 (see __exit__)
        self._records = RecordWriter(self._file)
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._write(Event(wall_time=time.time(), step=after_step + 1, session_log=start))

    def step(self, now: "Step") -> None:
        scalars = {"loss/train": now.loss, "rate": now.rate, "images_per_s": now.images_per_s}
        self._add(now.step, scalars)

    def epoch(self, now: "Epoch") -> None:
        scalars = {
            "loss/train_epoch": now.loss,
            "loss/validation": now.validation.loss,
            **{f"error/{kind}": error for kind, error in now.validation.errors.items()},
            **{f"score/{kind}": score for kind, score in now.validation.scores.items()},
            "rate": now.rate,
            "images_per_s": now.images_per_s,
        }
        self._add(now.step, scalars)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _add(self, step: int, scalars: dict[str, float]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _write(self, event: "Event") -> None:
        with refusals(self._path):
            self._records.write(event.SerializeToString())
