"""A run in MLflow: its settings, losses and errors, sent by MLflow's own client.

It is sent where MLflow is installed and ``MLFLOW_TRACKING_URI`` is set. MLflow's other variables
apply as everywhere: ``MLFLOW_EXPERIMENT_NAME``, ``MLFLOW_RUN_ID``, those of credentials.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vggspec.base.optional import has_library
from vggspec.base.wording import foreign
from vggspec.training.record import settings_of

if TYPE_CHECKING:
    from mlflow.entities import Metric

    from vggspec.training.progress import Epoch, Step

URI = "MLFLOW_TRACKING_URI"

#: The tag by which a resumed run finds what it has sent before.
RUN_TAG = "vggspec.run"

SEND_S = 10.0  # at least, between two messages within an epoch
MAX_PARAM = 500  # characters; MLflow refuses longer values on some servers
MOST_AT_ONCE = 1000  # metrics in a message, as MLflow allows


def is_asked_for() -> bool:
    """Whether runs are to be sent to MLflow."""
    return bool(os.environ.get(URI)) and has_library("mlflow")


class MlflowRun:
    """Sends what TensorBoard shows, too. If that fails, a note says so, and no more is sent:
    training continues.
    """

    def __init__(self, run: Path, record: Mapping[str, Any], note: Callable[[str], None]) -> None:
        self._note = note
        self._waiting: list[Metric] = []
        self._sent_at = time.monotonic()
        self._client: Any = None
        self._id = ""
        with self._reported("cannot be reached"):
            self._begin(run, record)

    def step(self, now: "Step") -> None:
        self._add(
            now.step, {"loss/train": now.loss, "rate": now.rate, "images_per_s": now.images_per_s}
        )
        if time.monotonic() - self._sent_at >= SEND_S:
            self._send()

    def epoch(self, now: "Epoch") -> None:
        self._add(
            now.step,
            {
                "loss/train_epoch": now.loss,
                "loss/validation": now.validation.loss,
                **{f"error/{kind}": error for kind, error in now.validation.errors.items()},
                **{f"score/{kind}": score for kind, score in now.validation.scores.items()},
                "rate": now.rate,
                "images_per_s": now.images_per_s,
            },
        )
        self._send()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self._send()
        if self._client is not None:
            with self._reported("is not reached any more"):
                self._client.set_terminated(self._id, "FINISHED" if kind is None else "FAILED")

    def _begin(self, run: Path, record: Mapping[str, Any]) -> None:
        client = _client()
        name = str(run.resolve())
        self._id = os.environ.get("MLFLOW_RUN_ID", "")
        if not self._id:
            experiment = _experiment(client)
            before = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{_quoted(name)}'")
            found = before[0] if before else client.create_run(experiment, run_name=str(run))
            self._id = found.info.run_id
        client.update_run(self._id, status="RUNNING")
        client.set_tag(self._id, RUN_TAG, name)
        known = client.get_run(self._id).data.params
        for key, value in settings_of(record).items():
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            if key not in known:  # a resumed run has the same; MLflow refuses others
                client.log_param(self._id, key, text[:MAX_PARAM])
        self._client = client

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        if self._client is None:
            return
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        self._waiting += [Metric(key, value, now, step) for key, value in values.items()]

    def _send(self) -> None:
        self._sent_at = time.monotonic()
        waiting, self._waiting = self._waiting, []
        with self._reported("is not reached any more"):
            for start in range(0, len(waiting), MOST_AT_ONCE):
                if self._client is not None:
                    part = waiting[start : start + MOST_AT_ONCE]
                    self._client.log_batch(self._id, metrics=part)

    @contextlib.contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        """Whatever MLflow raises becomes a note, and the end of sending."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 (a record elsewhere must not end a training)
            self._client = None
            uri = os.environ.get(URI, "")
            why = foreign(str(error) or type(error).__name__)
            self._note(f"MLflow at {uri} {what}, and this run is no longer recorded there\n  {why}")


def _client() -> Any:
    """MLflow's client. Its telemetry stays off unless the user's environment says something about
    it: its threads would be forked with the processes that decode images.
    """
    variable = "MLFLOW_DISABLE_TELEMETRY"
    is_set = variable in os.environ
    os.environ.setdefault(variable, "true")
    try:
        from mlflow import MlflowClient
    finally:
        if not is_set:
            del os.environ[variable]
    return MlflowClient()


def _experiment(client: Any) -> str:
    """The id of the experiment that MLflow's variables name, made if it does not exist."""
    given = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if given:
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found is not None else client.create_experiment(name))


def _quoted(text: str) -> str:
    """A text within quotes of MLflow's filters, which know no escapes."""
    return text.replace("'", "_")
